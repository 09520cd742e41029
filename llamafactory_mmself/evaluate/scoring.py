# SPDX-License-Identifier: Apache-2.0
"""From answers to numbers in files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import write_json, write_text
from .metrics.base import PARSED, Answer, Column, Figure, Item, Metric, summarise
from .metrics.judged import Judged
from .predictions import Prediction
from .results import COLUMNS, SCORES
from .submission import FORMS, Submission
from .tasks.task import Task
from .verdicts import Judging


@dataclass(frozen=True)
class Scored:
    """What a model reached in a task.

    Attributes:
        task: the task.
        folder: where the result is written.
        metric: the metric's name; None where answers are scored elsewhere.
        headline: the figure that stands for the task.
        figures: all figures, with intervals.
        facts: what stands in `scores.json` beside them.
        submission: the file for the server that scores the answers instead.
    """

    task: Task
    folder: Path
    metric: str | None
    headline: str | None
    figures: Mapping[str, Figure]
    facts: Mapping[str, Any]
    submission: Submission | None = None


def score(
    task: Task,
    metric: Metric | None,
    options: Mapping[str, Any],
    items: Sequence[Item],
    predictions: Sequence[Prediction],
    folder: Path,
    facts: Mapping[str, Any],
    judging: Judging,
) -> Scored:
    """Scores predictions; writes `columns.json` and `scores.json` into a folder, or the file for who scores them.

    Args:
        task: the task.
        metric: scores it; None where answers are scored elsewhere.
        options: the metric's, as the task file has them.
        items: what was asked.
        predictions: one for each item, in the same order.
        folder: of the results.
        facts: what `scores.json` tells beside the figures: `seed` and `draws` of the bootstrap among them.
        judging: where a judge's verdicts are, for metrics that ask one.

    Raises:
        MetricError: an item lacks what the metric needs.
        VerdictError: a verdict is missing.
    """
    judge: dict[str, Any] | None = None
    verdicts: Sequence[str | None] = [None] * len(items)
    scorer: object = metric
    if isinstance(scorer, Judged):
        verdicts, judge = judging.verdicts(scorer, items, predictions)
    told: dict[str, Any] = {
        "task": task.name,
        "version": task.version,
        "metric": None,
        "n": len(items),
        "unparsed": None,
        "cut": sum(prediction.cut for prediction in predictions),
        "judge": judge,
        **facts,
    }
    figures: dict[str, Figure] = {}
    if metric is not None:
        answers = [
            Answer(item, each.text, verdict) for item, each, verdict in zip(items, predictions, verdicts, strict=True)
        ]
        columns = metric.columns(answers)
        figures = summarise(columns, metric.figures, draws=facts["draws"], seed=facts["seed"])
        told["unparsed"] = int(len(items) - columns[PARSED].sum())
        told["metric"] = {"name": metric.name, "version": metric.version, "options": dict(options)}
        _write_columns(folder / COLUMNS, items, columns)
    told |= {
        "headline": None if metric is None else metric.headline,
        "figures": {name: figure_values(figure) for name, figure in figures.items()},
    }
    submission = None
    if metric is not None:
        write_json(folder / SCORES, told)
    elif task.submission is not None:
        submission = FORMS[task.submission](folder, items, predictions)
        told["unparsed"] = submission.unparsed
    return Scored(task, folder, None if metric is None else metric.name, told["headline"], figures, told, submission)


def figure_values(figure: Figure) -> dict[str, float | None]:
    """A figure as JSON has it: `value`, and the ends of its interval, `low` and `high`."""
    interval = figure.interval
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return {"value": finite(figure.value), "low": finite(low), "high": finite(high)}


def finite(value: float | None) -> float | None:
    """The value as JSON has it, which knows no NaN: what could not be computed is None."""
    return value if value is not None and math.isfinite(value) else None


def _write_columns(path: Path, items: Sequence[Item], columns: Mapping[str, Column]) -> None:
    import json

    lines = [f'  "ids": {json.dumps([item.id for item in items], ensure_ascii=False)}']
    values = {name: [finite(float(value)) for value in column] for name, column in columns.items()}
    inner = ",\n".join(
        f"    {json.dumps(name, ensure_ascii=False)}: {json.dumps(each)}" for name, each in values.items()
    )
    write_text(path, "{\n" + ",\n".join([*lines, '  "columns": {\n' + inner + "\n  }"]) + "\n}\n")
