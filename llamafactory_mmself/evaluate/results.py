# SPDX-License-Identifier: Apache-2.0
"""What models reached, as `mmself eval` leaves it: columns of numbers, one an item, and how they become figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..files import FileError, read_json
from .metrics.base import Columns, Figure, Figures, Metric
from .scales import FOREIGN
from .stats import Interval


SCORES, COLUMNS = "scores.json", "columns.json"
ITEMS = "items"  # the condition that tells questions and answers by their digest


class CompareError(ValueError):
    """Results that cannot be compared, with task, folders and what to do."""


@dataclass(frozen=True)
class Result:
    """What one model reached in one task.

    Attributes:
        task: the task's name.
        metric: the metric's name.
        conditions: what has to be the same for a comparison: name -> value; `task version`, `metric`, ...
        ids: the items.
        columns: one number an item and column, in the order of `ids`.
        figures: columns -> figures.
        headline: the figure that stands for the task.
        facts: what else is worth telling: n, unparsed, cut, seed, prompt, policy.
        given: figures that somebody else computed and that do not follow from columns.
    """

    task: str
    metric: str
    conditions: Mapping[str, Any]
    ids: tuple[str, ...]
    columns: Columns
    figures: Callable[[Columns], Figures]
    headline: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Figure] = field(default_factory=dict)

    def reordered(self, ids: Sequence[str]) -> Columns:
        """The columns in another order of the same items."""
        places = {id: place for place, id in enumerate(self.ids)}
        order = np.array([places[id] for id in ids], dtype=np.intp)
        return {name: column[order] for name, column in self.columns.items()}


@dataclass(frozen=True)
class Contender:
    """A model that is compared.

    Attributes:
        name: in tables and plots.
        folder: where its results lie.
        results: task -> result.
    """

    name: str
    folder: Path
    results: Mapping[str, Result]


def read_results(folder: Path, metric: Callable[..., Metric] | None = None) -> dict[str, Result]:
    """The results of all tasks in an output folder of `mmself eval`, or of the one task that the folder is.

    Args:
        folder: the output folder, or one task's folder in it.
        metric: name and options -> metric; by default the metrics of this package.

    Raises:
        CompareError: there are no results, or they were scored with another version of a metric.
        FileError: a file is damaged.
    """
    own = [folder] if (folder / SCORES).is_file() else sorted(path.parent for path in folder.glob(f"*/{SCORES}"))
    if not own and (turns := sorted(path.name for path in folder.glob("turn*") if path.is_dir())):
        raise CompareError(f"{folder} has results of several turns of correction: name one, {folder / turns[-1]}.")
    if not own:
        raise CompareError(
            f"{folder} holds no results: there is no {SCORES} in it or in a folder of it. Give an output folder of "
            "`mmself eval`, or a run of `mmself loop`."
        )
    found = [_read(path, metric or _installed) for path in own]
    return {result.task: result for result in found}


def _installed(name: str, **options: Any) -> Metric:
    if name == FOREIGN:
        from .bridges.lmms_eval import Means

        return Means(**options)
    from .metrics import metric

    return metric(name, **options)


def _given(figures: Mapping[str, Any], columns: Columns) -> dict[str, Figure]:
    """The figures of another harness that do not follow from columns."""
    return {
        name: Figure(found["value"], None if found["low"] is None else Interval(found["low"], found["high"]))
        for name, found in figures.items()
        if name not in columns
    }


def _read(folder: Path, metric: Callable[..., Metric]) -> Result:
    path = folder / SCORES
    scores, stored = read_json(path), read_json(folder / COLUMNS)
    try:
        spec = scores["metric"]
        scorer = metric(spec["name"], **spec.get("options", {}))
        ids = tuple(stored["ids"])
        columns = {name: np.asarray(values, dtype=np.float64) for name, values in stored["columns"].items()}
        task, version, judge = scores["task"], scores["version"], scores.get("judge")
        headline = scores["headline"]
        given = _given(scores["figures"], columns) if spec["name"] == FOREIGN else {}
        facts = {name: scores.get(name) for name in ("n", "unparsed", "cut", "seed", "prompt", "policy")}
    except (KeyError, TypeError) as error:
        raise FileError(f"{path} is no result of `mmself eval`: {error!r}. Score again: the same command.") from error
    if scorer.version != spec["version"]:
        raise CompareError(
            f"{path} was scored with version {spec['version']} of metric {spec['name']}; this is version "
            f"{scorer.version}. Score it again: `mmself eval --rescore`."
        )
    if any(len(column) != len(ids) for column in columns.values()):
        raise FileError(f"{folder / COLUMNS}: a column has another length than the {len(ids)} ids. Score again.")
    conditions = {
        "task version": version,
        "metric": f"{spec['name']} v{spec['version']}",
        "metric options": spec.get("options", {}),
        "judge": judge,
        ITEMS: scores.get("items"),
    }
    return Result(task, spec["name"], conditions, ids, columns, scorer.figures, headline, facts, given)
