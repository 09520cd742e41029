# SPDX-License-Identifier: Apache-2.0
"""Numbers in texts, as exact fractions."""

from __future__ import annotations

import re
from fractions import Fraction


DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
# A mixed number, a fraction, or a decimal; a sign and a currency in front, a percent sign behind.
NUMBER = re.compile(
    rf"(?P<sign>[-+]?)[$£€]?(?P<sign2>-?)"
    rf"(?:(?P<whole>\d+)[ ]+(?:and[ ]+)?(?P<over>\d+)/(?P<under>\d+)"
    rf"|(?P<top>{DIGITS})(?:\s?/\s?(?P<bottom>{DIGITS}))?)"
    r"(?P<percent>\s?%)?"
)
INSIDE = re.compile(rf"(?<![\w./]){NUMBER.pattern}(?![/\d])")
RESULT = re.compile(r"(?:=|≈|\b(?:is|are|was|were|be|equals?|gives?|get|makes?|leaves?|about|to)\b)\s*", re.IGNORECASE)
OPERATOR = re.compile(r"\s*[-+*/×÷·=^]")
# What follows a number that is not an answer by itself: a calculation, or a second number.
CONTINUED = re.compile(
    r"\s*(?:[-+*/×÷·=^:]\s*\(?[\d$.√(]|[-+*/×÷·=^]|(?:,|;|&|and\b|or\b|to\b|out of\b)\s*(?:or\s+)?[-$(]*\d)",
    re.IGNORECASE,
)
MAX_DIGITS = 200


def value(match: re.Match[str]) -> Fraction | None:
    """The number that `NUMBER` matched, without regard to its percent sign; None for a division by zero."""
    if len(match.group()) > MAX_DIGITS:
        return None
    if match["whole"]:
        under = int(match["under"])
        if not under:
            return None
        number = int(match["whole"]) + Fraction(int(match["over"]), under)
    else:
        number = Fraction(match["top"].replace(",", ""))
        if match["bottom"]:
            bottom = Fraction(match["bottom"].replace(",", ""))
            if not bottom:
                return None
            number /= bottom
    return -number if "-" in (match["sign"], match["sign2"]) else number


def parse(text: str) -> Fraction | None:
    """The number that a text is, and nothing but that: `$1,200`, `-3/2`, `1 1/2`, `45%`; None for other texts."""
    match = NUMBER.fullmatch(text.strip())
    return None if match is None else value(match)


def leading(text: str) -> tuple[Fraction | None, str] | None:
    """A number at the start of a text, and the rest; None without one, (None, rest) for a division by zero."""
    match = NUMBER.match(text.strip())
    if match is None:
        return None
    rest = text.strip()[match.end() :]
    return None if re.match(r"\w*[\d/]", rest) else (value(match), rest)


def numbers(text: str) -> list[Fraction]:
    """All numbers that stand in a text, in order; digits inside words and names (`x2`, `P1`) do not count."""
    found = (value(match) for match in INSIDE.finditer(text))
    return [number for number in found if number is not None]


def result(text: str) -> Fraction | None:
    """The number that a statement ends in: after its last "=" or "is", or the only one in it.

    "angle 2 = 180 - 112 = 68°" gives 68; "180 - 112" and "angle 2 = 180 - 112" give nothing, they are not worked out.
    """
    head = leading(text)
    if head is not None and not CONTINUED.match(head[1]):
        return head[0]
    signs = list(RESULT.finditer(text))
    if signs and not text[signs[-1].end() :].strip(" .:"):
        return None  # cut off before the result
    for sign in reversed(signs):
        tail = leading(text[sign.end() :])
        if tail is not None:
            alone = sign.group().strip() in ("=", "≈") or not numbers(tail[1])
            return tail[0] if alone and not CONTINUED.match(tail[1]) else None
    found = set(numbers(text))
    return found.pop() if len(found) == 1 and not re.search(r"\d\s*[-+*/×÷=]\s*(?:\d|$)", text) else None


def same(first: Fraction, second: Fraction) -> bool:
    """Equal, but for the rounding of decimals beyond the ninth digit."""
    return abs(first - second) <= Fraction(1, 10**9) * max(abs(first), abs(second))


def text_of(number: Fraction, digits: int = 3) -> str:
    """A number as a decimal of at most `digits` places, without trailing zeros: 1000, -1.5, 0.333."""
    scaled = round(number * 10**digits)
    sign, scaled = ("-" if scaled < 0 else ""), abs(scaled)
    whole, rest = divmod(scaled, 10**digits)
    decimals = str(rest).rjust(digits, "0").rstrip("0")
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"
