# SPDX-License-Identifier: Apache-2.0
"""What an R3V builder takes as material and as the target of selection: one clean rule, and the published ones.

The published code has a rule of its own for each data set. The first code base takes the target from the text of a
right candidate (ChartQA, CLEVR-Math, TabMWP), the second one takes the gold letter and filters out bare answers
(GeoQA).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ..data.questions import Question
from .records import Checked


VariantName = Literal["unified", "geoqa", "chartqa", "clevr", "tabmwp"]
# Question, right candidates with the newest first -> target, or None to drop the row.
Target = Callable[[Question, Sequence[Checked]], str | None]


@dataclass(frozen=True)
class Variant:
    """The rules of one published builder.

    Attributes:
        target: what self-select learns to say.
        min_characters: shorter texts are no solutions.
        bare_answers: whether a text that starts with "Answer" counts as a solution.
        chained: whether a dropped row of two right candidates also drops the row of one.
    """

    target: Target
    min_characters: int = 0
    bare_answers: bool = True
    chained: bool = False


def gold(question: Question, _: Sequence[Checked]) -> str:
    """The truth, as direct answers say it."""
    return f"Answer: {question.answer}"


def gold_letter(question: Question, _: Sequence[Checked]) -> str:
    """The truth on a line of its own (GeoQA)."""
    return f"Answer:\n {question.answer}"


def answer_line(_: Question, right: Sequence[Checked]) -> str | None:
    """The rest of the line after "Answer:" in the newest right candidate that has one (TabMWP)."""
    for item in right:
        marked = _after_marker(item.text)
        line = "" if marked is None else marked.strip().split("\n")[0].strip()
        if line:
            return f"Answer: {line}"
    return None


def closest_value(question: Question, right: Sequence[Checked]) -> str | None:
    """The extracted answer nearest to the label when all are numbers, else the newest one's (ChartQA)."""
    answers = [_relaxed_answer(item.text) for item in right]
    values = [_number(answer) for answer in answers]
    label = _number(question.answer)
    chosen = answers[0]
    if label is not None:
        distances = [abs(value - label) for value in values if value is not None]
        if len(distances) == len(answers):
            chosen = answers[distances.index(min(distances))]
    return chosen or None


def agreed_number(_: Question, right: Sequence[Checked]) -> str | None:
    """The whole number that all right candidates state; None when one has none or two differ (CLEVR-Math)."""
    numbers = {_stated_number(item.text) for item in right}
    return numbers.pop() if len(numbers) == 1 else None


VARIANTS: Mapping[str, Variant] = {
    "unified": Variant(gold, bare_answers=False),
    "geoqa": Variant(gold_letter, min_characters=51, bare_answers=False),
    "chartqa": Variant(closest_value),
    "clevr": Variant(agreed_number, chained=True),
    "tabmwp": Variant(answer_line),
}
assert set(VARIANTS) == set(get_args(VariantName))


def _after_marker(text: str) -> str | None:
    _, marker, rest = text.partition("Answer:")
    return rest if marker else None


def _relaxed_answer(text: str) -> str:
    marked = _after_marker(text)
    return (text if marked is None else marked).strip()


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value else None


def _stated_number(text: str) -> str | None:
    if re.fullmatch(r"\d|10", text):
        return text
    found = re.match(r"\s*(-?\d+)", _after_marker(text) or "")
    return found[1] if found else None
