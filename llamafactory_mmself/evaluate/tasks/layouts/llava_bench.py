# SPDX-License-Identifier: Apache-2.0
"""LLaVA-Bench in the wild (Liu et al. 2023): `questions.jsonl`, `context.jsonl`, `answers_gpt4.jsonl`, `images`."""

from __future__ import annotations

from collections.abc import Iterator

from ...metrics.base import Item
from .common import Place, free_item, json_rows


def read(place: Place) -> Iterator[Item]:
    """Yields the questions. Truth: `context` (a description of the picture), `reference` (GPT-4's), `category`."""
    context = {row.text("image"): row.text("caption") for row in json_rows(place.find("context.jsonl"))}
    answers = {row.text("question_id"): row.text("text") for row in json_rows(place.find("answers_gpt4.jsonl"))}
    for row in json_rows(place.find("questions.jsonl")):
        id, image = row.text("question_id"), row.text("image")
        if id not in answers:
            raise row.fail("question_id", f"{id} has no row in answers_gpt4.jsonl; take all files of one release.")
        if image not in context:
            raise row.fail("image", f"{image} has no row in context.jsonl; take all files of one release.")
        yield free_item(
            id,
            row.text("text"),
            [place.picture(row, image, "images", "")],
            context=context[image],
            reference=answers[id],
            category=row.text("category"),
        )
