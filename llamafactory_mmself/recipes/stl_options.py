# SPDX-License-Identifier: Apache-2.0
"""Switches of STL's builder, and the wrong options of a question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..data.questions import Question
from .options import check_types, options_from
from .records import RecipeError


Check = Literal["asserts", "cites", "loops", "cut"]


@dataclass(frozen=True)
class STLOptions:
    """Switches of the builder.

    Attributes:
        caption: ask for a caption and learn it; False is the ablation without captions.
        negatives: learn why wrong options are wrong.
        letters_only: bare answers and nothing else; needs no samples.
        hint: tell the right option when refutations are sampled; training prompts never have it.
        letters: how options are named in prompts and targets; `upper` is how questions show them.
        pool: samples of which iterations are used: the newest one only, as published, or all.
        answers_per_question: right answers to learn for a question, at most; the newest are taken.
        negatives_per_question: refuted options of a question, at most; None is no limit.
        negative_ratio: refutations for each answer learnt, at most; None is no limit.
        checks: `asserts` drops explanations that call the refuted option right, `cites` those that only cite the right
            option or speak of the hint, `loops` texts that run in circles, `cut` those that ran into the token limit.
        min_words: fewer words in the reasoning or the explanation drop it.
        max_words: more words in a target drop it; None is no limit.
        quirks: with `published`, sections are read as the published code reads them, lower-case letters only, and
            nothing is checked.
    """

    caption: bool = True
    negatives: bool = True
    letters_only: bool = False
    hint: bool = True
    letters: Literal["upper", "lower"] = "upper"
    pool: Literal["newest", "all"] = "newest"
    answers_per_question: int = 1
    negatives_per_question: int | None = None
    negative_ratio: float | None = None
    checks: tuple[Check, ...] = ("asserts", "cites", "loops", "cut")
    min_words: int = 1
    max_words: int | None = None
    quirks: Literal["fixed", "published"] = "fixed"

    def __post_init__(self) -> None:
        check_types(self)
        if self.quirks == "published" and not self.caption:
            raise RecipeError("Option `quirks`: the published code knows no form without captions.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> STLOptions:
        """Options from a YAML's values.

        Raises:
            RecipeError: naming the option.
        """
        return options_from(cls, values)

    def checking(self, name: Check) -> bool:
        """Whether a check is on."""
        return name in self.checks and self.quirks == "fixed"

    def mark(self, letter: str) -> str:
        """An option's name: `(B)` or `(b)`."""
        return f"({letter.upper() if self.letters == 'upper' else letter.lower()})"


def wrong_letters(question: Question) -> list[str]:
    """The letters of the wrong options; one with the same text as the right one is not wrong.

    Raises:
        RecipeError: the question has no options.
    """
    choices = require_options(question)
    texts = [" ".join(text.split()).casefold() for text in choices]
    right = texts[question.letters.index(question.answer)]
    return [letter for letter, text in zip(question.letters, texts, strict=True) if text != right]


def require_options(question: Question) -> tuple[str, ...]:
    """The options of a question.

    Raises:
        RecipeError: it has none.
    """
    if not question.choices:
        raise RecipeError(
            f"Question {question.id!r} has no options; see-think-learn needs multiple choice. Give it `choices`, or "
            "use r3v."
        )
    return question.choices
