# SPDX-License-Identifier: Apache-2.0
"""TabMWP (Lu et al. 2023): `problems_<split>.json`, objects by id, and a folder `tables` of pictures `<id>.png`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import ascii_uppercase
from typing import Any

from ..questions import Question
from .layout import Fail, Layout, Options, RowError, each, options_of, table_of, text_of


SPLITS = ("train", "dev", "test", "dev1k", "test1k")
FOLDERS = ("tables", "images", "data/tabmwp/tables")
KEPT = ("unit", "ques_type", "ans_type", "grade")


def names(split: str) -> tuple[str, ...]:
    """Files with rows."""
    return (f"problems_{split}.json", f"data/tabmwp/problems_{split}.json")


def read(layout: Layout, split: str, options: Options) -> Iterator[Question | RowError]:
    """Yields the questions of a split; a question with options gets the letter of its answer."""
    file = layout.find(names(split))
    return each(file, table_of(file).items(), lambda name, row, fail: _row(layout, str(name), row, fail))


def _row(layout: Layout, name: str, row: Any, fail: Fail) -> Question:
    if not isinstance(row, Mapping):
        raise fail("", f"a JSON object is expected, found {type(row).__name__}.", "no object")
    answer = text_of(row, "answer", fail)
    choices = None
    if row.get("choices"):
        choices = options_of(row, fail)
        if answer not in choices:
            raise fail("answer", f"{answer!r} is not among the options {list(choices)}.", "key not among the options")
        answer = ascii_uppercase[choices.index(answer)]
    image = layout.picture(f"{name}.png", FOLDERS, fail)
    extra = {field: row[field] for field in KEPT if row.get(field) is not None}
    return Question(name, text_of(row, "question", fail), answer, (image,), choices, extra)
