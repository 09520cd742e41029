# SPDX-License-Identifier: Apache-2.0
"""CLEVR-Math (Lindström and Abraham 2022): `clevr-math-<split>.json`, and the pictures of CLEVR.

The official file is an object with a list `questions` of `question`, `answer`, `image_filename`; R3V's is a list of
`filename`, `question`, `answer`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..questions import Question
from .layout import Fail, Layout, Options, RowError, each, rows_of, text_of


SPLITS = ("train", "val", "test")


def names(split: str) -> tuple[str, ...]:
    """Files with rows."""
    files = (f"clevr-math-{split}.json", f"clevr_{split}.json", f"{split}.json", f"{split}.jsonl")
    return tuple(f"{folder}{file}" for folder in ("", "clevr-math/", "data/clevr-math/") for file in files)


def read(layout: Layout, split: str, options: Options) -> Iterator[Question | RowError]:
    """Yields the questions of a split; rows have no ids of their own, so they are numbered."""
    file = layout.find(names(split))
    folders = tuple(
        f"{root}images{end}" for root in ("", "CLEVR_v1.0/", "data/CLEVR_v1.0/") for end in (f"/{split}", "")
    )

    def build(number: int | str, row: Any, fail: Fail) -> Question:
        name = "filename" if "filename" in row else "image_filename"
        image = layout.picture(text_of(row, name, fail), folders, fail)
        answer = text_of(row, "answer", fail)
        if not answer.lstrip("-").isdecimal():
            raise fail("answer", f"a whole number is expected, found {answer!r}.", "no number")
        return Question(f"{split}-{number}", text_of(row, "question", fail), answer, (image,))

    return each(file, rows_of(file, key="questions"), build)
