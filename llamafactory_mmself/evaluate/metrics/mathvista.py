# SPDX-License-Identifier: Apache-2.0
"""MathVista: options, whole numbers, decimals, texts and lists."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import ClassVar

from ...generate.forms import Form
from ...generate.judge import JudgeItem
from ...verify import numbers
from ...verify.free import extract_number
from ...verify.types import Response
from .accuracy import accuracy, scored
from .base import Answer, Columns, Figures, Item
from .columns import Keys, Quirks, by_part, check_quirks, need, versioned
from .judged import Judged
from .reading import Read, checked, choices_of, same_words, short_answer


NOTHING = "none"  # what a judge writes when a text has no answer


@dataclass(frozen=True)
class Extracted:
    """A reply whose last line that begins with `Answer:` has the answer, or that is the answer as a whole."""

    @property
    def values(self) -> Mapping[str, str]:
        """None."""
        return {}

    def parse(self, text: str) -> str | None:
        """The answer; None if the reply is empty or says that there is none."""
        lines = re.findall(r"^[\s*_]*(?:extracted )?answer[*_]*\s*:[ \t*_]*(.*)$", text, re.IGNORECASE | re.MULTILINE)
        found = (lines[-1] if lines else text).strip().strip("*`").strip()
        return None if not found or found.lower().rstrip(".") == NOTHING else found


@dataclass(frozen=True)
class MathVista(Judged):
    """MathVista (arXiv 2310.02255), testmini.

    Figures, in percent: `accuracy` of all questions, `accuracy/task=...`, `accuracy/skills=...` (a question may have
    several skills). Unparsed answers are wrong.
    Truth: `answer`; `choices` (options are then compared, whatever `answer` is); for other questions `answer_type`
    (integer, float, text, list) and, for float, `precision`, the number of decimals; the keys of `category`.

    Answers are read by rules: options and numbers with verification profiles, a number as equal after rounding to the
    precision, a list item by item, a text by words. With `judge`, a judge takes the answer out of the text first, and
    the same rules read what it wrote. With quirks="published", what the judge wrote (or without one a bare answer, or
    what stands in 'The answer is "..."', or the whole text) is brought into the official form: the nearest option by
    edit distance, so that any text picks one, a number cut to an integer, a rounded decimal, and compared as text.

    Attributes:
        judge: whether a judge takes the answers out of the texts.
        category: keys of the truth to report by.
        quirks: how answers are read.
    """

    judge: bool = False
    category: Keys = ("task", "skills")
    quirks: Quirks = "fixed"
    name: ClassVar[str] = "mathvista"
    headline: ClassVar[str] = "accuracy"
    prompt: ClassVar[str] = "eval_mathvista.txt"
    placeholders: ClassVar[tuple[str, ...]] = ("question", "answer")
    form: ClassVar[Form] = Extracted()

    def __post_init__(self) -> None:
        check_quirks(self.quirks)

    @property
    def version(self) -> int:
        """Rises with those of the profiles for letters and numbers."""
        return versioned(1, "letters", "number")

    def question(self, item: Item, text: str) -> JudgeItem | None:
        """What the judge is asked; None where rules do, and for an empty answer."""
        if not self.judge or not text.strip():
            return None
        return JudgeItem(item.id, {"question": item.prompt, "answer": text})

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        if self.judge:
            self.need_verdicts(answers)
        return scored(answers, [self._read(answer) for answer in answers], self.category)

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        return by_part(columns, accuracy)

    def _read(self, answer: Answer) -> Read:
        text: str | None = answer.text
        if self.judge:
            text = self.form.parse(answer.verdict or "")
        elif self.quirks == "published":
            text = _quick(answer)
        if text is None:
            return Read(0.0, False)
        return _published(answer.item, text) if self.quirks == "published" else _fixed(answer.item, text)


def _fixed(item: Item, text: str) -> Read:
    if choices_of(item):
        return checked(Answer(item, text), "letters")
    kind, truth = need(item, "answer_type", "integer, float, text or list"), str(need(item, "answer", "the answer"))
    if kind in ("integer", "float"):
        goal, found = numbers.parse(truth), extract_number(Response(text)).answer
        value = None if found is None else numbers.parse(found)
        if goal is None or value is None:
            return Read(0.0, False)
        if kind == "integer":
            return Read(float(numbers.same(value, goal)), True)
        digits = int(float(need(item, "precision", "the number of decimals")))
        return Read(float(round(value, digits) == round(goal, digits)), True)
    if kind == "list":
        found_list, goal_list = _list(short_answer(text)), _list(truth)
        return Read(float(found_list is not None and found_list == goal_list), found_list is not None)
    return same_words(text, truth)


def _list(text: str) -> list[object] | None:
    """The last list that a text has; None without one."""
    found = re.findall(r"\[[^\[\]]*\]", text)
    try:
        return list(ast.literal_eval(found[-1])) if found else None
    except (ValueError, SyntaxError):
        return None


def _quick(answer: Answer) -> str:
    quoted = re.search(r'The answer is "(.*)"\.', answer.text)
    return quoted[1] if quoted and answer.text not in choices_of(answer.item) else answer.text


def _published(item: Item, text: str) -> Read:
    truth = str(need(item, "answer", "the answer"))
    choices = choices_of(item)
    if choices:
        return Read(float(_nearest(text.strip(), choices) == truth), bool(text.strip()))
    kind = need(item, "answer_type", "integer, float, text or list")
    try:
        if kind == "integer":
            text = str(int(float(text)))
        elif kind == "float":
            text = str(round(float(text), int(float(need(item, "precision", "the number of decimals")))))
    except (ValueError, OverflowError):
        return Read(0.0, False)
    return Read(float(text == truth), bool(text))


def _nearest(text: str, choices: Sequence[str]) -> str:
    letters = re.findall(r"\(([a-zA-Z])\)", text)
    said = letters[0].upper() if letters else text
    if said in ascii_uppercase[: len(choices)] and len(said) == 1:
        return choices[ascii_uppercase.index(said)]
    return min(choices, key=lambda choice: edit_distance(said, choice))


def edit_distance(first: str, second: str) -> int:
    """Levenshtein's distance, one step a character of the first text (Myers, JACM 1999)."""
    if not second:
        return len(first)
    places: dict[str, int] = {}
    for place, character in enumerate(second):
        places[character] = places.get(character, 0) | 1 << place
    full = (1 << len(second)) - 1
    top = 1 << (len(second) - 1)
    plus, minus, distance = full, 0, len(second)
    for character in first:
        equal = places.get(character, 0)
        vertical = equal | minus
        equal |= (((equal & plus) + plus) ^ plus) | equal
        up, down = minus | ~(equal | plus) & full, plus & equal
        distance += bool(up & top) - bool(down & top)
        up, down = (up << 1 | 1) & full, (down << 1) & full
        plus, minus = (down | ~(vertical | up)) & full, up & vertical
    return distance
