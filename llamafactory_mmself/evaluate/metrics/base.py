# SPDX-License-Identifier: Apache-2.0
"""What all metrics share.

A metric turns answers into *columns*, one number an item and column, and columns into *figures*, one number each.
Sums, means and ratios are functions of columns, so that a bootstrap draws items again without looking at a text, and
two models are compared item by item.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..stats import Interval, StatsError


Column = npt.NDArray[np.float64]
Columns = Mapping[str, Column]  # name -> one value an item, in the order of the items
# Name -> value. Shares are percentages, from 0 to 100. `accuracy/colour` is the figure `accuracy` of the category
# `colour`; NaN is a mean over no items, which happens when a category is not drawn.
Figures = Mapping[str, float]

PARSED = "parsed"  # the column that every metric has: 1 where an answer could be read, 0 where it could not
GROUP = "group"  # what is drawn together (questions about one picture): the number of each item's group


class MetricError(ValueError):
    """Answers that a metric cannot score, with item, field and what to do."""


@dataclass(frozen=True)
class Item:
    """One question of a benchmark.

    Attributes:
        id: unique within the benchmark.
        prompt: what the model is asked, without image placeholders.
        images: paths of the pictures, shown before the prompt.
        truth: what metrics need: `answer`, `choices`, `category` and whatever else the benchmark has.
    """

    id: str
    prompt: str
    images: tuple[str, ...] = ()
    truth: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What a model said, and what a judge said of it.

    Attributes:
        item: the question.
        text: the model's text.
        verdict: the judge's text, as it came; None without a judge.
    """

    item: Item
    text: str
    verdict: str | None = None


class Metric(Protocol):
    """Scores the answers to a benchmark.

    Attributes:
        name: how task files call it.
        version: rises when any answer may get another value; figures of other versions cannot be compared.
        headline: the figure that stands for the benchmark.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def headline(self) -> str: ...

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """One number an item and column, `PARSED` among them.

        Raises:
            MetricError: an item lacks what the metric needs, naming item and field.
        """
        ...

    def figures(self, columns: Columns) -> Figures:
        """The benchmark's numbers; a function of sums over items, so that it holds for any draw of them."""
        ...


@dataclass(frozen=True)
class Figure:
    """A number with its confidence interval, which leaves out draws without a value."""

    value: float
    interval: Interval | None


def summarise(
    columns: Columns, figures: Callable[[Columns], Figures], draws: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Figure]:
    """All figures with percentile intervals of a bootstrap over items, or over groups where there is a column `GROUP`.

    Args:
        columns: of one model.
        figures: the metric's.
        draws: bootstrap samples; with 0, or with a single item or group, there are no intervals.
        seed: of the draws.
        level: confidence, between 0 and 1.

    Raises:
        StatsError: there are no items.
    """
    values = figures(columns)
    drawn = [figures(_taken(columns, chosen)) for chosen in _draws(columns, draws, seed)]
    return {
        name: Figure(value, _percentiles([one[name] for one in drawn], level) if drawn else None)
        for name, value in values.items()
    }


def compare(
    before: Columns,
    after: Columns,
    figures: Callable[[Columns], Figures],
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Figure]:
    """Each figure of `after` minus that of `before`, paired: both are computed on the same draws of items.

    Args:
        before: of one model.
        after: of the other, on the same items in the same order.
        figures: the metric's.
        draws: bootstrap samples; with 0 there are no intervals.
        seed: of the draws.
        level: confidence, between 0 and 1.

    Raises:
        StatsError: there are no items, or the two have other numbers of them.
    """
    if _size(before) != _size(after):
        raise StatsError(f"{_size(before)} and {_size(after)} items cannot be compared in pairs.")
    first, second = figures(before), figures(after)
    drawn = [
        {name: late - early for (name, late), early in zip(b.items(), a.values(), strict=True)}
        for a, b in (
            (figures(_taken(before, chosen)), figures(_taken(after, chosen))) for chosen in _draws(before, draws, seed)
        )
    ]
    return {
        name: Figure(second[name] - first[name], _percentiles([one[name] for one in drawn], level) if drawn else None)
        for name in first
    }


def _size(columns: Columns) -> int:
    return len(next(iter(columns.values()), ()))


def _draws(columns: Columns, draws: int, seed: int) -> list[npt.NDArray[np.intp]]:
    """Places of items, drawn with replacement; groups are drawn whole. No draws of a single item or group."""
    size = _size(columns)
    if size == 0:
        raise StatsError("There are no items to score.")
    random = np.random.default_rng(seed)
    if GROUP not in columns:
        return [random.integers(0, size, size) for _ in range(draws if size > 1 else 0)]
    order = np.argsort(columns[GROUP], kind="stable")
    _, starts = np.unique(columns[GROUP][order], return_index=True)
    groups = np.split(order, starts[1:])
    draws = draws if len(groups) > 1 else 0
    return [
        np.concatenate([groups[place] for place in random.integers(0, len(groups), len(groups))]) for _ in range(draws)
    ]


def _taken(columns: Columns, chosen: npt.NDArray[np.intp]) -> dict[str, Column]:
    return {name: column[chosen] for name, column in columns.items()}


def _percentiles(values: Sequence[float], level: float) -> Interval | None:
    known = np.asarray(values)[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
