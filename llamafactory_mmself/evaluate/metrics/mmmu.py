# SPDX-License-Identifier: Apache-2.0
"""MMMU: options and open questions of college subjects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import ClassVar

from ...verify import numbers
from ...verify.text import corrected, final_segment, first_line, plain, sentences
from .accuracy import accuracy, scored
from .base import Answer, Columns, Figures
from .columns import Keys, Quirks, by_part, check_quirks, need, versioned
from .reading import Read, checked, choices_of, number_of, true_option
from .vqa_text import normal


@dataclass(frozen=True)
class MMMU:
    """MMMU (arXiv 2311.16502), validation.

    Figures, in percent: `accuracy` of all questions, and `accuracy/domain=...`, `accuracy/subject=...`. Unparsed
    answers are wrong.
    Truth: `answer`, a letter (or an option's text or index) with `choices`, or for an open question a text or a list
    of texts that are all right; the keys of `category`.

    By default an open question's answer is the announced one, or the last sentence: a number is right within the
    rounding to two decimals, words have to be the answer's, or contain them as whole words. With quirks="published"
    the official ladders read both: the last of the options in brackets, before a blank, before a full stop, or by
    text; for open questions anything that follows "is", "so", "=" and the like. Where they throw dice, the answer is
    unparsed.

    Attributes:
        category: keys of the truth to report by.
        quirks: how answers are read.
    """

    category: Keys = ("domain", "subject")
    quirks: Quirks = "fixed"
    name: ClassVar[str] = "mmmu"
    headline: ClassVar[str] = "accuracy"

    def __post_init__(self) -> None:
        check_quirks(self.quirks)

    @property
    def version(self) -> int:
        """Rises with that of the profile for letters."""
        return versioned(1, "letters")

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        return scored(answers, [self._read(answer) for answer in answers], self.category)

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        return by_part(columns, accuracy)

    def _read(self, answer: Answer) -> Read:
        published = self.quirks == "published"
        if choices_of(answer.item):
            return _option_published(answer) if published else checked(answer, "letters")
        truth = need(answer.item, "answer", "the true answer")
        golds = [str(one) for one in (truth if isinstance(truth, list | tuple) else [truth])]
        return _open_published(answer.text, golds) if published else _open(answer.text, golds)


def _open(text: str, golds: Sequence[str]) -> Read:
    text = plain(text).strip()
    segment, marked = final_segment(text)
    said = first_line(corrected(segment or "")) if marked else (sentences(text) or [""])[-1]
    if not normal(said):
        return Read(0.0, False)
    value = numbers.result(said)
    for gold in golds:
        goal = number_of(gold)
        if goal is not None:
            if value is not None and round(value, 2) == round(goal, 2):
                return Read(1.0, True)
        elif re.search(rf"(?<!\w){re.escape(normal(gold))}(?!\w)", normal(said)):
            return Read(1.0, True)
    return Read(0.0, True)


def _option_published(answer: Answer) -> Read:
    text, options = answer.text, dict(zip(ascii_uppercase, choices_of(answer.item), strict=False))
    for mark in ",.!?;:'":
        text = text.strip(mark)
    text = f" {text} "
    # (what a letter looks like, what its last place is looked up by): the original is not consistent here.
    forms = (("({})", "({})"), ("{} ", " {} "), ("{}.", " {} "))
    for form, place in forms:
        found = [letter for letter in options if form.format(letter) in text]
        if found:
            places = [text.rfind(place.format(letter)) for letter in found]
            break
    else:
        lower = text.lower()
        found = [letter for letter, said in options.items() if said.lower() in lower] if len(text.split()) > 5 else []
        places = [lower.rfind(options[letter].lower()) for letter in found]
    if not found:
        return Read(0.0, False)
    said = found[places.index(max(places))]
    return Read(float(said == true_option(answer.item)), True)


_KEYS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBERS = (
    r"-?\b\d{1,3}(?:,\d{3})+\b",
    r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
    r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
)


def _open_published(text: str, golds: Sequence[str]) -> Read:
    """The answer's normal form is one of the numbers behind a key word, or occurs in the text behind one."""
    lines = re.split(r"\.\s(?=[A-Z])|\n", text.strip().strip(".").lower())
    tails = []
    for place, line in enumerate(lines):
        keys = (*_KEYS, "=") if place == len(lines) - 1 else _KEYS
        ends = [line.split(key)[-1].strip() for key in keys if key in line]
        shortest = ""
        for end in ends:
            shortest = end if not shortest or len(end) < len(shortest) else shortest
        if shortest and shortest not in tuple(":,.!?;'"):
            tails.append(shortest)
    tails = tails or [text.strip().strip(".").lower()]
    found = tails + [number for tail in tails for pattern in _NUMBERS for number in re.findall(pattern, tail)]
    said = [form for one in found for form in _forms(one)]
    wanted = [form for gold in golds for form in _forms(gold)]
    right = any(
        form in wanted if isinstance(form, float) else any(isinstance(one, str) and one in form for one in wanted)
        for form in said
    )
    return Read(float(right), bool(text.strip()))


def _forms(text: str) -> list[str | float]:
    """The official normal forms: a number with two decimals, or lower case; a single character has a blank beside."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]
