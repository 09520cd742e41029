# SPDX-License-Identifier: Apache-2.0
"""Intervals against known values and against simulation."""

import random

import pytest
from scipy import stats

from llamafactory_mmself.evaluate.stats import (
    StatsError,
    bootstrap_gain,
    bootstrap_gains,
    mean_over_seeds,
    wilson,
)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (251, 500), (1, 1)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_equals_scipys(k: int, n: int, level: float) -> None:
    expected = stats.binomtest(k, n).proportion_ci(level, method="wilson")
    found = wilson(k, n, level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_nothing_is_known_without_trials() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)
    with pytest.raises(StatsError, match="5 successes in 3"):
        wilson(5, 3)


def test_the_bootstrap_agrees_with_the_normal_approximation() -> None:
    draw = random.Random(0)
    before = [draw.random() < 0.5 for _ in range(600)]
    after = [draw.random() < (0.8 if old else 0.4) for old in before]
    differences = [new - old for old, new in zip(before, after, strict=True)]
    mean, error = sum(differences) / 600, stats.sem(differences)
    found = bootstrap_gain(before, after)
    assert (found.low, found.high) == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.006)
    assert found == bootstrap_gain(before, after) and found != bootstrap_gain(before, after, seed=1)


def test_pairing_makes_the_interval_narrow() -> None:
    before = [number % 2 == 0 for number in range(200)]
    assert bootstrap_gain(before, before) == bootstrap_gain(before, before, draws=10)
    assert (bootstrap_gain(before, before).low, bootstrap_gain(before, before).high) == (0.0, 0.0)


def test_several_runs_average_their_gains() -> None:
    runs = [([False] * 50, [True] * 25 + [False] * 25), ([False] * 50, [True] * 50)]
    found = bootstrap_gains(runs)
    assert found.low < 0.75 < found.high and found.high <= 1
    one = bootstrap_gain(*runs[0])
    assert found.high - found.low < one.high - one.low


def test_scores_count_as_they_are() -> None:
    found = bootstrap_gain([0.5, 0.25] * 50, [0.75, 0.75] * 50)
    assert 0.25 < found.low < 0.375 < found.high < 0.5


def test_answers_without_partners_are_refused() -> None:
    with pytest.raises(StatsError, match="2 answers before and 1 after"):
        bootstrap_gain([True, False], [True])
    with pytest.raises(StatsError):
        bootstrap_gains([])


def test_mean_over_seeds_is_students() -> None:
    found = mean_over_seeds([0.6, 0.65, 0.7])
    expected = stats.t.interval(0.95, 2, loc=0.65, scale=stats.sem([0.6, 0.65, 0.7]))
    assert found.value == pytest.approx(0.65)
    assert (found.interval.low, found.interval.high) == pytest.approx(expected)
    with pytest.raises(StatsError, match="at least two seeds"):
        mean_over_seeds([0.5])
