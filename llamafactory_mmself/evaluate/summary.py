# SPDX-License-Identifier: Apache-2.0
"""What several tasks gave, as a table in Markdown and as JSON; and which tasks there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, nan
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..files import read_json, write_json, write_text
from .benchmark import TURN, Outcome, Settings
from .metrics.base import Figure
from .metrics.indexes import SHERLOCK, sherlock_average
from .results import SCORES
from .scales import scale_of
from .scoring import Scored
from .tasks.task import Task


SUMMARY = "summary"
_AVERAGE = "Sherlock's average of eight benchmarks, MME / 28"


def write_summary(outcome: Outcome, settings: Settings) -> str:
    """Writes `summary.json` and `summary.md`; returns the text of the latter.

    Raises:
        FileError: a file cannot be written, or the scores of an earlier run in the folder are damaged.
    """
    averages = _averages(outcome, settings.out)
    write_json(
        settings.out / f"{SUMMARY}.json",
        {
            "tasks": [_entry(item) for item in outcome.scored],
            "averages": averages,
            "not_run": dict(outcome.not_run),
            "seed": settings.seed,
            "limit": settings.limit,
            "command": settings.command,
        },
    )
    text = markdown(outcome, settings, averages)
    write_text(settings.out / f"{SUMMARY}.md", text)
    return text


def markdown(outcome: Outcome, settings: Settings, averages: Mapping[str, float] = MappingProxyType({})) -> str:
    """The table, of a task alone all its figures, with what its numbers hold for, and what was not run.

    Args:
        outcome: what came of running tasks.
        settings: how they were run.
        averages: numbers over several tasks, by their names.
    """
    header = ["task", "figure", "value", "95 %", "n", "unparsed", "cut"]
    rows = [[_name(item), *_cells(item)] for item in outcome.scored]
    parts = ["\n".join(_table(header, rows))] if rows else []
    if len(outcome.scored) == 1 and (more := _further(outcome.scored[0])):
        parts.append("\n".join(_table(["figure", "value", "95 %"], more)))
    parts += [f"{name}: {value:.2f}" for name, value in averages.items()]
    if rows:
        parts.append(_note(settings))
    parts += [
        f"{item.submission.file} is for the server of {item.task.title}; answers that no letter could be read from "
        f"stand in it as the model said them ({item.submission.unparsed})."
        for item in outcome.scored
        if item.submission is not None
    ]
    if outcome.not_run:
        first = {name: why.partition("\n")[0] for name, why in outcome.not_run.items()}  # the rest was told on the way
        reasons = (f"- {name}: {why}" for name, why in first.items())
        parts += ["Not run:", "\n".join(reasons)]
    return "\n\n".join(parts) + "\n"


def _note(settings: Settings) -> str:
    """What the numbers of the table hold for."""
    notes = [
        f"Intervals: bootstrap over questions, {settings.draws} draws, seed {settings.seed}."
        if settings.draws
        else "Without intervals, because of --draws 0.",
        "Unparsed answers are counted as each task says; cut ones reached the limit of tokens.",
    ]
    if settings.limit is not None:
        notes.insert(1, f"Only the first {settings.limit} questions of each task were asked.")
    return " ".join(notes)


def _averages(outcome: Outcome, out: Path) -> dict[str, float]:
    """Numbers over the benchmarks that were run and those that the same model has in the folder, if all are there."""
    found = {}
    for turn in dict.fromkeys(item.facts["turn"] for item in outcome.scored):
        own = [item for item in outcome.scored if item.facts["turn"] == turn]
        row = _earlier(out if turn is None else out / f"{TURN}{turn}", own[0].facts)
        row |= {
            item.task.name: item.figures[item.headline].value
            for item in own
            if item.headline and item.task.name in SHERLOCK
        }
        if all(isfinite(row.get(task, nan)) for task in SHERLOCK):
            found[_AVERAGE if turn is None else f"{_AVERAGE}, turn {turn}"] = sherlock_average(row)
    return found


def _earlier(folder: Path, facts: Mapping[str, Any]) -> dict[str, float]:
    """Headlines of earlier runs in a folder, of the same model on as many items."""
    row = {}
    for task in SHERLOCK:
        file = folder / task / SCORES
        if file.is_file():
            scores = read_json(file)
            alike = all(scores.get(name) == facts[name] for name in ("policy", "limit"))
            value = scores.get("figures", {}).get(scores.get("headline"), {}).get("value")
            if alike and isinstance(value, int | float):
                row[task] = float(value)
    return row


def listing(tasks: Sequence[Task], data: Path | None) -> str:
    """The tasks with their groups, and what of their files is there."""
    rows = []
    for task in tasks:
        rows.append([task.name, task.group, ", ".join(task.needs) or "–", task.title, _files(task, data)])
    files = "folder" if data is None else f"files in {data}"
    hint = ["", "--data DIR, a folder with these folders, tells what of their files is there."] if data is None else []
    return "\n".join([*_table(["task", "group", "needs", "benchmark", files], rows), *hint])


def _files(task: Task, data: Path | None) -> str:
    """What of a task's files is there; without data, the folder that it wants."""
    if data is None:
        return f"DIR/{task.folder}"
    own = data / task.folder
    found = task.found(own if own.is_dir() else data)
    missing = [entry.replace(" | ", " or ") for entry, is_there in found if not is_there]
    if missing and not own.is_dir():
        return f"no folder {task.folder}"
    return "all there" if not missing else f"missing: {'; '.join(missing)}"


def _entry(item: Scored) -> dict[str, Any]:
    facts = item.facts
    head = facts["figures"].get(item.headline, {"value": None, "low": None, "high": None})
    names = ("turn", "n", "unparsed", "cut", "policy")
    return {"task": item.task.name, "headline": item.headline, **head, **{name: facts[name] for name in names}}


def _name(item: Scored) -> str:
    turn = item.facts["turn"]
    return item.task.name if turn is None else f"{item.task.name}, turn {turn}"


def _cells(item: Scored) -> list[str]:
    facts = item.facts
    counts = [str(facts["n"]), "–" if facts["unparsed"] is None else str(facts["unparsed"]), str(facts["cut"])]
    if item.headline is None or item.metric is None:
        return ["predictions only", "–", "–", *counts]
    return [item.headline, *_value(item.metric, item.headline, item.figures[item.headline]), *counts]


def _further(item: Scored) -> list[list[str]]:
    """The figures of a task beside its headline; those of categories without items are left out."""
    return [
        [name, *_value(item.metric, name, figure)]
        for name, figure in item.figures.items()
        if item.metric is not None and name != item.headline and isfinite(figure.value)
    ]


def _value(metric: str, name: str, figure: Figure) -> list[str]:
    """A figure and its interval, as tables show them."""
    scale, interval = scale_of(metric, name), figure.interval
    span = "–" if interval is None else f"{scale.text(interval.low)} to {scale.text(interval.high)}"
    return [scale.text(figure.value), span]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown with columns that line up."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
