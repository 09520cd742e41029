# SPDX-License-Identifier: Apache-2.0
"""Majority votes over the answers of several samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Literal, TypeVar


Answer = TypeVar("Answer", bound=Hashable)


def majority_vote(
    answers: Sequence[Answer | None],
    *,
    ties: Literal["first", "last"] = "first",
    unparsed: Literal["ignore", "vote"] = "ignore",
) -> Answer | None:
    """The most frequent answer.

    By default an unparsed answer (None) has no vote, and of equally frequent answers the one that was seen first wins.
    The published code lets unparsed answers vote; R3V's code for CLEVR and ChartQA breaks ties as here
    (`unparsed="vote"`), that for GeoQA in favour of the answer whose first vote came last
    (`ties="last", unparsed="vote"`).

    Args:
        answers: in the order of the samples.
        ties: which of equally frequent answers wins, by the order in which they were first seen.
        unparsed: whether None counts as an answer like any other.

    Returns:
        The winner; None when nothing was parsed, or when None won.
    """
    counts = Counter(answer for answer in answers if answer is not None or unparsed == "vote")
    if not counts:
        return None
    most = max(counts.values())
    winners = [answer for answer, count in counts.items() if count == most]
    return winners[0 if ties == "first" else -1]
