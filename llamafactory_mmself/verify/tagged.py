# SPDX-License-Identifier: Apache-2.0
"""Responses in tagged sections: the answer is what the section CONCLUSION says; without a closed one there is none."""

from __future__ import annotations

import re

from . import letters, numbers
from .sections import parse_tags
from .text import plain
from .types import Found, Response


_OPTION = re.compile(r"[(\[]?([A-Z])(?:[)\]](?!\w)|[.:](?=\s|$)|$)")


def extract(response: Response) -> Found:
    """Finds the answer in a closed CONCLUSION: an option's letter, a number, or the words."""
    conclusion = parse_tags(response.text).get("CONCLUSION")
    if not conclusion:
        return Found(None, "no conclusion")
    if response.choices:
        return letters.read_option(plain(conclusion), response.choices)
    return Found(_normal(conclusion), "conclusion")


def matches(answer: str, truth: str, response: Response) -> bool:
    """The same option, number or words."""
    if response.choices:
        return letters.same_option(answer, truth, response)
    return answer == _normal(truth)


def _normal(text: str) -> str:
    text = plain(text).strip()
    if option := _OPTION.match(text):
        return option[1]
    number = numbers.parse(text.rstrip("."))
    if number is not None:
        return numbers.text_of(number, digits=12)
    return " ".join(text.rstrip(".").casefold().split())
