# SPDX-License-Identifier: Apache-2.0
"""What a run has reached: a table for the terminal, plots, CSV, JSON and a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..evaluate.answers import percent, span, table
from ..evaluate.charts import LIGHT, Series, Theme, line_chart, save, stacked_bars
from ..evaluate.scales import scale_of
from ..evaluate.stats import Estimate, Interval
from ..files import write_json, write_text
from .view import IterationView, Reported, RunView, TaskScore, read_run


LABELS = {"test": "test", "correct": "corrected", "vote": "majority vote", "select": "self-select", "oracle": "oracle"}


def write_report(folder: Path) -> str:
    """Writes `<folder>/report/` from what the run has so far; returns the text for the terminal.

    Raises:
        LoopError: the folder is no run.
        FileError: a file of the run is damaged, or the report cannot be written.
    """
    from .pages import page

    run = read_run(folder)
    out = Path(folder) / "report"
    for name, figure in figures(run, LIGHT).items():
        save(figure, out / name)
    write_text(out / "table.csv", csv_text(run))
    write_json(out / "report.json", to_dict(run))
    write_text(out / "index.html", page(run))
    return f"{text(run)}\n{out / 'index.html'}"


def text(run: RunView) -> str:
    """The run as text: accuracy, training data, time."""
    if not run.iterations:
        return f"{run.folder}: nothing is finished yet." + _progress(run)
    parts = [f"{run.folder}{_progress(run)}"]
    if run.methods:
        header, rows = accuracy_table(run)
        parts += [table(header, rows), conditions(run)]
    if run.tasks:
        parts += [table(*task_table(run)), task_conditions(run)]
    if run.kinds:
        header = ["trained on", *run.kinds, "all"]
        parts.append(table(header, [_kind_row(view, run.kinds) for view in run.iterations if view.kinds]))
    if run.steps:
        header = ["seconds", *run.steps, "all"]
        parts.append(table(header, [_time_row(view, run.steps) for view in run.iterations if view.seconds]))
    return "\n\n".join(parts)


def accuracy_table(run: RunView) -> tuple[list[str], list[list[str]]]:
    """Header and rows: each round with accuracy, interval, unparsed answers and gain over the start."""
    header = ["iteration"]
    for method in run.methods:
        names = [view.scores[method].name for view in run.iterations if method in view.scores]
        header += [f"{names[0]} %", "95 %", "unparsed"]
    header += ["gain", "95 %"]
    rows = []
    for view in run.iterations:
        label = run.label(view.number)
        row = [f"iter{view.number}" + (f" ({label})" if label else "")]
        for method in run.methods:
            row += _score_cells(view.scores.get(method))
        rows.append([*row, *_gain_cells(view.gain)])
    return header, rows


def conditions(run: RunView) -> str:
    """What the numbers hold for: n, seed, verifier, how the intervals were found."""
    scores = [score for view in run.iterations for score in view.scores.values()]
    facts = sorted({f"n = {score.n}, seed {score.seed}, verifier {score.verifier}" for score in scores})
    outside = [
        f"iter{view.number} {percent(view.out_of_candidates)} %"
        for view in run.iterations
        if view.out_of_candidates is not None
    ]
    lines = [
        "; ".join(facts) + ". Unparsed answers count as wrong.",
        "Accuracy: Wilson interval. Gain of Test@1 over iter0 in points: paired bootstrap over questions.",
    ]
    if outside:
        lines.append(f"Selections that no candidate had: {', '.join(outside)}.")
    return "\n".join(lines)


def task_table(run: RunView) -> tuple[list[str], list[list[str]]]:
    """Header and rows: each round with the headline of each task, its interval and unparsed answers."""
    first = {task: next(view.tasks[task] for view in run.iterations if task in view.tasks) for task in run.tasks}
    header = ["iteration"]
    for task, score in first.items():
        header += [f"{task} {score.figure}", "95 %", "unparsed"]
    rows = []
    for view in run.iterations:
        row = [f"iter{view.number}"]
        for task in run.tasks:
            row += task_cells(view.tasks.get(task))
        rows.append(row)
    return header, rows


def task_cells(score: TaskScore | None) -> list[str]:
    """Value, interval and unparsed answers of a task."""
    if score is None:
        return ["–", "", ""]
    scale, ends = scale_of(score.metric, score.figure), score.interval
    span = "" if ends is None else f"{scale.text(ends.low)}–{scale.text(ends.high)}"
    return [scale.text(score.value), span, str(score.unparsed)]


def task_conditions(run: RunView) -> str:
    """What the tasks' numbers hold for."""
    facts = sorted({score.conditions for view in run.iterations for score in view.tasks.values()})
    compared = (
        "Intervals: bootstrap over items. To compare rounds in pairs: `mmself report --compare RUN/iter0 RUN/iter1`."
    )
    return "\n".join([*facts, compared])


