# SPDX-License-Identifier: Apache-2.0
"""Several models on the same tasks: figures, and differences with paired intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, Literal

from .indexed import Index, Reference, indexes
from .metrics.base import Columns, Figure, Figures, compare, summarise
from .metrics.indexes import HRI
from .results import ITEMS, CompareError, Contender
from .scales import Scale, scale_of


@dataclass(frozen=True)
class Line:
    """One figure of a task for all models.

    Attributes:
        figure: its name.
        scale: from where to where it goes, and which end is good.
        values: one a model; None where the model has no result.
        gains: each model's value minus the first model's; None for the first one, and where either has no result.
    """

    figure: str
    scale: Scale
    values: tuple[Figure | None, ...]
    gains: tuple[Figure | None, ...]

    @property
    def category(self) -> str | None:
        """The category that the figure is of, None for one of all items."""
        return self.figure.partition("/")[2] or None

    @property
    def whole(self) -> str:
        """The figure without its category."""
        return self.figure.partition("/")[0]

    def outcome(self, place: int) -> Literal["good", "bad", ""]:
        """Whether a model is surely better or worse than the first one: the interval leaves out 0."""
        gain = self.gains[place]
        if gain is None or gain.interval is None or 0.0 in gain.interval or self.scale.neutral:
            return ""
        return "good" if (gain.value > 0) != self.scale.lower else "bad"


@dataclass(frozen=True)
class TaskTable:
    """A task for all models.

    Attributes:
        task: its name.
        headline: the figure that stands for it.
        lines: all figures, the headline first.
        conditions: what is the same for all of them.
        facts: of each model; empty where it has no result.
    """

    task: str
    headline: str
    lines: tuple[Line, ...]
    conditions: Mapping[str, Any]
    facts: tuple[Mapping[str, Any], ...]

    @property
    def head(self) -> Line:
        """The line of the headline."""
        return next(line for line in self.lines if line.figure == self.headline)

    @property
    def overall(self) -> list[Line]:
        """Figures of all items."""
        return [line for line in self.lines if line.category is None]

    @property
    def charted(self) -> str | None:
        """The figure whose categories stand for the task: the headline if it has any, else the first one that has."""
        figures = list(self.categories)
        return self.headline if self.headline in figures else next(iter(figures), None)

    @property
    def categories(self) -> dict[str, list[Line]]:
        """Figure -> its values by category."""
        groups: dict[str, list[Line]] = {}
        for line in self.lines:
            if line.category is not None:
                groups.setdefault(line.whole, []).append(line)
        return groups


@dataclass(frozen=True)
class Comparison:
    """Models on tasks.

    Attributes:
        names: of the models; differences are to the first one.
        folders: where their results lie.
        tables: of the tasks that any of them has.
        draws: of the bootstrap.
        seed: of the bootstrap.
        indexes: numbers over several of the tasks.
        reference: the row that HRI refers to.
    """

    names: tuple[str, ...]
    folders: tuple[str, ...]
    tables: tuple[TaskTable, ...]
    draws: int
    seed: int
    indexes: tuple[Index, ...] = ()
    reference: Reference | None = None


def compare_models(
    contenders: Sequence[Contender], draws: int = 1000, seed: int = 0, reference: Contender | None = None
) -> Comparison:
    """Compares models in every task that at least one of them has.

    Args:
        contenders: at least two; differences are to the first one.
        draws: bootstrap samples; with 0 there are no intervals.
        seed: of the draws.
        reference: results whose values HRI refers to.

    Raises:
        MetricError: the reference is no better and no worse than the first model in a benchmark of HRI.
        CompareError: fewer than two models, a name that comes twice, no task that two of them share, or a task with
            other versions, options, judges or items; the text says which.
    """
    names = [item.name for item in contenders]
    if len(contenders) < 2:
        raise CompareError("A comparison needs at least two folders.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CompareError(f"Several models have the name {', '.join(twice)}. Give other ones: NAME=FOLDER.")
    tasks = list(dict.fromkeys(task for item in contenders for task in item.results))
    if not any(sum(task in item.results for item in contenders) > 1 for task in tasks):
        raise CompareError(
            "No task has results of two of the models: "
            + "; ".join(f"{item.name} has {', '.join(item.results)}" for item in contenders)
        )
    tables = [_table(task, contenders, draws, seed) for task in tasks]
    row = None if reference is None else _reference(reference, contenders)
    rows = [_headlines(tables, place) for place in range(len(names))]
    return Comparison(
        tuple(names),
        tuple(str(item.folder) for item in contenders),
        tuple(tables),
        draws,
        seed,
        indexes(names, rows, row),
        row,
    )


def _headlines(tables: Sequence[TaskTable], place: int) -> dict[str, float]:
    """A model's headline figures by task."""
    values = {item.task: item.head.values[place] for item in tables}
    return {task: value.value for task, value in values.items() if value is not None}


