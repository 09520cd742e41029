# SPDX-License-Identifier: Apache-2.0
"""GeoQA as R3V publishes it: `train.jsonl` and `test.jsonl` (JSON lists, in fact) and a folder `images`.

Rows have `id`, `question`, `choices`, `answer` (a letter) and `image`. Where a split's file is missing, R3V's prompt
file `geoqa_<split>_base.json` does: its ids are the names of the pictures, so gaps in the numbering shift nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from ..questions import IMAGE, Question
from .layout import Fail, Layout, Options, RowError, each, letter_of, options_of, rows_of, text_of


SPLITS = ("train", "test")
FOLDERS = ("images",)
OPTION = re.compile(r"^\(([A-Z])\)[ \t]*(.*)$", re.MULTILINE)


def names(split: str) -> tuple[str, ...]:
    """Files with rows."""
    return (f"{split}.jsonl", f"{split}.json")


def prompts(split: str) -> tuple[str, ...]:
    """Files with prompts."""
    return tuple(f"{folder}geoqa_{split}_base.json" for folder in ("", "data/", "LLaMA-Factory/data/"))


def read(layout: Layout, split: str, options: Options) -> Iterator[Question | RowError]:
    """Yields the questions of a split."""
    file = layout.find((*names(split), *prompts(split)))
    build = _prompt if file.name.startswith("geoqa_") else _row
    return each(file, rows_of(file), lambda _, row, fail: build(layout, row, fail))


def _row(layout: Layout, row: Mapping[str, Any], fail: Fail) -> Question:
    choices = options_of(row, fail)
    return Question(
        text_of(row, "id", fail),
        text_of(row, "question", fail),
        letter_of(text_of(row, "answer", fail), choices, "answer", fail),
        (layout.picture(text_of(row, "image", fail), FOLDERS, fail),),
        choices,
    )


def _prompt(layout: Layout, row: Mapping[str, Any], fail: Fail) -> Question:
    turns, images = row.get("messages"), row.get("images")
    if not isinstance(turns, list) or len(turns) < 2 or not all(isinstance(turn, dict) for turn in turns):
        raise fail("messages", "a question and an answer are expected.", "no messages")
    if not isinstance(images, list) or len(images) != 1:
        raise fail("images", f"one picture is expected, found {images!r}.", "no picture")
    prompt = str(turns[0].get("content", "")).replace(IMAGE, "").strip()
    text, marker, block = prompt.partition("\nChoices:\n")
    choices = tuple(match.group(2).strip() for match in OPTION.finditer(block))
    if not marker or len(choices) < 2:
        raise fail("messages", "the question has no block of choices.", "no options")
    key = str(turns[1].get("content", "")).replace("Answer:", "")
    image = str(images[0])
    return Question(
        PurePosixPath(image.replace("\\", "/")).stem,
        text.strip(),
        letter_of(key, choices, "messages", fail),
        (layout.picture(image, FOLDERS, fail),),
        choices,
    )
