# SPDX-License-Identifier: Apache-2.0
"""ChartQA's relaxed accuracy: numbers within 5 %, everything else by its text (Masry et al. 2022)."""

from __future__ import annotations

import re
from fractions import Fraction

from . import numbers
from .letters import EMPTY
from .text import corrected, final_segment, first_line, plain
from .types import Found, Response


TOLERANCE = Fraction(5, 100)
YEARS = range(1800, 2101)
LONGEST_BARE = 80  # characters of an answer without a marker
EXPLAINED = re.compile(r"\s*(?:,?\s*\b(?:because|since|as|so|which)\b|\s\(|;|\.\s).*$", re.IGNORECASE | re.DOTALL)
LISTED = re.compile(r"\s*(?:,|/|-|:|&|and\b|or\b|to\b)\s*\S", re.IGNORECASE)


def extract(response: Response) -> Found:
    """Takes the first line after the last marker; a text without a marker must be one short line."""
    text = plain(response.text).strip()
    if not text:
        return Found(None, "empty")
    segment, marked = final_segment(text)
    if marked:
        answer = _bare(first_line(corrected(segment or "")))
        return Found(answer, "marker") if answer else Found(None, EMPTY)
    if "\n" in text or len(text) > LONGEST_BARE:
        return Found(None, "no answer")
    return Found(_bare(text), "whole text")


def matches(answer: str, truth: str, response: Response) -> bool:
    """Relaxed accuracy: |answer - truth| <= 0.05 |truth| for numbers, years exactly; texts whatever their case.

    Percent signs, currencies and thousands separators do not count; `0.45` is `45%`.
    """
    gold = plain(truth).strip()
    if answer.casefold() in {gold.casefold(), _bare(gold).casefold()}:
        return True
    goal, number = numbers.parse(gold), _number(answer)
    if goal is None or number is None:
        return _shortened(answer).casefold() == gold.casefold()
    if goal.denominator == 1 and int(goal) in YEARS and re.fullmatch(r"\d{4}", gold):
        return number == goal
    scale = [Fraction(1)]
    if ("%" in answer) != ("%" in gold):
        scale.append(Fraction(100) if "%" in gold else Fraction(1, 100))
    return any(abs(number * factor - goal) <= TOLERANCE * abs(goal) for factor in scale)


def _number(answer: str) -> Fraction | None:
    lead = numbers.leading(answer)
    if lead is None or lead[0] is None or LISTED.match(lead[1]):
        return None
    return numbers.result(answer)


def _shortened(answer: str) -> str:
    return _bare(EXPLAINED.sub("", answer))


def _bare(text: str) -> str:
    text = text.strip().strip("\"'").strip()
    return text if re.search(r"\.\w+\.$", text) else text.rstrip(".")
