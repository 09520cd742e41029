# SPDX-License-Identifier: Apache-2.0
"""RealWorldQA (xAI 2024): `data/test-*.parquet`, or `annotations.json` beside its pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...metrics.base import Item
from .common import Place, choice_item, free_item, tables


OPTION = re.compile(r"^([A-H])\.\s+(.*)$", re.MULTILINE)


def read(place: Place) -> Iterator[Item]:
    """Yields the questions as published, instruction included. Truth: `answer`, `choices` where there are any."""
    for row in tables(place, "data/test-*.parquet", "test-*.parquet", "annotations.json", "RealWorldQA.tsv"):
        id, text = row.text("index", default=str(row.number)), row.text("question")
        image = row.get("image")
        if isinstance(image, str) and row.file.suffix == ".json":
            path = place.picture(row, image, "", "images")
        else:
            path = place.keep(row, image)
        answer = row.text("answer").strip().rstrip(".")
        if row.file.suffix == ".tsv" and row.text("A", default=""):
            choices = row.columns()
            yield choice_item(id, text, [path], choices, answer=row.letter("answer", choices))
            continue
        found = OPTION.findall(text)
        letters = [letter for letter, _ in found]
        item = free_item(id, text, [path], answer=answer)
        if len(found) > 1 and letters == list("ABCDEFGH"[: len(found)]):
            item = Item(id, text, item.images, {**item.truth, "choices": [option.strip() for _, option in found]})
        yield item
