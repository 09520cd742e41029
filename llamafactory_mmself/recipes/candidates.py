# SPDX-License-Identifier: Apache-2.0
"""Sets of right and wrong solutions to choose from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .records import Checked


TRIALS = 10  # draws for one question and size


@dataclass(frozen=True)
class CandidateSet:
    """Some right and some wrong solutions of one question.

    Attributes:
        name: unique among the sets of a question.
        right: at least one.
        wrong: at least one.
    """

    name: str
    right: tuple[Checked, ...]
    wrong: tuple[Checked, ...]

    def shuffled(self, chance: random.Random) -> list[Checked]:
        """All candidates in a random order that does not depend on the order in the set."""
        order = sorted((*self.right, *self.wrong), key=lambda item: item.age)
        chance.shuffle(order)
        return order


def without_longest(order: Sequence[Checked]) -> list[Checked]:
    """Leaves out the longest candidate such that right and wrong ones remain; nothing is left where none can go."""
    kinds = [item.verdict.correct for item in order]
    spare = [item for item in order if kinds.count(item.verdict.correct) > 1]
    if not spare:
        return []
    longest = max(spare, key=lambda item: len(item.text))
    return [item for item in order if item is not longest]


def newest_sets(right: Sequence[Checked], wrong: Sequence[Checked]) -> list[CandidateSet]:
    """Up to two sets of three: two right and one wrong, one right and two wrong, each time the newest.

    Args:
        right: the oldest first.
        wrong: the oldest first.
    """
    sets = []
    if len(right) >= 2 and wrong:
        sets.append(CandidateSet("2+1", tuple(right[-2:]), tuple(wrong[-1:])))
    if right and len(wrong) >= 2:
        sets.append(CandidateSet("1+2", tuple(right[-1:]), tuple(wrong[-2:])))
    return sets


def drawn_sets(
    right: Sequence[Checked],
    wrong: Sequence[Checked],
    sizes: Sequence[int],
    per_size: int,
    chance: random.Random,
    *,
    repeat: bool = False,
) -> list[CandidateSet]:
    """Draws sets of each size: the number of right ones first, then who.

    Args:
        right: the oldest first.
        wrong: the oldest first.
        sizes: numbers of candidates.
        per_size: sets of each size, at most; ten draws are made to find them.
        chance: the random generator.
        repeat: whether the same set can come again.
    """
    sets: list[CandidateSet] = []
    for size in sizes:
        found: list[CandidateSet] = []
        seen = set()
        for _ in range(TRIALS):
            if len(found) == per_size or len(right) + len(wrong) < size or not right or not wrong:
                break
            count = chance.randint(1, min(len(right), size - 1))
            if len(wrong) < size - count:
                continue
            chosen = tuple(chance.sample(right, count)), tuple(chance.sample(wrong, size - count))
            members = frozenset((item.iteration, item.sample.id) for group in chosen for item in group)
            if repeat or members not in seen:
                found.append(CandidateSet(f"{size}-{len(found)}", *chosen))
            seen.add(members)
        sets += found
    return sets
