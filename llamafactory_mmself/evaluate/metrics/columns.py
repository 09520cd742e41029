# SPDX-License-Identifier: Apache-2.0
"""What metrics share: reading an item's truth, categories as columns, groups of items, means and shares."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Literal

import numpy as np

from ... import verify
from .base import GROUP, Answer, Column, Columns, Item, MetricError


# What is done where a published scorer has a defect: right, or as published.
Quirks = Literal["fixed", "published"]
Keys = str | Sequence[str]  # keys of the truth that say in which categories an item is

PART = "part:"  # the columns of categories: 1 for the items that are in it


def need(item: Item, key: str, what: str) -> Any:
    """What an item's truth has under a key.

    Raises:
        MetricError: it has nothing there.
    """
    value = item.truth.get(key)
    if value is None:
        raise MetricError(f"Item {item.id!r} has no {key!r} in its truth: {what} is needed.")
    return value


def check_quirks(quirks: str) -> None:
    """Refuses anything but the two ways.

    Raises:
        MetricError: another word.
    """
    if quirks not in ("fixed", "published"):
        raise MetricError(f"quirks is 'fixed' or 'published', not {quirks!r}.")


def versioned(own: int, *profiles: str) -> int:
    """The version of a metric that reads answers with verification profiles: it rises with theirs, too."""
    return own + sum(verify.profile(name).version for name in profiles)


def column(values: Iterable[float]) -> Column:
    """Numbers as a column; booleans become 0 and 1."""
    return np.asarray(values if isinstance(values, np.ndarray) else list(values), dtype=np.float64)


def parts(answers: Sequence[Answer], keys: Keys) -> dict[str, Column]:
    """A column for each category.

    Args:
        answers: their items' truths say the categories; a list means several of them, a missing key none.
        keys: with one key, categories are called by their value; with several, `key=value`.
    """
    names = (keys,) if isinstance(keys, str) else tuple(keys)
    found: dict[str, list[int]] = {}
    for place, answer in enumerate(answers):
        for key in names:
            for value in _several(answer.item.truth.get(key)):
                found.setdefault(str(value) if len(names) == 1 else f"{key}={value}", []).append(place)
    return {PART + name: _marked(len(answers), found[name]) for name in sorted(found)}


def by_part(columns: Columns, compute: Callable[[Columns], dict[str, float]]) -> dict[str, float]:
    """Figures of all items, and each of them for each category, as `figure/category`; NaN for one without items."""
    values = {name: values for name, values in columns.items() if not name.startswith(PART) and name != GROUP}
    figures = compute(values)
    for name, inside in columns.items():
        if name.startswith(PART):
            chosen = inside > 0
            some = {key: column[chosen] for key, column in values.items()}
            of_part = compute(some) if chosen.any() else dict.fromkeys(figures, float("nan"))
            figures |= {f"{figure}/{name.removeprefix(PART)}": value for figure, value in of_part.items()}
    return figures


def groups(answers: Sequence[Answer], key: Callable[[Item], Hashable] | None = None) -> dict[str, Column]:
    """The column of groups, or no column where each item is alone.

    Args:
        answers: whose items are grouped.
        key: what items of a group have in common; by default their pictures, if they have any.
    """
    keys = [(key or _pictures)(answer.item) for answer in answers]
    numbers: dict[Hashable, int] = {}
    codes = [numbers.setdefault(value, len(numbers)) for value in keys]
    return {} if len(numbers) == len(codes) else {GROUP: column(codes)}


def together(right: Column, keys: Sequence[Hashable]) -> tuple[Column, Column]:
    """Whether all items of each item's group are right, and 1 / size of the group.

    The mean of the first with the second as weights is the share of groups that are wholly right, for draws of whole
    groups, too.
    """
    numbers: dict[Hashable, int] = {}
    codes = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.intp)
    size = np.bincount(codes, minlength=len(numbers))
    hits = np.bincount(codes, weights=right, minlength=len(numbers))
    return np.asarray(hits == size, dtype=np.float64)[codes], (1 / size)[codes] if len(codes) else column(())


def mean(values: Column, weights: Column | None = None) -> float:
    """The mean, weighted if there are weights; NaN over nothing."""
    total = len(values) if weights is None else float(weights.sum())
    if not total:
        return float("nan")
    return float(values.sum() if weights is None else (values * weights).sum()) / total


def share(part: float, whole: float) -> float:
    """Percent of a whole; 0 of nothing."""
    return 100.0 * float(part) / float(whole) if whole else 0.0


def harmonic(first: float, second: float) -> float:
    """The harmonic mean, as F1 is of precision and recall; 0 where both are."""
    return 2 * first * second / (first + second) if first + second else 0.0


def _several(value: Any) -> tuple[Any, ...]:
    if value is None or value == "":
        return ()
    return tuple(dict.fromkeys(value)) if isinstance(value, list | tuple | set | frozenset) else (value,)


def _marked(size: int, places: Sequence[int]) -> Column:
    marks = np.zeros(size)
    marks[list(places)] = 1
    return marks


def _pictures(item: Item) -> Hashable:
    return item.images or item.id
