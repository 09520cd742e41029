# SPDX-License-Identifier: Apache-2.0
"""ChartQA (Masry et al. 2022): `<split>/<split>_human.json`, rows of `imgname`, `query`, `label`, and `<split>/png`.

R3V uses the human questions only; `augmented` adds the machine-written ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..questions import Question
from .layout import Fail, Layout, Options, RowError, each, rows_of, text_of


SPLITS = ("train", "val", "test")


def names(split: str, part: str = "human") -> tuple[str, ...]:
    """Files with rows of one part."""
    files = [f"{split}/{split}_{part}.json", f"{split}_{part}.json"]
    files += [f"chartqa_{split}.json"] if part == "human" else []
    return tuple(f"{folder}{file}" for folder in ("", "ChartQA Dataset/") for file in files)


def read(layout: Layout, split: str, options: Options) -> Iterator[Question | RowError]:
    """Yields the questions of a split; rows have no ids of their own, so they are numbered."""
    parts = ("human", "augmented") if options.augmented else ("human",)
    files = [(part, layout.find(names(split, part))) for part in parts]
    return itertools.chain.from_iterable(_part(layout, split, part, file) for part, file in files)


def _part(layout: Layout, split: str, part: str, file: Path) -> Iterator[Question | RowError]:
    folders = (f"{split}/png", f"ChartQA Dataset/{split}/png", "png", "images")

    def build(number: int | str, row: Any, fail: Fail) -> Question:
        image = layout.picture(text_of(row, "imgname", fail), folders, fail)
        texts = (text_of(row, "query", fail), text_of(row, "label", fail))
        return Question(f"{split}-{part}-{number}", *texts, (image,), extra={"part": part})

    return each(file, rows_of(file), build)
