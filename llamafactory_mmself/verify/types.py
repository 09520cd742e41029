# SPDX-License-Identifier: Apache-2.0
"""What all profiles share: what is looked at, what was found in it, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import ascii_uppercase


class VerifyError(ValueError):
    """A check that cannot be made as it was asked for, with the reason and what to do."""


@dataclass(frozen=True)
class Response:
    """A model's text and what it answers.

    Attributes:
        text: as it was generated.
        choices: texts of the options (A), (B), ..., empty without any.
        question: text of the question, "" if not known; a TabMWP question names its unit as `(Unit: g)`.
    """

    text: str
    choices: tuple[str, ...] = ()
    question: str = ""

    @property
    def letters(self) -> str:
        """The letters that may be answered."""
        return ascii_uppercase[: len(self.choices)] if self.choices else ascii_uppercase


@dataclass(frozen=True)
class Found:
    """An answer and the rule that found it, or None and the reason."""

    answer: str | None
    rule: str


@dataclass(frozen=True)
class Verdict:
    """What a check says about one text.

    Attributes:
        correct: the answer is right; never for a text without an answer.
        parsed: an answer was found.
        answer: the answer in its normal form (a capital letter for multiple choice), None if there is none.
        rule: how it was found, or why not.
    """

    correct: bool
    parsed: bool
    answer: str | None
    rule: str


@dataclass(frozen=True)
class Profile:
    """A named way to read and compare answers; results are comparable between equal versions only.

    Attributes:
        name: how users call it.
        version: rises when any text may get another verdict.
        description: one line.
        extract: finds the answer in a text.
        matches: whether a found answer equals the truth, which comes as the data set has it.
        empty_counts: whether the empty text is an answer, which has a vote and may be right; in published code only.
    """

    name: str
    version: int
    description: str
    extract: Callable[[Response], Found]
    matches: Callable[[str, str, Response], bool]
    empty_counts: bool = False

    def check(
        self, text: str, answer: str, *, choices: Sequence[str] | None = None, question: str | None = None
    ) -> Verdict:
        """See `verify.check`."""
        response = Response(text, tuple(str(choice) for choice in choices or ()), question or "")
        found = self.extract(response)
        if found.answer is None:
            return Verdict(False, False, None, found.rule)
        if not found.answer and not self.empty_counts:
            return Verdict(False, False, None, "empty answer")
        return Verdict(self.matches(found.answer, str(answer), response), True, found.answer, found.rule)