def _reference(reference: Contender, contenders: Sequence[Contender]) -> Reference:
    """The reference's figures in the benchmarks of HRI, seen to be comparable with the models'."""
    row = {}
    for task in HRI:
        if (own := reference.results.get(task)) is not None:
            for item in contenders:
                if task in item.results:
                    _check_alike(task, item, reference)
            row[task] = own.figures(own.columns)[own.headline]
    known = {task: value for task, value in row.items() if not isnan(value)}
    return Reference(reference.name, str(reference.folder), known)


def _table(task: str, contenders: Sequence[Contender], draws: int, seed: int) -> TaskTable:
    there = [item for item in contenders if task in item.results]
    first = there[0].results[task]
    for item in there[1:]:
        _check_alike(task, there[0], item)
    start = contenders[0].name
    columns = {item.name: item.results[task].reordered(first.ids) for item in there}
    values = {
        item.name: _known(
            {**summarise(columns[item.name], first.figures, draws, seed), **item.results[task].given}
            if columns[item.name]
            else item.results[task].given
        )
        for item in there
    }
    gains = {
        item.name: _known(_gains(first.figures, columns, values, start, item.name, draws, seed))
        for item in there
        if start in columns and item.name != start
    }
    order = list(dict.fromkeys([first.headline, *(name for own in values.values() for name in own)]))
    lines = [
        Line(
            figure,
            scale_of(
                first.metric,
                figure,
                [own[figure].value for own in values.values() if figure in own],
                first.conditions.get("metric options", {}).get("lower", ()),
            ),
            tuple(values.get(item.name, {}).get(figure) for item in contenders),
            tuple(gains.get(item.name, {}).get(figure) for item in contenders),
        )
        for figure in order
    ]
    facts = tuple(item.results[task].facts if task in item.results else {} for item in contenders)
    return TaskTable(task, first.headline, tuple(lines), first.conditions, facts)


def _gains(
    figures: Callable[[Columns], Figures],
    columns: Mapping[str, Columns],
    values: Mapping[str, Mapping[str, Figure]],
    start: str,
    name: str,
    draws: int,
    seed: int,
) -> dict[str, Figure]:
    """A model's figures minus those of the first one; figures that were given have no interval."""
    paired = compare(columns[start], columns[name], figures, draws, seed) if columns[name] and columns[start] else {}
    before, after = values[start], values[name]
    given = {
        figure: Figure(after[figure].value - before[figure].value, None)
        for figure in after
        if figure in before and figure not in paired
    }
    return {**paired, **given}


def _known(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    """Figures that have a value: one of a category without items has none."""
    return {name: found for name, found in figures.items() if not isnan(found.value)}


def _check_alike(task: str, one: Contender, other: Contender) -> None:
    """Sees that two results of a task can be compared item by item."""
    first, second = one.results[task], other.results[task]
    for name in first.conditions:
        ours, theirs = first.conditions[name], second.conditions.get(name)
        if ours != theirs and name != ITEMS:
            raise CompareError(
                f"Task {task}: {one.name} has {name} {ours!r}, {other.name} has {theirs!r}. "
                f"Only results of the same {name} can be compared: {one.folder}, {other.folder}."
            )
    if set(first.ids) != set(second.ids):
        lacking = [id for id in first.ids if id not in set(second.ids)]
        more = [id for id in second.ids if id not in set(first.ids)]
        parts = [
            f"{len(ids)} items only in {name} (such as {ids[0]!r})"
            for ids, name in ((lacking, one.name), (more, other.name))
            if ids
        ]
        raise CompareError(
            f"Task {task}: {one.folder} and {other.folder} have other items: {', '.join(parts)}. Evaluate both on the "
            "same items (the same data and --limit)."
        )
    if first.conditions.get(ITEMS) != second.conditions.get(ITEMS):
        raise CompareError(
            f"Task {task}: {one.folder} and {other.folder} have items of the same names, but with other questions or "
            "answers: the data has changed in between. Evaluate both on the same data."
        )
