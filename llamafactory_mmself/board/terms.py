# SPDX-License-Identifier: Apache-2.0
"""A training's metrics as curves: the loss, its terms, and what a stage says is worth a look.

LLaMA-Factory's log for LlamaBoard holds the loss alone. Trainings that LlamaBoard starts write the terms beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..evaluate.charts import LIGHT


TERMS_LOG = "mmself_terms.jsonl"
MOST_BYTES = 16 * 2**20  # of a log that are read, from its end
_PANELS = 5
_LABEL = 0.4  # inches at the top of a plot


def append_terms(folder: Path, step: int, logged: Mapping[str, Any], chosen: Callable[[str], bool]) -> None:
    """Adds a step's metrics to the log."""
    values = {
        name: value
        for name, value in logged.items()
        if chosen(name) and isinstance(value, (int, float)) and math.isfinite(value)
    }
    if values:
        with open(folder / TERMS_LOG, "a", encoding="utf-8") as file:
            file.write(json.dumps({"current_steps": step, **values}) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Lines of a log; half a line is left out, and of a very long log only the end is read."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MOST_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return []
    entries = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def panels(names: Sequence[str]) -> dict[str, list[str]]:
    """Title of a panel -> metrics in it: terms of the loss together, others by the first part of their name."""
    found: dict[str, list[str]] = {}
    for name in names:
        head = name.partition("/")[0]
        title = "terms of the loss" if head in ("loss", "losses") or head.startswith("loss_") else name
        title = head if title == name and head == "margins" else title
        found.setdefault(title, []).append(name)
    return dict(list(found.items())[:_PANELS])


def terms_figure(losses: Sequence[Mapping[str, Any]], terms: Sequence[Mapping[str, Any]], smooth: Any) -> Any:
    """The loss as LlamaBoard draws it, and a panel for each group of metrics; a matplotlib figure.

    Args:
        losses: entries with `current_steps` and `loss`.
        terms: entries with `current_steps` and metrics.
        smooth: LlamaBoard's smoothing of a list of numbers.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import MaxNLocator

    names = list(dict.fromkeys(name for entry in terms for name in entry if name != "current_steps"))
    groups = panels(names)
    height = 3.4 + 2.2 * len(groups)
    room = (0, 0, 1, 1 - _LABEL / height)  # the component's own label stands above
    figure = Figure(figsize=(6.4, height), layout=ConstrainedLayoutEngine(rect=room))
    ratios = [1.5, *[1.0] * len(groups)]
    axes = figure.subplots(len(groups) + 1, 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": ratios})[:, 0]
    points = [(entry["current_steps"], entry["loss"]) for entry in losses if entry.get("loss") is not None]
    steps, values = [step for step, _ in points], [value for _, value in points]
    axes[0].plot(steps, values, color="#1f77b4", alpha=0.4, label="original")
    axes[0].plot(steps, smooth(values), color="#1f77b4", label="smoothed")
    axes[0].set_ylabel("loss")
    axes[0].legend()
    for place, (title, members) in enumerate(groups.items(), start=1):
        for number, name in enumerate(members):
            found = [(entry["current_steps"], entry[name]) for entry in terms if name in entry]
            colour = LIGHT.colours[number % len(LIGHT.colours)]
            x, y = [step for step, _ in found], [value for _, value in found]
            axes[place].plot(x, y, color=colour, alpha=0.3)
            axes[place].plot(x, smooth(y), color=colour, label=name)
        axes[place].set_title(title, fontsize=11, loc="left")
        if members != [title]:
            axes[place].legend(fontsize=9)
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
