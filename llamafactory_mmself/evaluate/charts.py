# SPDX-License-Identifier: Apache-2.0
"""Charts in one style, for light and for dark pages; the same numbers give the same bytes."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..files import write_bytes


Format = Literal["png", "svg"]

# Okabe and Ito's colours, which people with colour blindness can tell apart, made lighter for dark pages.
_LIGHT = ("#0072b2", "#d55e00", "#009e73", "#a0527d", "#b8860b", "#56b4e9", "#555555")
_DARK = ("#5db3f0", "#ff9455", "#3fcf9f", "#e08fbd", "#f0c94f", "#9cd3ff", "#b5b5b5")
_MARKERS = "osD^vPX"
_RASTER = 160  # dots per inch of PNG files
_WIDEST = 0.12  # of a bar, as a share of the chart


@dataclass(frozen=True)
class Theme:
    """Colours of a chart."""

    colours: tuple[str, ...]
    ink: str
    grid: str
    page: str


LIGHT = Theme(_LIGHT, "#1c2330", "#dfe3ea", "#ffffff")
DARK = Theme(_DARK, "#e6e9ef", "#343b48", "#171b22")


@dataclass(frozen=True)
class Series:
    """A line with its confidence band, in percent.

    Attributes:
        label: in the legend.
        x: places.
        y: values.
        low: lower ends of the intervals.
        high: upper ends.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def line_chart(series: Sequence[Series], x_label: str, y_label: str, theme: Theme = LIGHT) -> Any:
    """Lines with confidence bands over whole numbers; returns a matplotlib figure."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _axes(theme)
    for place, line in enumerate(series):
        colour, marker = theme.colours[place % len(theme.colours)], _MARKERS[place % len(_MARKERS)]
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.13, linewidth=0)
        axes.plot(line.x, line.y, color=colour, marker=marker, markersize=5.5, linewidth=2, label=line.label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    _legend(axes, theme, len(series))
    return figure


def stacked_bars(bars: Sequence[str], parts: Mapping[str, Sequence[float]], y_label: str, theme: Theme = LIGHT) -> Any:
    """One bar for each name, made of the parts; returns a matplotlib figure."""
    figure, axes = _axes(theme)
    bottom = [0.0] * len(bars)
    for place, (label, heights) in enumerate(parts.items()):
        colour = theme.colours[place % len(theme.colours)]
        axes.bar(bars, heights, 0.6, bottom=bottom, color=colour, label=label, edgecolor=theme.page, linewidth=0.8)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set_ylabel(y_label)
    axes.margins(x=0.08)
    _legend(axes, theme, len(parts))
    return figure


@dataclass(frozen=True)
class Bars:
    """What one model has in each group of bars; None where it has nothing.

    Attributes:
        label: in the legend.
        values: heights, one a group.
        spans: lower and upper ends of the intervals, one a group.
    """

    label: str
    values: tuple[float | None, ...]
    spans: tuple[tuple[float, float] | None, ...]


def grouped_bars(groups: Sequence[str], bars: Sequence[Bars], y_label: str, theme: Theme = LIGHT) -> Any:
    """Bars side by side in each group, with intervals; returns a matplotlib figure that is wider for more groups."""
    figure, axes = _axes(theme)
    figure.set_figwidth(min(max(7.2, 0.5 * len(groups) * (len(bars) + 0.6)), 30))
    width = min(0.8 / len(bars), _WIDEST * len(groups))
    for place, item in enumerate(bars):
        middle = width * (place - (len(bars) - 1) / 2)
        there = [(at + middle, value) for at, value in enumerate(item.values) if value is not None]
        colour = theme.colours[place % len(theme.colours)]
        axes.bar([at for at, _ in there], [value for _, value in there], 0.92 * width, color=colour, label=item.label)
        for at, (value, ends) in enumerate(zip(item.values, item.spans, strict=True)):
            if value is not None and ends is not None:
                axes.plot([at + middle] * 2, ends, color=theme.ink, linewidth=1.1)
    slanted = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if sum(map(len, groups)) > 60 else {}
    axes.set_xticks(range(len(groups)), [_shortened(name) for name in groups], **slanted)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    if not any(value for item in bars for value in item.values):
        axes.set_ylim(0, 1)
    axes.set_ylabel(y_label)
    _legend(axes, theme, len(bars))
    return figure


def radar(axes_labels: Sequence[str], series: Mapping[str, Sequence[float | None]], theme: Theme = LIGHT) -> Any:
    """One axis for each label around a circle, from 0 in the middle to 1; returns a matplotlib figure.

    Args:
        axes_labels: at least three.
        series: label -> share of each axis, None where there is no number: the line is open there.
        theme: colours.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 6.2), layout="constrained", facecolor=theme.page)
    axes: Any = figure.add_subplot(projection="polar", facecolor=theme.page)
    angles = [2 * math.pi * place / len(axes_labels) for place in range(len(axes_labels))]
    axes.set_theta_offset(math.pi / 2)
    axes.set_theta_direction(-1)
    axes.set_xticks(angles, axes_labels)
    for angle, tick in zip(angles, axes.get_xticklabels(), strict=True):  # labels stand outside of the circle
        side = math.sin(angle)
        tick.set_horizontalalignment("left" if side > 0.1 else "right" if side < -0.1 else "center")
    axes.set_ylim(0, 1)
    axes.set_yticks([0.25, 0.5, 0.75, 1.0], ["", "50 %", "", ""])
    axes.spines["polar"].set_color(theme.grid)
    axes.grid(color=theme.grid, linewidth=0.8)
    axes.tick_params(colors=theme.ink, labelsize=10, pad=8)
    for place, (label, shares) in enumerate(series.items()):
        colour, marker = theme.colours[place % len(theme.colours)], _MARKERS[place % len(_MARKERS)]
        around = [math.nan if share is None else share for share in [*shares, shares[0]]]
        line = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 2, "label": label}
        axes.plot([*angles, angles[0]], around, **line, clip_on=False)
        if all(share is not None for share in shares):
            axes.fill([*angles, angles[0]], around, color=colour, alpha=0.1)
    _legend(axes, theme, len(series))
    return figure


def picture(figure: Any, kind: Format) -> bytes:
    """The figure as a file's content."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "llamafactory-mmself"}):
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=_RASTER, metadata=metadata)
    return buffer.getvalue()


def save(figure: Any, stem: Path) -> list[Path]:
    """Writes `<stem>.png` and `<stem>.svg`.

    Raises:
        FileError: one cannot be written.
    """
    paths = []
    for kind in ("png", "svg"):
        path = stem.with_name(f"{stem.name}.{kind}")
        write_bytes(path, picture(figure, kind))
        paths.append(path)
    return paths


def data_url(content: bytes, media_type: str) -> str:
    """A file's content as an address that a page can carry."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _axes(theme: Theme) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained", facecolor=theme.page)
    axes = figure.add_subplot(facecolor=theme.page)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.grid)
    axes.grid(axis="y", color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.ink, length=0, labelsize=10)
    axes.xaxis.label.set(color=theme.ink, fontsize=11)
    axes.yaxis.label.set(color=theme.ink, fontsize=11)
    return figure, axes


def _shortened(text: str, most: int = 24) -> str:
    """Each line cut to a length."""
    return "\n".join(line if len(line) <= most else f"{line[: most - 1]}…" for line in text.split("\n"))


def _legend(axes: Any, theme: Theme, entries: int) -> None:
    if entries:
        axes.figure.legend(
            loc="outside upper left", ncols=min(entries, 4), frameon=False, labelcolor=theme.ink, fontsize=10
        )
