# SPDX-License-Identifier: Apache-2.0
"""Free answers: numbers, and mathematical expressions by way of math-verify."""

from __future__ import annotations

import re
import threading

from . import numbers
from .letters import EMPTY
from .text import BOXED, corrected, final_segment, first_line, plain
from .types import Found, Response


LONGEST = 300  # characters of an expression that is handed to the algebra system
SECONDS = 5
# Towers of powers, long exponents and factorials can keep an algebra system busy for ever.
COSTLY = re.compile(r"!|(?:\^|\*\*)\s*\{?\(?\s*-?\d{4,}|(?:\^|\*\*)[^+\-=]*(?:\^|\*\*)|\d{40,}")
VARIABLE = re.compile(r"^\s*[a-zA-Z]\w*(?:\([a-z]\))?\s*=\s*")


def extract_number(response: Response) -> Found:
    """Finds the announced number, or the only one that the text ends in."""
    text = plain(response.text).strip()
    if not text:
        return Found(None, "empty")
    segment, marked = final_segment(text)
    if marked and segment is None:
        return Found(None, EMPTY)
    line = first_line(corrected(segment)) if segment is not None else text.split("\n")[-1]
    number = numbers.result(line)
    if number is None:
        return Found(None, "no single number")
    return Found(numbers.text_of(number, digits=12), "marker" if marked else "result")


def same_number(answer: str, truth: str, response: Response) -> bool:
    """Equal as numbers, whatever the spelling: `1,200`, `2.50`, `5/2`, `50%` for 50."""
    first, second = numbers.parse(answer), numbers.parse(plain(truth).strip())
    return first is not None and second is not None and numbers.same(first, second)


def extract_expression(response: Response) -> Found:
    """Finds the announced expression (marker or box); a text without either must be one line."""
    text = response.text.strip()
    if not text:
        return Found(None, "empty")
    boxes = BOXED.findall(text)
    if boxes and boxes[-1].strip():
        return Found(boxes[-1].strip(), "box")
    segment, marked = final_segment(text)
    if marked:
        line = first_line(corrected(segment or "")).rstrip(".").strip()
        return Found(line, "marker") if line else Found(None, EMPTY)
    return Found(text.rstrip("."), "whole text") if "\n" not in text else Found(None, "no answer")


def same_expression(answer: str, truth: str, response: Response) -> bool:
    """Equal by text, by value, or by algebra; what math-verify cannot read or finish in time is not equal."""
    first, second = (VARIABLE.sub("", plain(text).strip().strip("$").strip()) for text in (answer, truth))
    if re.sub(r"\s+", "", first) == re.sub(r"\s+", "", second):
        return True
    values = numbers.parse(first), numbers.parse(second)
    if values[0] is not None and values[1] is not None:
        return numbers.same(values[0], values[1])
    if any(len(text) > LONGEST or COSTLY.search(text) for text in (answer, truth)):
        return False
    return _algebra(answer, truth)


def _algebra(answer: str, truth: str) -> bool:
    from math_verify import parse, verify

    # Its time-outs are alarms, which work in the main thread only.
    seconds = SECONDS if threading.current_thread() is threading.main_thread() else None
    try:
        gold, found = (parse(_math(text), parsing_timeout=seconds) for text in (truth, answer))
        return bool(gold and found) and bool(verify(gold, found, timeout_seconds=seconds))
    except Exception:  # whatever an algebra system raises on a model's text, the answer is not shown to be equal
        return False


def _math(text: str) -> str:
    text = VARIABLE.sub("", text.strip().strip("$").strip())
    return f"${text}$"
