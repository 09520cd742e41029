# SPDX-License-Identifier: Apache-2.0
"""How sure a number is: confidence intervals for accuracies, for gains and for means over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean, stdev

import numpy as np
import numpy.typing as npt


_CHUNK = 4_000_000  # drawn indices that are in memory at once


class StatsError(ValueError):
    """Numbers that have no interval, with the reason."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval, both ends included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval."""

    value: float
    interval: Interval


def wilson(k: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson, 1927); it holds for small n and near 0 and 1, too.

    Args:
        k: successes.
        n: trials; with none, the interval is all of [0, 1].
        level: confidence, between 0 and 1.

    Raises:
        StatsError: k is not between 0 and n, or the level is out of range.
    """
    _check_level(level)
    if not 0 <= k <= n:
        raise StatsError(f"{k} successes in {n} trials are not possible.")
    if n == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, shrink = k / n, 1 + z * z / n
    middle = (share + z * z / (2 * n)) / shrink
    half = z / shrink * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(0.0 if k == 0 else middle - half, 1.0 if k == n else middle + half)


def bootstrap_gain(
    before: Sequence[float], after: Sequence[float], draws: int = 10_000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Percentile interval of mean(after) - mean(before) from a paired bootstrap over questions.

    Args:
        before: right or wrong, or a score, for each question, of the starting model.
        after: the same questions in the same order, of the trained model.
        draws: bootstrap samples.
        seed: of the draws.
        level: confidence, between 0 and 1.

    Raises:
        StatsError: the lengths differ, or there are no questions.
    """
    return bootstrap_gains([(before, after)], draws, seed, level)


def bootstrap_gains(
    runs: Sequence[tuple[Sequence[float], Sequence[float]]], draws: int = 10_000, seed: int = 0, level: float = 0.95
) -> Interval:
    """The same for several runs (seeds): questions are drawn again within each run, and the runs' gains averaged.

    It tells how sure the average gain of these runs is over other questions; for other seeds, see `mean_over_seeds`.

    Args:
        runs: (before, after) of each run.
        draws: bootstrap samples.
        seed: of the draws.
        level: confidence, between 0 and 1.

    Raises:
        StatsError: the lengths of a run differ, or there is nothing to draw from.
    """
    _check_level(level)
    if not runs or draws < 1:
        raise StatsError("A bootstrap needs at least one run and one draw.")
    random = np.random.default_rng(seed)
    gains = [
        _drawn_means(_differences(before, after, number), draws, random) for number, (before, after) in enumerate(runs)
    ]
    mean = np.mean(gains, axis=0)
    low, high = np.quantile(mean, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def mean_over_seeds(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Mean with Student's t interval, for one value a seed.

    Raises:
        StatsError: fewer than two values, which tell nothing about other seeds.
    """
    from scipy.special import stdtrit

    _check_level(level)
    if len(values) < 2:
        raise StatsError(f"An interval over seeds needs at least two seeds, found {len(values)}.")
    mean = fmean(values)
    half = float(stdtrit(len(values) - 1, (1 + level) / 2)) * stdev(values) / sqrt(len(values))
    return Estimate(mean, Interval(mean - half, mean + half))


def _differences(before: Sequence[float], after: Sequence[float], run: int) -> npt.NDArray[np.float64]:
    if len(before) != len(after) or not before:
        raise StatsError(
            f"Run {run}: {len(before)} answers before and {len(after)} after; a pair for each question is needed."
        )
    return np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)


def _drawn_means(
    differences: npt.NDArray[np.float64], draws: int, random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Means of `draws` samples with replacement, each as large as the original."""
    size = len(differences)
    step = max(1, _CHUNK // size)
    means = [
        differences[random.integers(0, size, (min(step, draws - start), size))].mean(axis=1)
        for start in range(0, draws, step)
    ]
    return np.concatenate(means)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise StatsError(f"A confidence level lies between 0 and 1, found {level}.")
