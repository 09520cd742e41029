# SPDX-License-Identifier: Apache-2.0
"""LLaVA-CoT-100k (Xu et al., arXiv 2411.10440): `train.jsonl`, and the pictures that its archive unpacks to.

Rows have `id`, `image` and `conversations`; responses are in the sections SUMMARY, CAPTION, REASONING, CONCLUSION. A
row's first question and its response are read, because later turns lean on earlier ones; how many turns there are is
kept in `turns`. The answer is what CONCLUSION says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..questions import IMAGE, Question
from ..tagged import read_tagged
from .layout import Fail, Layout, Options, RowError, each, rows_of, text_of


SPLITS = ("train",)
FOLDERS = ("images", "image", "image_files", "data")
SPEAKERS = {"human": "human", "user": "human", "gpt": "gpt", "assistant": "gpt"}


def names(split: str) -> tuple[str, ...]:
    """Files with rows."""
    return (f"{split}.jsonl", f"{split}.json")


def read(layout: Layout, split: str, options: Options) -> Iterator[Question | RowError]:
    """Yields the annotated questions of a split; the field `response` holds the whole response."""
    file = layout.find(names(split))

    def build(number: int | str, row: Any, fail: Fail) -> Question:
        turns = _turns(row, fail)
        text = turns[0][1].replace(IMAGE, "").strip()
        response = turns[1][1].strip()
        tagged = read_tagged(response)
        if not text:
            raise fail("conversations", "the question is empty.", "no question")
        if tagged.problem is not None:
            raise fail("conversations", f"the response is not whole: {tagged.problem}.", tagged.problem)
        image = layout.picture(text_of(row, "image", fail), FOLDERS, fail)
        extra = {"response": response, "turns": len(turns) // 2}
        return Question(text_of(row, "id", fail), text, tagged.inside("CONCLUSION"), (image,), extra=extra)

    return each(file, rows_of(file), build)


def _turns(row: Mapping[str, Any], fail: Fail) -> list[tuple[str, str]]:
    turns = row.get("conversations")
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        raise fail("conversations", f"a list of turns is expected, found {turns!r}.", "no conversation")
    found = [
        (SPEAKERS.get(str(turn.get("from", turn.get("role")))), turn.get("value", turn.get("content")))
        for turn in turns
    ]
    if [speaker for speaker, _ in found[:2]] != ["human", "gpt"] or not all(
        isinstance(text, str) for _, text in found
    ):
        raise fail("conversations", "a question and its response are expected first.", "no question and response")
    return [(str(speaker), str(text)) for speaker, text in found]
