# SPDX-License-Identifier: Apache-2.0
"""The toy world's answers: a letter, a number or a word after "Answer:", in a CONCLUSION, or alone."""

from __future__ import annotations

from . import letters
from .sections import parse_sections, parse_tags
from .text import corrected, final_segment, first_line, plain
from .types import Found, Response


LONGEST_BARE = 40  # characters of an answer without a marker


def extract(response: Response) -> Found:
    """Finds a letter when there are options, else the announced word or number in lower case."""
    text = response.text
    conclusion = parse_tags(text).get("CONCLUSION") or parse_sections(text, ("CONCLUSION",)).get("CONCLUSION")
    if response.choices:
        if conclusion:
            segment, _ = final_segment(plain(conclusion))
            return letters.read_option(segment or conclusion, response.choices)
        return letters.extract(response)
    text = plain(conclusion or text).strip()
    segment, marked = final_segment(text)
    if marked or conclusion:
        word = _word(first_line(corrected(segment if segment is not None else "" if marked else text)))
        return Found(word, "marker") if word else Found(None, letters.EMPTY)
    if not text:
        return Found(None, "empty")
    return (
        Found(_word(text), "whole text")
        if len(text) <= LONGEST_BARE and "\n" not in text
        else Found(None, letters.NONE)
    )


def matches(answer: str, truth: str, response: Response) -> bool:
    """The same letter, or the same words whatever their case."""
    if response.choices:
        return letters.same_option(answer, truth, response)
    return answer == _word(truth)


def _word(text: str) -> str:
    return " ".join(text.strip().rstrip(".").casefold().split()).removeprefix("a ").removeprefix("an ")
