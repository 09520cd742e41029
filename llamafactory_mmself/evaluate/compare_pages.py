# SPDX-License-Identifier: Apache-2.0
"""A comparison as plots, as one HTML page that needs nothing else, and as files."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..files import write_json, write_text
from .charts import DARK, LIGHT, Bars, Theme, grouped_bars, radar, save
from .compare import Comparison, Line, TaskTable
from .compare_text import (
    conditions,
    facts_rows,
    figure_rows,
    headlines,
    index_notes,
    index_rows,
    markdown,
    note,
    text,
    to_dict,
)
from .metrics.base import Figure
from .page_style import card, chart, document
from .scales import Scale


FEWEST = 3  # tasks of a radar plot; fewer are shown as bars


def write_comparison(found: Comparison, out: Path) -> str:
    """Writes `index.html`, `comparison.md`, `comparison.json` and the plots; returns the text for the terminal.

    Raises:
        FileError: a file cannot be written.
    """
    plots = figures(found, LIGHT)
    for stem, (figure, _) in plots.items():
        save(figure, out / stem)
    pictures = [(f"{stem}.png", caption) for stem, (_, caption) in plots.items()]
    write_text(out / "comparison.md", markdown(found, pictures))
    write_json(out / "comparison.json", to_dict(found))
    write_text(out / "index.html", page(found))
    return f"{text(found)}\n{out / 'index.html'}"


def figures(found: Comparison, theme: Theme) -> dict[str, tuple[Any, str]]:
    """The plots with their captions, by the name of their file."""
    plots = {"overview": _overview(found, theme)}
    for item in found.tables:
        if (figure := item.charted) is not None:
            lines = item.categories[figure]
            caption = f"{item.task}: {figure} by category{_better(lines[0])}. Lines: 95 % intervals."
            names = [line.category or "" for line in lines]
            plots[_stem(item)] = grouped_bars(names, _bars(found, lines), figure, theme), caption
    return plots


def page(found: Comparison) -> str:
    """The page."""
    title = " · ".join(found.names)
    light, dark = figures(found, LIGHT), figures(found, DARK)
    charts = {stem: chart(light[stem][0], dark[stem][0], light[stem][1], wide=True) for stem in light}
    parts = [f'<h1>{escape(title)}</h1><p class="soft">differences are to {escape(found.names[0])}</p>', _cards(found)]
    parts += [f'<h2>Overview</h2><div class="charts">{charts["overview"]}</div><p></p>']
    parts += [_table(found, *headlines(found), [item.head for item in found.tables])]
    parts += [f'<p class="small soft">{escape(note(found))}</p>', *_indexes(found)]
    for item in found.tables:
        parts.append(f'<h2>{escape(item.task)}</h2><p class="small soft">{escape(conditions(item))}</p>')
        parts.append(_table(found, *figure_rows(found, item.overall, "figure"), item.overall))
        parts += [_categories(found, item, charts), "<p></p>", _table(found, *facts_rows(found, item), [])]
    folders = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(folder)}</td></tr>"
        for name, folder in zip(found.names, found.folders, strict=True)
    )
    parts.append(f'<h2>Results</h2><div class="card"><table class="plain">{folders}</table></div>')
    return document(title, parts)


def _indexes(found: Comparison) -> list[str]:
    if not found.indexes:
        return []
    notes = "".join(f'<p class="small soft">{escape(line)}</p>' for line in index_notes(found))
    return ["<h2>Indexes</h2>", _table(found, *index_rows(found), []), notes]


def _overview(found: Comparison, theme: Theme) -> tuple[Any, str]:
    heads = [item.head for item in found.tables]
    labels = [f"{item.task}\n{_range(item.head)}" for item in found.tables]
    if len(heads) < FEWEST:
        bars = [
            Bars(
                name,
                tuple(_share(line.values[place], line) for line in heads),
                tuple(_shares(line.values[place], line) for line in heads),
            )
            for place, name in enumerate(found.names)
        ]
        return grouped_bars(
            labels, bars, "share of the scale, %", theme
        ), "Headline of each task. Lines: 95 % intervals."
    series = {
        name: [None if (value := _share(line.values[place], line)) is None else value / 100 for line in heads]
        for place, name in enumerate(found.names)
    }
    return radar(labels, series, theme), (
        "Headline of each task, from the bad end of its scale in the middle to the good end at the rim."
    )


def _share(value: Figure | None, line: Line) -> float | None:
    return None if value is None else 100 * line.scale.share(value.value)


def _shares(value: Figure | None, line: Line) -> tuple[float, float] | None:
    if value is None or value.interval is None:
        return None
    low, high = sorted(100 * line.scale.share(end) for end in (value.interval.low, value.interval.high))
    return low, high


def _bars(found: Comparison, lines: Sequence[Line]) -> list[Bars]:
    def span(value: Figure | None) -> tuple[float, float] | None:
        return None if value is None or value.interval is None else (value.interval.low, value.interval.high)

    return [
        Bars(
            name,
            tuple(None if (value := line.values[place]) is None else value.value for line in lines),
            tuple(span(line.values[place]) for line in lines),
        )
        for place, name in enumerate(found.names)
    ]


def _range(line: Line) -> str:
    """The figure, and its scale where it is not from 0 to 100 %."""
    if line.scale == Scale():
        return line.figure
    ends = f"{line.scale.top:g} to 0" if line.scale.lower else f"0 to {line.scale.top:g}"
    return f"{line.figure}, {ends}"


def _better(line: Line) -> str:
    return "; lower is better" if line.scale.lower else ""


def _cards(found: Comparison) -> str:
    """For each model but the first: in how many tasks it is surely better, worse, or neither."""
    cards = []
    for place, name in enumerate(found.names[1:], start=1):
        heads = [item.head for item in found.tables if item.head.gains[place] is not None]
        good, bad = (sum(line.outcome(place) == state for line in heads) for state in ("good", "bad"))
        note = f"of {len(heads)} tasks better, {bad} worse; in others the interval holds 0"
        state = "good" if good and not bad else "bad" if bad and not good else ""
        cards.append(card(f"{name} against {found.names[0]}", str(good), note, state))
    return f'<div class="cards">{"".join(cards)}</div>'


def _table(found: Comparison, header: Sequence[str], rows: Sequence[Sequence[str]], lines: Sequence[Line]) -> str:
    """A table; differences are coloured by what `lines` say of them."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    states = [_states(found, line) for line in lines] or [[""] * len(header)] * len(rows)
    body = "".join(
        "<tr>" + "".join(f"<td>{_marked(cell, state)}</td>" for cell, state in zip(row, own, strict=True)) + "</tr>"
        for row, own in zip(rows, states, strict=True)
    )
    return (
        f'<div class="card"><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></div>"
    )


def _states(found: Comparison, line: Line) -> list[str]:
    states = [""] * 3
    for place in range(1, len(found.names)):
        states += ["", "", {"good": "right", "bad": "wrong", "": ""}[line.outcome(place)], ""]
    return states


def _marked(cell: str, state: str) -> str:
    return f'<span class="mark {state}">{escape(cell)}</span>' if state else escape(cell)


def _categories(found: Comparison, item: TaskTable, charts: dict[str, str]) -> str:
    parts = []
    if item.charted is not None:
        parts.append(f'<p></p><div class="charts">{charts[_stem(item)]}</div><p></p>')
    for figure, lines in item.categories.items():
        rows = _table(found, *figure_rows(found, lines, "category"), lines)
        parts.append(f"<details><summary>{escape(figure)} by category</summary>{rows}</details>")
    return "".join(parts)


def _stem(item: TaskTable) -> str:
    """The name of the file with the bars of a task's categories."""
    text = f"{item.task}-{item.charted}"
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in text)
