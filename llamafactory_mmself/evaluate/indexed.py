# SPDX-License-Identifier: Apache-2.0
"""The papers' numbers over several benchmarks, for models whose results have all of them.

Each is a function of headline figures (`metrics.indexes`). One that a model's results have a part of is told together
with the benchmarks that are missing; one that no model has any benchmark of is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from .metrics.indexes import GENERAL, HRI, SHERLOCK, general_difference, hri, sherlock_average


HRI_NAME = "HRI"
Row = Mapping[str, float]  # task -> its headline figure


@dataclass(frozen=True)
class Index:
    """A number over several benchmarks.

    Attributes:
        name: of the index.
        values: one a model; None where benchmarks are missing.
        missing: what keeps it from being computed, one text for each reason.
    """

    name: str
    values: tuple[float | None, ...]
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


def indexes(names: Sequence[str], rows: Sequence[Row], reference: Reference | None = None) -> tuple[Index, ...]:
    """All indexes of models; the first one is the base of HRI and of the general difference.

    Args:
        names: of the models.
        rows: their headline figures.
        reference: of HRI, which is not computed without one.

    Raises:
        MetricError: reference and base are equal on a benchmark.
    """
    base = rows[0]
    found = []
    if _touched(HRI, rows) or reference is not None:
        found.append(_hri(names, rows, reference))
    if _touched(GENERAL, rows):
        mean, total = partial(general_difference, base=base), partial(general_difference, base=base, how="sum")
        found.append(_index("general difference, mean", GENERAL, names, rows, mean, needs_base=True))
        found.append(_index("general difference, sum", GENERAL, names, rows, total, needs_base=True))
    if _touched(SHERLOCK, rows):
        found.append(_index("Sherlock's average", SHERLOCK, names, rows, sherlock_average))
    return tuple(found)


def _hri(names: Sequence[str], rows: Sequence[Row], reference: Reference | None) -> Index:
    nothing = (None,) * len(rows)
    if reference is None:
        return Index(HRI_NAME, nothing, ("no reference row: give --reference FOLDER",))
    if lacking := lacks(HRI, reference.row):
        return Index(HRI_NAME, nothing, (f"the reference, {reference.name}, lacks {lacking}",))
    value = partial(hri, base=rows[0], reference=reference.row)
    return _index(HRI_NAME, HRI, names, rows, value, needs_base=True)


def _index(
    name: str,
    tasks: Sequence[str],
    names: Sequence[str],
    rows: Sequence[Row],
    value: Callable[[Row], float],
    needs_base: bool = False,
) -> Index:
    lacking = [lacks(tasks, row) for row in rows]
    missing = tuple(f"{model} lacks {text}" for model, text in zip(names, lacking, strict=True) if text)
    known = not (needs_base and lacking[0])
    values = tuple(value(row) if known and not text else None for row, text in zip(rows, lacking, strict=True))
    return Index(name, values, missing)


def lacks(tasks: Sequence[str], row: Row) -> str:
    """The benchmarks of an index that a row has no figure of, as text; empty if it has all."""
    return ", ".join(task for task in tasks if task not in row)


def _touched(tasks: Sequence[str], rows: Sequence[Row]) -> bool:
    return any(task in row for row in rows for task in tasks)
