# SPDX-License-Identifier: Apache-2.0
"""CLEVR-Math: whole numbers."""

from __future__ import annotations

from . import numbers
from .letters import EMPTY
from .text import corrected, final_segment, first_line, plain
from .types import Found, Response


def extract(response: Response) -> Found:
    """Finds the number after the last marker; a text without a marker must be a number and nothing else."""
    text = plain(response.text).strip()
    if not text:
        return Found(None, "empty")
    segment, marked = final_segment(text)
    if not marked:
        number = numbers.parse(text.rstrip("."))
        return Found(None, "no answer") if number is None else Found(numbers.text_of(number), "number")
    if segment is None:
        return Found(None, EMPTY)
    number = numbers.result(first_line(corrected(segment)))
    return Found(None, "no single number") if number is None else Found(numbers.text_of(number), "marker")


def matches(answer: str, truth: str, response: Response) -> bool:
    """Equal as numbers: `03` and `3.0` are 3, `3.5` is not."""
    first, second = numbers.parse(answer), numbers.parse(plain(truth).strip())
    return first is not None and second is not None and first == second
