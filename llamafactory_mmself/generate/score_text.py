# SPDX-License-Identifier: Apache-2.0
"""Reading the scores and descriptions that chat models write; a value that is not clear is none."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from .services import HIGHEST, LOWEST


Quirks = Literal["fixed", "published"]

_PUBLISHED_LABEL = re.compile(r"score[:：]\s*\[?([0-9]+)", re.IGNORECASE)
_PUBLISHED_START = re.compile(r"[0-9]+")

_MARKS = r"[\s*_`\[\]()\"']*"
_NUMBER = r"(?P<number>[-+]?\d+(?:\.\d+)?)(?:\s*/\s*(?P<of>\d+(?:\.\d+)?))?(?![\d%/]|\.\d)"
_LABELLED = re.compile(rf"\bscore{_MARKS}[:：=]{_MARKS}{_NUMBER}", re.IGNORECASE)
_LABEL = re.compile(rf"\bscore{_MARKS}[:：=]", re.IGNORECASE)
_START = re.compile(rf"\s*{_NUMBER}(?: out of 10)?\s*(?:[.,;:)\u2013\u2014-].*)?$", re.MULTILINE)
_HEADING = re.compile(rf"^{_MARKS}(?:image |picture )?description{_MARKS}[:：]{_MARKS}", re.IGNORECASE)
_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)
_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)


def parse_score(text: str, *, quirks: Quirks = "fixed") -> float | None:
    """The score in a judge's answer.

    It is read from a JSON object with `score`, from the one value after "Score:", or from a number that the answer
    begins with; `8/10` is 8. Anything else, labels with different values, and values that are no score are None.

    Args:
        text: what the judge wrote.
        quirks: `published` reads as the published code does: whole numbers, the first labelled one before one at the
            start, whatever follows, and without an upper limit.

    Returns:
        a score from `LOWEST` to `HIGHEST`, or None.
    """
    if quirks == "published":
        found = _PUBLISHED_LABEL.search(text) or _PUBLISHED_START.match(text)
        return None if found is None else float(found[found.lastindex or 0])
    text = _THOUGHTS.sub("", text)
    value = json_value(text, "score")
    if value is not None:
        return _valid(value)
    if _LABEL.search(text):
        labelled = {_ratio(match) for match in _LABELLED.finditer(text)}
        return _valid(labelled.pop()) if len(labelled) == 1 else None
    start = _START.match(text)
    return None if start is None else _valid(_ratio(start))


def parse_description(text: str, *, cut: bool = False) -> str | None:
    """The description of a picture in an answer: its JSON field `description`, or all of it.

    Args:
        text: what the describer wrote.
        cut: whether the answer ends at its limit of tokens; the sentence that was begun last is then left out.

    Returns:
        the text on one line, or None for an answer without words.
    """
    text = _THOUGHTS.sub("", text)
    value = json_value(text, "description")
    if value is not None and not isinstance(value, str):
        return None
    if value is None and cut:
        text = text[: max(text.rfind(mark) for mark in ".!?") + 1]
    found = " ".join((text if value is None else value).split())
    found = _HEADING.sub("", found)
    return found if any(letter.isalnum() for letter in found) else None


def json_value(text: str, field: str) -> Any | None:
    """A field of the JSON object that a text is, fenced or not; None for other texts and without the field."""
    fenced = _FENCE.search(text)
    for candidate in (text, fenced[1] if fenced else ""):
        try:
            value = json.loads(candidate.strip())
        except ValueError:
            continue
        if isinstance(value, dict):
            return value.get(field)
    return None


def _ratio(match: re.Match[str]) -> float | None:
    """The number of a match, unless it is out of something else than the highest score."""
    if match["of"] is not None and float(match["of"]) != HIGHEST:
        return None
    return float(match["number"])


def _valid(value: Any) -> float | None:
    if isinstance(value, str) and re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if LOWEST <= value <= HIGHEST else None
