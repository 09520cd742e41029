# SPDX-License-Identifier: Apache-2.0
"""ScienceQA (Lu et al. 2022): `problems.json`, objects by id, and `pid_splits.json`; half of the rows have a picture.

Pictures are `<id>/image.png`, in the folder itself, in `images`, or in a split's folder below one of these. Captions,
`captions.json` with `{"captions": {id: text}}` or a flat object, become part of the context.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..questions import Question
from .layout import (
    Fail,
    Layout,
    MissingFile,
    Options,
    RowError,
    SourceError,
    each,
    options_of,
    place_of,
    table_of,
    text_of,
)


SPLITS = ("train", "val", "test", "trainval", "minitrain", "minival", "minitest")
ROOTS = ("", "data/scienceqa/", "data/")
FOLDERS = tuple(
    f"{root}{split}" for root in ("images/", "", "data/scienceqa/images/") for split in ("", "train", "val", "test")
)
KEPT = ("hint", "lecture", "solution", "subject", "grade", "topic", "category", "skill", "task")


def read(layout: Layout, split: str, options: Options) -> Iterator[Question | RowError]:
    """Yields the questions of a split, in the order of pid_splits.json."""
    file = layout.find([f"{root}problems.json" for root in ROOTS])
    splits = layout.find([f"{root}pid_splits.json" for root in ROOTS])
    problems, ids = table_of(file), table_of(splits).get(split)
    if not isinstance(ids, list):
        raise SourceError(f"{splits} has no list `{split}`.")
    captions = _captions(layout)

    def build(name: int | str, row: Any, fail: Fail) -> Question:
        return _row(layout, str(name), row, captions, fail)

    return each(file, ((str(name), problems.get(str(name))) for name in ids), build)


def _row(layout: Layout, name: str, row: Any, captions: Mapping[str, Any], fail: Fail) -> Question:
    if not isinstance(row, Mapping):
        raise fail("", "pid_splits.json names this id, and there is no such object.", "no object")
    choices = options_of(row, fail)
    answer = place_of(row, "answer", choices, fail)
    images: tuple[str, ...] = ()
    if row.get("image"):
        images = (layout.picture(f"{name}/{row['image']}", FOLDERS, fail),)
    extra = {field: row[field] for field in KEPT if row.get(field)}
    if caption := str(captions.get(name) or "").strip():
        extra["caption"] = caption
    return Question(name, text_of(row, "question", fail), answer, images, choices, extra)


def _captions(layout: Layout) -> Mapping[str, Any]:
    try:
        table = table_of(layout.find([f"{root}captions.json" for root in ROOTS]))
    except MissingFile:
        return {}
    inner = table.get("captions")
    return inner if isinstance(inner, dict) else table
