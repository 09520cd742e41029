# SPDX-License-Identifier: Apache-2.0
"""Which of two rationales a judge prefers, asked in both orders (ARES, appendix A.3, has one order at random)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..data.questions import Question
from ..generate.forms import Choice
from ..generate.judge import Judge, JudgeItem
from .stats import Estimate, StatsError, bootstrap_mean


FORM = Choice(("A", "B", "tie"))
PLACEHOLDERS = ("question", "first", "second", "options")


@dataclass(frozen=True)
class WinRate:
    """How often one side is preferred to the other.

    Attributes:
        wins: preferred in both orders, or in one with a tie in the other.
        ties: a tie in both orders, or the judge contradicts itself.
        losses: the other side is preferred.
        unparsed: pairs of which an answer could not be read; they are in no other count.
        swapped: pairs in which the judge chose the same place in both orders.
        rate: wins plus half of the ties, with its bootstrap interval.
    """

    wins: int
    ties: int
    losses: int
    unparsed: int
    swapped: int
    rate: Estimate


def win_rate(
    questions: Sequence[Question], ours: Mapping[str, str], theirs: Mapping[str, str], judge: Judge, seed: int = 0
) -> WinRate:
    """Compares two sets of rationales on the questions that both have.

    Args:
        questions: what they are about.
        ours: question -> rationale.
        theirs: the same.
        judge: with `FORM` and a prompt that shows `PLACEHOLDERS`; `judge_pair.txt` comes with the package.
        seed: of the bootstrap.

    Raises:
        StatsError: no pair could be judged.
    """
    pairs = [item for item in questions if item.id in ours and item.id in theirs]
    items = []
    for item in pairs:
        for first, second in ((ours, theirs), (theirs, ours)):
            values = {"question": item.block, "first": first[item.id], "second": second[item.id]}
            items.append(JudgeItem(item.id, values, item.images))
    said = [judgement.value for judgement in judge.ask(items)]
    points: list[float] = []
    unparsed = swapped = 0
    for one, other in zip(said[::2], said[1::2], strict=True):
        if one is None or other is None:
            unparsed += 1
            continue
        swapped += one == other != "tie"
        balance = {"A": 1, "B": -1, "tie": 0}[one] + {"A": -1, "B": 1, "tie": 0}[other]
        points.append(1.0 if balance > 0 else 0.0 if balance < 0 else 0.5)
    if not points:
        raise StatsError(f"None of {len(pairs)} pairs could be judged.")
    rate = bootstrap_mean(points, seed=seed)
    return WinRate(points.count(1.0), points.count(0.5), points.count(0.0), unparsed, swapped, rate)
