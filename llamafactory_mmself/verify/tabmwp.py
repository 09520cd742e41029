# SPDX-License-Identifier: Apache-2.0
"""TabMWP: numbers with their unit, and options."""

from __future__ import annotations

import re

from . import letters, numbers
from .text import corrected, final_segment, first_line, plain
from .types import Found, Response


UNIT = re.compile(r"\(\s*Unit\s*:\s*(.+?)\s*\)\s*(?:$|\n)", re.IGNORECASE | re.MULTILINE)
WORKED_OUT = re.compile(r"=\s*|\btable shows that ", re.IGNORECASE)
CLOCK = re.compile(r"\b(\d{1,2}):(\d{2})(?:\s*([AP])\.?\s?M\b\.?)?", re.IGNORECASE)


def unit_of(question: str) -> str:
    """The unit that a question names as `(Unit: g)`, or ""."""
    match = UNIT.search(question)
    return match.group(1) if match else ""


def normalize(text: str, unit: str | None = None) -> str:
    """The normal form of an answer: numbers as decimals of at most three places, without currency, percent or unit.

    Times become `7:25 PM`; other texts lose outer blanks and the final period. A division by zero stays as it is.
    """
    text = plain(text).strip()
    clock = CLOCK.fullmatch(text)
    if clock:
        return f"{int(clock[1])}:{clock[2]}" + (f" {clock[3].upper()}M" if clock[3] else "")
    bare = _without_unit(re.sub(r"[.,/]$", "", text), unit)
    number = numbers.parse(bare)
    return bare.strip() if number is None else numbers.text_of(number)


def extract(response: Response) -> Found:
    """Finds a letter when there are options, else a normalised answer."""
    if response.choices:
        return letters.extract(response)
    text = plain(response.text).strip()
    if not text:
        return Found(None, "empty")
    unit = unit_of(response.question)
    segment, marked = final_segment(text)
    if marked:
        return Found(None, letters.EMPTY) if segment is None else _announced(segment, unit)
    if "\n" not in text and (number := numbers.parse(_without_unit(text.rstrip("."), unit))) is not None:
        return Found(numbers.text_of(number), "number")
    clocks = CLOCK.findall(text)
    if clocks:
        return Found(normalize([match.group() for match in CLOCK.finditer(text)][-1]), "last time")
    shown = [numbers.leading(text[match.end() :]) for match in WORKED_OUT.finditer(text)]
    last = next((lead[0] for lead in reversed(shown) if lead and not numbers.CONTINUED.match(lead[1])), None)
    if last is not None:
        return Found(numbers.text_of(last), "last result")
    found = numbers.numbers(text)
    return Found(numbers.text_of(found[-1]), "last number") if found else Found(None, "no answer")


def matches(answer: str, truth: str, response: Response) -> bool:
    """Equal letters, or equal normal forms whatever their case."""
    if response.choices:
        return letters.same_option(answer, truth, response)
    return answer.casefold() == normalize(truth, unit_of(response.question)).casefold()


def _announced(segment: str, unit: str) -> Found:
    line = first_line(corrected(segment))
    if not line:
        return Found(None, letters.EMPTY)
    clock = CLOCK.search(line)
    if clock:
        return Found(normalize(clock.group()), "time")
    bare = _without_unit(line.rstrip("."), unit)
    lead = numbers.leading(bare)
    if lead is not None and lead[0] is None:
        return Found(None, "division by zero")
    if re.search(r"\d", bare):
        number = numbers.result(bare)
        return Found(None, "several numbers") if number is None else Found(numbers.text_of(number), "number")
    return Found(normalize(line, unit), "text")


def _without_unit(text: str, unit: str | None) -> str:
    if not unit:
        return text
    forms = {unit, unit.rstrip("s"), f"{unit}s", f"{unit}es", re.sub(r"y$", "ies", unit), re.sub(r"ies$", "y", unit)}
    forms |= {re.sub(r"es$", "", unit)} if len(unit) > 3 else set()
    for form in sorted(forms, key=len, reverse=True):
        if form:
            text = re.sub(rf"(?<![A-Za-z])\s*{re.escape(form)}(?![A-Za-z])", "", text, flags=re.IGNORECASE)
    return text.strip()
