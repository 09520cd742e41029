# SPDX-License-Identifier: Apache-2.0
"""Charts in one style, for light and for dark pages; the same numbers give the same bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


Format = Literal["png", "svg"]

# Okabe and Ito's colours, which people with colour blindness can tell apart, made lighter for dark pages.
_LIGHT = ("#0072b2", "#d55e00", "#009e73", "#a0527d", "#b8860b", "#56b4e9", "#555555")
_DARK = ("#5db3f0", "#ff9455", "#3fcf9f", "#e08fbd", "#f0c94f", "#9cd3ff", "#b5b5b5")
_MARKERS = "osD^vPX"
_RASTER = 160  # dots per inch of PNG files


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


def picture(figure: Any, kind: Format) -> bytes:
    """The figure as a file's content."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "llamafactory-mmself"}):
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=_RASTER, metadata=metadata)
    return buffer.getvalue()


def save(figure: Any, stem: Path) -> list[Path]:
    """Writes `<stem>.png` and `<stem>.svg`."""
    paths = []
    for kind in ("png", "svg"):
        path = stem.with_name(f"{stem.name}.{kind}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(figure, kind))
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


def _legend(axes: Any, theme: Theme, entries: int) -> None:
    if entries:
        axes.figure.legend(
            loc="outside upper left", ncols=min(entries, 4), frameon=False, labelcolor=theme.ink, fontsize=10
        )