def figures(run: RunView, theme: Theme) -> dict[str, Any]:
    """The charts that there are numbers for: accuracy, kinds, time."""
    charts: dict[str, Any] = {}
    if run.methods:
        charts["accuracy"] = line_chart(_series(run), "iteration", "accuracy, %", theme)
    if run.tasks:
        charts["tasks"] = line_chart(_task_series(run), "iteration", "headline, % of its scale", theme)
    trained = [view for view in run.iterations if view.kinds]
    if trained:
        parts = {kind: [float(view.kinds.get(kind, 0)) for view in trained] for kind in run.kinds}
        charts["kinds"] = stacked_bars([f"iter{view.number}" for view in trained], parts, "training examples", theme)
    timed = [view for view in run.iterations if view.seconds]
    if timed:
        parts = {step: [view.seconds.get(step, 0.0) for view in timed] for step in _long_steps(run)}
        rest = [sum(view.seconds.values()) - sum(part[at] for part in parts.values()) for at, view in enumerate(timed)]
        if max(rest) > 1e-6:
            parts["other"] = rest
        charts["time"] = stacked_bars([f"iter{view.number}" for view in timed], parts, "seconds", theme)
    return charts


def csv_text(run: RunView) -> str:
    """One line for each round and method, with everything that the number depends on."""
    buffer = io.StringIO()
    columns = ["iteration", "name", "accuracy", "low", "high", "n", "unparsed", "seed", "verifier"]
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*columns, "gain", "gain_low", "gain_high"])
    for view in run.iterations:
        for method in run.methods:
            if (item := view.scores.get(method)) is not None:
                line = [view.number, item.name, item.accuracy, item.interval.low, item.interval.high]
                gain = view.gain if method == "test" else None
                ends = ["", "", ""] if gain is None else [gain.value, gain.interval.low, gain.interval.high]
                writer.writerow([*line, item.n, item.unparsed, item.seed, item.verifier, *ends])
    return buffer.getvalue()


def to_dict(run: RunView) -> dict[str, Any]:
    """The report as JSON values."""
    return {
        "finished": run.finished,
        "current": run.current,
        "settings": dict(run.settings),
        "iterations": [
            {
                "iteration": view.number,
                "scores": {item.name: asdict(item) for item in view.scores.values()},
                "gain": None if view.gain is None else asdict(view.gain),
                "out_of_candidates": view.out_of_candidates,
                "tasks": {name: asdict(score) for name, score in view.tasks.items()},
                "kinds": dict(view.kinds),
                "seconds": dict(view.seconds),
                "figures": {name: dict(values) for name, values in view.figures.items()},
            }
            for view in run.iterations
        ],
    }


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * value:+.1f}"


def _series(run: RunView) -> list[Series]:
    lines = []
    for method in run.methods:
        found = [(view.number, view.scores[method]) for view in run.iterations if method in view.scores]
        lines.append(
            Series(
                found[0][1].name.replace(method, LABELS[method]),
                tuple(float(number) for number, _ in found),
                tuple(100 * item.accuracy for _, item in found),
                tuple(100 * item.interval.low for _, item in found),
                tuple(100 * item.interval.high for _, item in found),
            )
        )
    return lines


def _task_series(run: RunView) -> list[Series]:
    lines = []
    for task in run.tasks:
        found = [(view.number, view.tasks[task]) for view in run.iterations if task in view.tasks]
        scale = scale_of(found[0][1].metric, found[0][1].figure)
        spans = [item.interval or Interval(item.value, item.value) for _, item in found]
        ends = [sorted(100 * scale.share(end) for end in (span.low, span.high)) for span in spans]
        lines.append(
            Series(
                f"{task} {found[0][1].figure}",
                tuple(float(number) for number, _ in found),
                tuple(100 * scale.share(item.value) for _, item in found),
                tuple(low for low, _ in ends),
                tuple(high for _, high in ends),
            )
        )
    return lines


def _long_steps(run: RunView, most: int = 6) -> list[str]:
    """The steps that took longest, in the order of the run."""
    whole = {step: sum(view.seconds.get(step, 0.0) for view in run.iterations) for step in run.steps}
    longest = sorted(whole, key=lambda step: -whole[step])[:most]
    return [step for step in run.steps if step in longest]


def _score_cells(item: Reported | None) -> list[str]:
    return ["–", "", ""] if item is None else [percent(item.accuracy), span(item.interval), str(item.unparsed)]


def _gain_cells(gain: Estimate | None) -> list[str]:
    if gain is None:
        return ["–", ""]
    return [points(gain.value), f"{points(gain.interval.low)} to {points(gain.interval.high)}"]


def _kind_row(view: IterationView, kinds: Sequence[str]) -> list[str]:
    return [f"iter{view.number}", *(str(view.kinds.get(kind, 0)) for kind in kinds), str(sum(view.kinds.values()))]


def _time_row(view: IterationView, steps: Sequence[str]) -> list[str]:
    seconds: Mapping[str, float] = view.seconds
    cells = [f"{seconds[step]:.1f}" if step in seconds else "–" for step in steps]
    return [f"iter{view.number}", *cells, f"{sum(seconds.values()):.1f}"]


def _progress(run: RunView) -> str:
    if run.finished:
        return ", finished"
    return f", at {run.current}" if run.current else ", not finished"
