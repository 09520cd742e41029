# SPDX-License-Identifier: Apache-2.0
"""MathVista's testmini (Lu et al. 2024): `data/testmini-*.parquet`, or `testmini.json` with `images`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...metrics.base import Item
from .common import Place, Row, choice_item, json_objects, tables


def read(place: Place) -> Iterator[Item]:
    """Yields the published queries, hint included.

    Truth: `answer` (an option's text where there are `choices`), `question_type` (multi_choice, free_form),
    `answer_type` (text, integer, float, list), `precision`, `unit`, `task`, `skills`, `context`, `grade`.
    """
    for row in _rows(place):
        choices = row.texts("choices") if row.get("choices") else ()
        answer = row.text("answer")
        if choices and answer not in choices:
            raise row.fail("answer", f"{answer!r} is not among the choices {list(choices)}.")
        about: Any = row.get("metadata") or {}
        precision = row.get("precision")
        if row.get("decoded_image") is not None:
            image = place.keep(row, row.get("decoded_image"), "decoded_image")
        else:
            image = place.picture(row, row.text("image"), "", "images")
        item = choice_item(
            row.text("pid", default=str(row.number)),
            row.text("question"),
            [image],
            choices,
            answer=answer,
            question_type=row.text("question_type"),
            answer_type=row.text("answer_type"),
            precision=None if precision in (None, "") else int(precision),
            unit=row.text("unit", default=""),
            task=str(about.get("task", "")),
            skills=[str(skill) for skill in about.get("skills") or ()],
            context=str(about.get("context", "")),
            grade=str(about.get("grade", "")),
        )
        yield Item(item.id, row.text("query", default=item.prompt), item.images, item.truth)


def _rows(place: Place) -> Iterator[Row]:
    if any(place.has(name) for name in ("data/testmini-*.parquet", "testmini-*.parquet")):
        return tables(place, "data/testmini-*.parquet", "testmini-*.parquet")
    return json_objects(place.find("testmini.json", "data/testmini.json", "data/testmini-*.parquet"))
