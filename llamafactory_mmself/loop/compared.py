# SPDX-License-Identifier: Apache-2.0
"""Rounds of runs as contenders of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluate.answers import Score, score
from ..evaluate.metrics.base import PARSED, Columns, Figures, Metric
from ..evaluate.results import SCORES, CompareError, Contender, Result, read_results
from ..files import digest
from .rounds import TASKS
from .view import CORRECTIONS, IterationView, RunView, read_run


HELD_OUT = "held-out questions"  # the task of a run's own test data
CATEGORY = "category"  # column of the category's number; figures of categories follow from it


def read_contender(name: str, folder: Path, metric: Callable[..., Metric] | None = None) -> Contender:
    """What a folder says of a model: results of `mmself eval`, or a round of `mmself loop`.

    Args:
        name: the model's name in the comparison.
        folder: an output folder of `mmself eval` or a task's folder in it; a run of `mmself loop`, which stands for
            its last tested round; or `RUN/iter<number>`.
        metric: see `read_results`.

    Raises:
        CompareError: the folder holds no results.
        FileError: a file is damaged.
    """
    if (folder / "run.json").is_file():
        return Contender(name, folder, _last_round(folder, metric))
    if folder.name.startswith("iter") and (folder.parent / "run.json").is_file():
        run = read_run(folder.parent)
        for view in run.iterations:
            if f"iter{view.number}" == folder.name:
                return Contender(name, folder, _round(run, view, metric))
    return Contender(name, folder, read_results(folder, metric))


def _last_round(folder: Path, metric: Callable[..., Metric] | None) -> dict[str, Result]:
    run = read_run(folder)
    for view in reversed(run.iterations):
        if found := _round(run, view, metric):
            return found
    raise CompareError(f"{folder}: no round has been tested yet. Give the recipe test_data or evaluate.tasks.")


def _round(run: RunView, view: IterationView, metric: Callable[..., Metric] | None) -> dict[str, Result]:
    """The round's held-out questions, and the tasks that it was evaluated on."""
    place = run.folder / f"iter{view.number}"
    found = {}
    if view.scores and "test_greedy" in view.answers:
        found[HELD_OUT] = _held_out(run, view)
    if any((place / TASKS).glob(f"*/{SCORES}")):
        found |= read_results(place / TASKS, metric)
    return found


def _held_out(run: RunView, view: IterationView) -> Result:
    """The answers to the run's own test questions, as its `score` step counted them."""
    path = Path(str(run.settings.get("test_data")))
    if not run.questions:
        raise CompareError(f"{run.folder}: its questions {path} are gone, or pictures of them; put them back.")
    flat = {purpose: [item for group in groups.values() for item in group] for purpose, groups in view.answers.items()}
    scores = score(
        run.questions,
        greedy=flat["test_greedy"],
        samples=flat.get("test_samples"),
        select=flat.get("test_select"),
        corrected=[items for purpose, items in flat.items() if purpose.startswith(CORRECTIONS)],
        profile=str(run.settings["verifier"]),
        seed=int(run.settings.get("seed", 0)),
    ).named()
    first = next(iter(scores.values()))
    labels = sorted({str(item.extra["category"]) for item in run.questions if "category" in item.extra})
    columns = {name: np.asarray(item.right, dtype=np.float64) for name, item in scores.items()}
    columns[PARSED] = np.asarray(first.parsed, dtype=np.float64)
    numbers = {label: number for number, label in enumerate(labels)}
    columns[CATEGORY] = np.array([numbers.get(str(item.extra.get("category")), -1) for item in run.questions], float)
    conditions = {
        "verifier": f"{first.profile} v{first.version}",
        "questions": digest(path),
        "methods": ", ".join(scores),
    }
    return Result(
        HELD_OUT,
        "accuracy",
        conditions,
        tuple(item.id for item in run.questions),
        columns,
        _Shares(tuple(scores), tuple(labels)),
        first.name,
        _facts(run, view, first),
    )


def _facts(run: RunView, view: IterationView, first: Score) -> dict[str, Any]:
    sampled = view.figures.get("test_greedy", {})
    values = {"n": first.n, "unparsed": first.unparsed, "cut": sampled.get("cut"), "seed": first.seed}
    return {**values, "policy": f"{run.folder.name}/iter{view.number}"}


class _Shares:
    """Accuracy of each method, and of the first one by category, in percent."""

    def __init__(self, methods: tuple[str, ...], labels: tuple[str, ...]) -> None:
        self.methods = methods
        self.labels = labels

    def __call__(self, columns: Columns) -> Figures:
        shares = {name: 100 * float(columns[name].mean()) for name in self.methods}
        first = columns[self.methods[0]]
        for number, label in enumerate(self.labels):
            own = first[columns[CATEGORY] == number]
            shares[f"{self.methods[0]}/{label}"] = 100 * float(own.mean()) if len(own) else float("nan")
        return shares
