# SPDX-License-Identifier: Apache-2.0
"""Which of a prompt's scored responses make preference pairs (OViP, arXiv 2505.15963).

Responses are sorted by score, s_1 >= ... >= s_m; equal scores keep their order. Pair k is (s_k, s_{m+1-k}): the best
with the worst, the second best with the second worst, and so on until a pair does not qualify. A group without a pair
falls back on the reference answer as the chosen one, if its worst response is bad enough.

| rule | a pair qualifies if | falls back if |
|---|---|---|
| published | m <= 4: the first only, s_1 - s_m >= 4; else gap > 2 max(1.5, sigma). s_k >= 6 | s_m <= 5 |
| paper | gap > max(3, 2 sigma), s_k >= 6, negative <= 4 | s_m < 4 |
| robust | gap > max(3, 2 sigma_within), s_k >= 6, negative <= 4 | s_m <= 4 |

sigma is the sample standard deviation of the group. In a group of very good and very bad responses it grows with the
distance of the two, so that 2 sigma is more than the whole range and the clearest groups never qualify: scores 10, 0,
10, 0, 10 have sigma 5.5. sigma_within is what is left of it inside the two parts into which the group falls best.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import Literal, get_args


Rule = Literal["published", "paper", "robust"]
RULES: tuple[str, ...] = get_args(Rule)

#: Spellings of the strategy that relaxes a rule; the published code knows the second one only.
RELAXED = ("additional", "addtional")

#: Score of a reference answer that stands in for a chosen response: above every score of a judge.
REFERENCE_SCORE = 11.0

POSITIVE, NEGATIVE = 6.0, 4.0  # least score of a chosen, highest of a rejected response
GAP = 3.0
RELAXED_GAP = 2.0

SMALL, SMALL_GAP, LEAST_SIGMA, PUBLISHED_FALLBACK = 4, 4.0, 1.5, 5.0  # of the published rule alone


class PairError(ValueError):
    """A rule that does not exist, or scores that cannot be compared."""


@dataclass(frozen=True)
class Pair:
    """A chosen and a rejected response.

    Attributes:
        chosen: place among the given scores; None for the reference answer.
        rejected: place among the given scores.
        chosen_score: of the chosen one, `REFERENCE_SCORE` for the reference answer.
        rejected_score: of the rejected one.
        how: `gap` for the rule's own pairs, `relaxed` for the best and worst of a group that has none, `reference` for
            the reference answer in place of a response.
    """

    chosen: int | None
    rejected: int
    chosen_score: float
    rejected_score: float
    how: Literal["gap", "relaxed", "reference"]


def choose_pairs(
    scores: Sequence[float],
    *,
    rule: str = "published",
    online_only: bool = False,
    online_only_strategy: str = "",
    limit: int | None = None,
) -> list[Pair]:
    """The pairs of one prompt's responses.

    Args:
        scores: of the responses that have one, in any order, at most 10; equal texts are left out before (`distinct`).
        rule: one of `RULES`.
        online_only: never fall back on the reference answer.
        online_only_strategy: with `online_only`, a spelling in `RELAXED` pairs the best with the worst instead, if
            they are at least 2 apart.
        limit: so many pairs at most.

    Raises:
        PairError: the rule or the strategy does not exist, or a score is not a finite number.
    """
    check_rule(rule, online_only_strategy)
    if not all(map(math.isfinite, scores)):
        raise PairError(f"Scores are finite numbers, found {list(scores)}: leave responses without one out.")
    if not scores:
        return []
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    ranked = [scores[place] for place in order]
    taken = list(_qualifying(ranked, rule))[:limit]
    if taken:
        return [Pair(order[best], order[worst], ranked[best], ranked[worst], "gap") for best, worst in taken]
    return _instead(ranked, order, rule, online_only, online_only_strategy)[:limit]


def check_rule(rule: str, online_only_strategy: str = "") -> None:
    """Refuses names that do not exist.

    Raises:
        PairError: with the names that do.
    """
    if rule not in RULES:
        raise PairError(f"Unknown pair_rule `{rule}`; use one of {', '.join(RULES)}.")
    if online_only_strategy not in ("", *RELAXED):
        raise PairError(f"Unknown online_only_strategy `{online_only_strategy}`; use {RELAXED[0]} or leave it out.")


def distinct(items: Sequence[Hashable]) -> list[int]:
    """The places of the first of each item, in their order: the same texts are judged once."""
    first: dict[Hashable, int] = {}
    for place, item in enumerate(items):
        first.setdefault(item, place)
    return list(first.values())


def sigma_within(ranked: Sequence[float]) -> float:
    """What is left of the standard deviation inside the two parts into which sorted scores fall best.

    Of all cuts between two different scores that one is taken whose parts have the least squared deviation from their
    means (Otsu's threshold); the result is pooled over both, with m - 2 degrees of freedom.

    Args:
        ranked: m scores in falling order.
    """
    cuts = [place for place, (one, other) in enumerate(pairwise(ranked), start=1) if one != other]
    if not cuts or len(ranked) < 3:
        return 0.0
    return math.sqrt(min(_squares(ranked[:cut]) + _squares(ranked[cut:]) for cut in cuts) / (len(ranked) - 2))


def _qualifying(ranked: Sequence[float], rule: str) -> Iterator[tuple[int, int]]:
    """Places (best, worst) in the sorted scores, until a pair does not qualify."""
    count = len(ranked)
    if rule == "published" and count <= SMALL:
        if ranked[0] - ranked[-1] >= SMALL_GAP and ranked[0] >= POSITIVE:
            yield 0, count - 1
        return
    least = _least_gap(ranked, rule)
    for best in range(count // 2):
        worst = count - 1 - best
        good = ranked[best] >= POSITIVE and (rule == "published" or ranked[worst] <= NEGATIVE)
        if not good or not ranked[best] - ranked[worst] > least:
            return
        yield best, worst


def _least_gap(ranked: Sequence[float], rule: str) -> float:
    """What a gap has to exceed."""
    if rule == "robust":
        return max(GAP, 2 * sigma_within(ranked))
    sigma = stdev(ranked) if len(ranked) > 1 else 0.0
    return 2 * max(LEAST_SIGMA, sigma) if rule == "published" else max(GAP, 2 * sigma)


def _instead(ranked: Sequence[float], order: Sequence[int], rule: str, online_only: bool, strategy: str) -> list[Pair]:
    """What a group without a pair of its own gets."""
    lowest = ranked[-1]
    bad = {"published": lowest <= PUBLISHED_FALLBACK, "paper": lowest < NEGATIVE, "robust": lowest <= NEGATIVE}[rule]
    if not bad:
        return []
    if not online_only:
        return [Pair(None, order[-1], REFERENCE_SCORE, lowest, "reference")]
    if strategy in RELAXED and ranked[0] - lowest >= RELAXED_GAP:
        return [Pair(order[0], order[-1], ranked[0], lowest, "relaxed")]
    return []


def _squares(values: Sequence[float]) -> float:
    mean = fmean(values)
    return sum((value - mean) ** 2 for value in values)
