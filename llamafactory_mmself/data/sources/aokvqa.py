# SPDX-License-Identifier: Apache-2.0
"""A-OKVQA (Schwenk et al. 2022): `aokvqa_v1p0_<split>.json`, with COCO's pictures of 2017.

The official test split has no answers, so the validation questions serve as the test, and `dev` is a fixed twentieth
of the training questions: what checkpoints are chosen by must not be what is reported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from ..questions import Question
from .layout import Fail, Layout, Options, RowError, each, options_of, place_of, rows_of, text_of


SPLITS = ("train", "dev", "val")
FOLDERS = ("train2017", "val2017", "images", "coco/train2017", "coco/val2017")
DEV_SHARE = 20


def read(layout: Layout, split: str, options: Options) -> Iterator[Question | RowError]:
    """Yields the questions of a split; `train` leaves those of `dev` out."""
    official = "train" if split == "dev" else split
    file = layout.find([f"{root}aokvqa_v1p0_{official}.json" for root in ("", "*/")])

    def build(_: int | str, row: Any, fail: Fail) -> Question | None:
        name = text_of(row, "question_id", fail)
        if official == "train" and _is_dev(name) != (split == "dev"):
            return None
        return _row(layout, name, row, fail)

    return each(file, rows_of(file), build)


def _is_dev(name: str) -> bool:
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % DEV_SHARE == 0


def _row(layout: Layout, name: str, row: Mapping[str, Any], fail: Fail) -> Question:
    choices = options_of(row, fail)
    answer = place_of(row, "correct_choice_idx", choices, fail)
    number = row.get("image_id")
    if not isinstance(number, int):
        raise fail("image_id", f"a number is expected, found {number!r}.", "no picture")
    image = layout.picture(f"{number:012d}.jpg", FOLDERS, fail)
    rationales = [str(text) for text in row.get("rationales") or ()]
    extra: dict[str, Any] = {"rationales": rationales, "solution": " ".join(rationales)} if rationales else {}
    extra |= {field: row[field] for field in ("direct_answers", "difficult_direct_answer") if row.get(field)}
    return Question(name, text_of(row, "question", fail), answer, (image,), choices, extra)
