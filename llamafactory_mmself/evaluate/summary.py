# SPDX-License-Identifier: Apache-2.0
"""What several tasks gave, as a table in Markdown and as JSON; and which tasks there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import write_json, write_text
from .benchmark import Outcome, Settings
from .scales import scale_of
from .scoring import Scored
from .tasks.task import Task


SUMMARY = "summary"


def write_summary(outcome: Outcome, settings: Settings) -> str:
    """Writes `summary.json` and `summary.md`; returns the text of the latter."""
    write_json(
        settings.out / f"{SUMMARY}.json",
        {
            "tasks": [_entry(item) for item in outcome.scored],
            "not_run": dict(outcome.not_run),
            "seed": settings.seed,
            "limit": settings.limit,
            "command": settings.command,
        },
    )
    text = markdown(outcome, settings)
    write_text(settings.out / f"{SUMMARY}.md", text)
    return text


def markdown(outcome: Outcome, settings: Settings) -> str:
    """The table, with what its numbers hold for, and what was not run."""
    header = ["task", "figure", "value", "95 %", "n", "unparsed", "cut"]
    rows = [[_name(item), *_cells(item)] for item in outcome.scored]
    lines = _table(header, rows) if rows else []
    if rows:
        note = f"Intervals: bootstrap over questions, {settings.draws} draws, seed {settings.seed}."
        limit = (
            "" if settings.limit is None else f" Only the first {settings.limit} questions of each task were asked."
        )
        lines += [
            "",
            f"{note}{limit} Unparsed answers are counted as each task says; cut ones reached the limit of tokens.",
        ]
    if outcome.not_run:
        lines += ["", "Not run:", "", *(f"- {name}: {why}" for name, why in outcome.not_run.items())]
    return "\n".join(lines) + "\n"


def listing(tasks: Sequence[Task], data: Path | None) -> str:
    """The tasks with their groups, and what of their files is there."""
    rows = []
    for task in tasks:
        if data is None:
            there = "--data is not given"
        else:
            own = data / task.folder
            found = task.found(own if own.is_dir() else data)
            missing = [entry for entry, is_there in found if not is_there]
            there = "all there" if not missing else f"missing: {'; '.join(missing)}"
            if missing and not own.is_dir():
                there = f"no folder {task.folder}"
        rows.append([task.name, task.group, ", ".join(task.needs) or "–", task.title, there])
    return "\n".join(_table(["task", "group", "needs", "benchmark", "files"], rows))


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
    figure, scale = item.figures[item.headline], scale_of(item.metric, item.headline)
    interval = figure.interval
    span = "–" if interval is None else f"{scale.text(interval.low)} to {scale.text(interval.high)}"
    return [item.headline, scale.text(figure.value), span, *counts]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown with columns that line up."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
