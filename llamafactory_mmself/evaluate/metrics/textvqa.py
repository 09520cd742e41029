# SPDX-License-Identifier: Apache-2.0
"""TextVQA: agreement with ten people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from .accuracy import accuracy, scored
from .base import Answer, Columns, Figures, MetricError
from .columns import Keys, Quirks, by_part, check_quirks, need
from .reading import Read, short_answer
from .vqa_text import normal, soft_score


PEOPLE = 10


@dataclass(frozen=True)
class TextVQA:
    """TextVQA (arXiv 1904.08920) as EvalAI scores it.

    Figures: `accuracy` in percent, `accuracy/CATEGORY`. A question's score is the mean over the ten sets of nine
    people of min(1, people among them who gave the answer / 3), all answers in the normal form of the VQA challenges.
    Truth: `answers`, a list of ten.

    The whole text is the answer; by default an announced one ("Answer: 12") is taken out of it first. With
    quirks="published" it is not, full stops beyond the 32nd stay, and "somebody'd" loses its apostrophe.

    Attributes:
        category: keys of the truth to report by.
        quirks: as published or right.
    """

    category: Keys = "category"
    quirks: Quirks = "fixed"
    name: ClassVar[str] = "textvqa"
    headline: ClassVar[str] = "accuracy"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_quirks(self.quirks)

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        return scored(answers, [self._read(answer) for answer in answers], self.category)

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        return by_part(columns, accuracy)

    def _read(self, answer: Answer) -> Read:
        people = need(answer.item, "answers", "the list of ten people's answers")
        if isinstance(people, str) or len(people) != PEOPLE:
            raise MetricError(f"Item {answer.item.id!r}: 'answers' is a list of {PEOPLE} answers, not {people!r}.")
        published = self.quirks == "published"
        said = normal(answer.text if published else short_answer(answer.text), published)
        return Read(soft_score(said, [normal(str(one), published) for one in people]), bool(said))
