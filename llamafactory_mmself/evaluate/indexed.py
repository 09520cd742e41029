# SPDX-License-Identifier: Apache-2.0
"""The papers' numbers over several benchmarks, for models whose results have all of them.

Each is a function of headline figures (`metrics.indexes`). One that a model's results have a part of is told together
with the benchmarks that are missing; one that no model has any benchmark of is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from types import MappingProxyType
from typing import Literal

from .metrics.base import MetricError, percentiles
from .metrics.indexes import GENERAL, HRI, SHERLOCK, general_difference, hri, sherlock_average
from .stats import Interval


HRI_NAME = "HRI"
Row = Mapping[str, float]  # task -> its headline figure
Drawn = Mapping[str, Sequence[float]]  # task -> its headline figure in each draw of its items
Value = Callable[[Row, Row, Row], float]  # (a model's row, the base's, the reference's) -> the index


@dataclass(frozen=True)
class Index:
    """A number over several benchmarks.

    Attributes:
        name: of the index.
        values: one a model; None where benchmarks are missing.
        intervals: 95 % of each value, from a bootstrap of all its benchmarks; None without one.
        missing: what keeps it from being computed, one text for each reason.
    """

    name: str
    values: tuple[float | None, ...]
    intervals: tuple[Interval | None, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reference:
    """The row that has an HRI of 10.

    Attributes:
        name: the user's.
        folder: where its results lie.
        row: its figures.
    """

    name: str
    folder: str
    row: Row


def indexes(
    names: Sequence[str],
    rows: Sequence[Row],
    reference: Reference | None = None,
    drawn: Sequence[Drawn] = (),
    drawn_reference: Drawn | None = None,
) -> tuple[Index, ...]:
    """All indexes of models; the first one is the base of HRI and of the general difference.

    Args:
        names: of the models.
        rows: their headline figures.
        reference: of HRI, which is not computed without one.
        drawn: the models' headline figures in each draw of a bootstrap, the same items for all; tasks may be missing.
        drawn_reference: those of the reference.

    Raises:
        MetricError: reference and base are equal on a benchmark.
    """
    found = []
    if _touched(HRI, rows) or reference is not None:
        found.append(_hri(names, rows, reference, drawn, drawn_reference or {}))
    if _touched(GENERAL, rows):
        mean, total = _general("mean"), _general("sum")
        found.append(_index("general difference, mean", GENERAL, names, rows, mean, drawn, needs_base=True))
        found.append(_index("general difference, sum", GENERAL, names, rows, total, drawn, needs_base=True))
    if _touched(SHERLOCK, rows):
        found.append(_index("Sherlock's average", SHERLOCK, names, rows, _average, drawn))
    return tuple(found)


def _general(how: Literal["mean", "sum"]) -> Value:
    return lambda row, base, reference: general_difference(row, base, how)


def _average(row: Row, base: Row, reference: Row) -> float:
    return sherlock_average(row)


def _hri(
    names: Sequence[str],
    rows: Sequence[Row],
    reference: Reference | None,
    drawn: Sequence[Drawn],
    drawn_reference: Drawn,
) -> Index:
    nothing = (None,) * len(rows)
    if reference is None:
        return Index(HRI_NAME, nothing, nothing, ("no reference row: give --reference FOLDER",))
    if lacking := lacks(HRI, reference.row):
        return Index(HRI_NAME, nothing, nothing, (f"the reference, {reference.name}, lacks {lacking}",))
    return _index(HRI_NAME, HRI, names, rows, hri, drawn, True, reference.row, drawn_reference)


def _index(
    name: str,
    tasks: Sequence[str],
    names: Sequence[str],
    rows: Sequence[Row],
    value: Value,
    drawn: Sequence[Drawn],
    needs_base: bool = False,
    reference: Row = MappingProxyType({}),
    drawn_reference: Drawn | None = None,
) -> Index:
    lacking = [lacks(tasks, row) for row in rows]
    missing = tuple(f"{model} lacks {text}" for model, text in zip(names, lacking, strict=True) if text)
    known = [not text and not (needs_base and lacking[0]) for text in lacking]
    values = tuple(value(row, rows[0], reference) if there else None for row, there in zip(rows, known, strict=True))
    base = drawn[0] if drawn and needs_base else None
    intervals = tuple(
        _interval(tasks, value, drawn[place], base, drawn_reference) if there and drawn else None
        for place, there in enumerate(known)
    )
    return Index(name, values, intervals, missing)


def _interval(
    tasks: Sequence[str], value: Value, own: Drawn, base: Drawn | None, reference: Drawn | None
) -> Interval | None:
    """The interval of an index over draws of all its benchmarks; None where one of them has no draws."""
    needed = [own, *(one for one in (base, reference) if one is not None)]
    if any(task not in one for one in needed for task in tasks):
        return None
    draws = len(own[tasks[0]])

    def row(of: Drawn | None, draw: int) -> dict[str, float]:
        return {} if of is None else {task: of[task][draw] for task in tasks}

    found = []
    for draw in range(draws):
        try:
            found.append(value(row(own, draw), row(base, draw), row(reference, draw)))
        except MetricError:  # in this draw reference and base are equal
            found.append(nan)
    return percentiles(found, 0.95) if found and not all(map(isnan, found)) else None


def lacks(tasks: Sequence[str], row: Row) -> str:
    """The benchmarks of an index that a row has no figure of, as text; empty if it has all."""
    return ", ".join(task for task in tasks if task not in row)


def _touched(tasks: Sequence[str], rows: Sequence[Row]) -> bool:
    return any(task in row for row in rows for task in tasks)
