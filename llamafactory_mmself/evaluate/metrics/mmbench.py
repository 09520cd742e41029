# SPDX-License-Identifier: Apache-2.0
"""MMBench: options asked once, and with the options rolled round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from .accuracy import RIGHT, Options
from .base import PARSED, Answer, Columns, Figures, Item
from .columns import Keys, Quirks, by_part, check_quirks, column, groups, mean, parts, together, versioned


ROLL = 1_000_000  # what the official files add to the index of a question for each roll of its options


@dataclass(frozen=True)
class MMBench:
    """MMBench (arXiv 2307.06281).

    Figures, in percent: `accuracy`, of the questions as they are (vanilla); `circular`, the share of questions that
    are right however their options are rolled; each also as `circular/CATEGORY`. Unparsed answers are wrong.
    Truth: `answer`, `choices`; `index` as in the official files, where a rolled question has that of the question plus
    1,000,000 for each roll; or else `rolled_from`, the id of the question, and `roll` (0 for the question as it is).
    With neither, each item is a question of its own and `circular` is `accuracy`.

    With quirks="published" options are read as VLMEvalKit does without a judge; see `Options`.

    Attributes:
        category: keys of the truth to report by.
        quirks: how answers are read.
    """

    category: Keys = "category"
    quirks: Quirks = "fixed"
    name: ClassVar[str] = "mmbench"
    headline: ClassVar[str] = "circular"

    def __post_init__(self) -> None:
        check_quirks(self.quirks)

    @property
    def version(self) -> int:
        """Rises with that of the profile for letters."""
        return versioned(1, "letters")

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        options = Options("vlmevalkit", quirks=self.quirks)
        reads = [options.read(answer) for answer in answers]
        right = column(read.right for read in reads)
        places = [_place(answer.item) for answer in answers]
        whole, weight = together(right, [question for question, _ in places])
        number = {answer.item.id: question for answer, (question, _) in zip(answers, places, strict=True)}
        return {
            RIGHT: right,
            PARSED: column(read.parsed for read in reads),
            "plain": column(roll == 0 for _, roll in places),
            "question": whole,
            "question_share": weight,
            **parts(answers, self.category),
            **groups(answers, lambda item: number[item.id]),
        }

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        return by_part(columns, _accuracies)


def _accuracies(columns: Columns) -> dict[str, float]:
    return {
        "circular": 100 * mean(columns["question"], columns["question_share"]),
        "accuracy": 100 * mean(columns[RIGHT], columns["plain"]),
    }


def _place(item: Item) -> tuple[str, int]:
    """The question that an item asks, and how far its options are rolled."""
    if item.truth.get("rolled_from") is not None:
        return str(item.truth["rolled_from"]), int(item.truth.get("roll", 0))
    if item.truth.get("index") is not None:
        roll, question = divmod(int(item.truth["index"]), ROLL)
        return str(question), roll
    return item.id, 0
