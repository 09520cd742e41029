# SPDX-License-Identifier: Apache-2.0
"""A comparison as text for the terminal, as Markdown and as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .answers import table
from .compare import Comparison, Line, TaskTable
from .indexed import HRI_NAME
from .metrics.base import Figure
from .scales import Scale


NOTE = (
    "Differences are to {first}, from a paired bootstrap over items ({draws} draws, seed {seed}); intervals are 95 %."
)


def text(found: Comparison) -> str:
    """The headline of every task and the indexes, for the terminal."""
    parts = [table(*headlines(found)), note(found)]
    if found.indexes:
        parts += [table(*index_rows(found)), "\n".join(index_notes(found))]
    return "\n\n".join(part for part in parts if part)


def note(found: Comparison) -> str:
    """How the numbers came about."""
    return NOTE.format(first=found.names[0], draws=found.draws, seed=found.seed)


def headlines(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows: each task with its headline."""
    return _header("task", found.names), [
        [f"{item.task}: {item.headline}{_arrow(item.head.scale)}", *_cells(item.head)] for item in found.tables
    ]


def figure_rows(found: Comparison, lines: Sequence[Line], first: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows: each line with what all models have."""
    rows = [[f"{line.category or line.figure}{_arrow(line.scale)}", *_cells(line)] for line in lines]
    return _header(first, found.names), rows


def index_rows(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows: each number over several benchmarks."""
    rows = [
        [item.name, *("–" if value is None else f"{value:.2f}" for value in item.values)] for item in found.indexes
    ]
    return ["index", *found.names], rows


def index_notes(found: Comparison) -> list[str]:
    """What HRI refers to, and why other indexes have no value."""
    notes = []
    computed = any(value is not None for item in found.indexes if item.name == HRI_NAME for value in item.values)
    if found.reference is not None and computed:
        row = ", ".join(f"{task} {value:.4g}" for task, value in found.reference.row.items())
        notes.append(f"HRI is 0 for {found.names[0]} and 10 for {found.reference.name}: {row}.")
    reasons = dict.fromkeys(
        f"{item.name.partition(',')[0]}: {'; '.join(item.missing)}." for item in found.indexes if item.missing
    )
    return [*notes, *reasons]


def conditions(item: TaskTable) -> str:
    """What a task's numbers hold for."""
    named = [f"{name} {value}" for name, value in item.conditions.items() if isinstance(value, str | int) and value]
    return ", ".join(named)


def facts_rows(found: Comparison, item: TaskTable) -> tuple[list[str], list[list[str]]]:
    """Header and rows: what is known of each model's answers to a task."""
    names = [
        name for name in ("n", "unparsed", "cut", "seed", "prompt", "policy") if any(name in own for own in item.facts)
    ]
    rows = [
        [name, *("–" if own.get(fact) is None else str(own[fact]) for fact in names)]
        for name, own in zip(found.names, item.facts, strict=True)
    ]
    return ["model", *names], rows


def markdown(found: Comparison, pictures: Sequence[tuple[str, str]] = ()) -> str:
    """The whole comparison; `pictures` are files with their captions."""
    parts = ["# Comparison", _markdown_table(*headlines(found)), _plain(note(found))]
    if found.indexes:
        parts += ["## Indexes", _markdown_table(*index_rows(found))]
        parts += ["\n".join(f"- {_plain(line)}" for line in index_notes(found))]
    parts += [f"![{_plain(caption)}]({file})" for file, caption in pictures]
    for item in found.tables:
        parts += [f"## {_plain(item.task)}", _plain(conditions(item))]
        parts += [
            _markdown_table(*figure_rows(found, item.overall, "figure")),
            _markdown_table(*facts_rows(found, item)),
        ]
        for figure, lines in item.categories.items():
            parts += [f"### {_plain(figure)} by category", _markdown_table(*figure_rows(found, lines, "category"))]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_dict(found: Comparison) -> dict[str, Any]:
    """Everything as JSON values."""
    return {
        "models": [{"name": name, "folder": folder} for name, folder in zip(found.names, found.folders, strict=True)],
        "baseline": found.names[0],
        "draws": found.draws,
        "seed": found.seed,
        "tasks": {item.task: _task(found, item) for item in found.tables},
        "indexes": {
            item.name: {
                "values": {
                    name: value for name, value in zip(found.names, item.values, strict=True) if value is not None
                },
                "missing": list(item.missing),
            }
            for item in found.indexes
        },
        "reference": None if found.reference is None else asdict(found.reference),
    }


def _task(found: Comparison, item: TaskTable) -> dict[str, Any]:
    def by_model(values: Sequence[Figure | None]) -> dict[str, Any]:
        return {name: asdict(value) for name, value in zip(found.names, values, strict=True) if value is not None}

    return {
        "headline": item.headline,
        "conditions": dict(item.conditions),
        "models": {name: dict(own) for name, own in zip(found.names, item.facts, strict=True) if own},
        "figures": {
            line.figure: {
                "lower_is_better": line.scale.lower,
                "values": by_model(line.values),
                "differences": by_model(line.gains),
            }
            for line in item.lines
        },
    }


def _header(first: str, names: Sequence[str]) -> list[str]:
    start, *others = names
    return [first, start, "95 %", *(cell for name in others for cell in (name, "95 %", f"− {start}", "95 %"))]


def _cells(line: Line) -> list[str]:
    cells = _value(line.values[0], line.scale)
    for value, gain in zip(line.values[1:], line.gains[1:], strict=True):
        cells += [*_value(value, line.scale), *_value(gain, line.scale, sign=True)]
    return cells


def _value(found: Figure | None, scale: Scale, sign: bool = False) -> list[str]:
    if found is None:
        return ["–", ""]
    ends = found.interval
    join = " to " if sign else "–"
    span = "" if ends is None else f"{scale.text(ends.low, sign)}{join}{scale.text(ends.high, sign)}"
    return [scale.text(found.value, sign), span]


def _arrow(scale: Scale) -> str:
    return " ↓" if scale.lower else ""


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _plain(value: str) -> str:
    """Text that Markdown takes as text, within a table too."""
    for sign in ("\\", "|", "<", ">", "*", "_", "`", "[", "]", "#"):
        value = value.replace(sign, {"<": "&lt;", ">": "&gt;"}.get(sign, f"\\{sign}"))
    return value.replace("\n", " ")
