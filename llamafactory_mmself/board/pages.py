# SPDX-License-Identifier: Apache-2.0
"""A run's accuracy as a plot, and its report inside a page."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import Any

from ..evaluate.charts import LIGHT
from ..loop.report import figures, write_report
from ..loop.view import read_run
from .style import block


def accuracy_figure(folder: Path) -> Any:
    """Accuracy over rounds, so far; None while nothing is measured. A matplotlib figure."""
    try:
        return figures(read_run(folder, answers=False), LIGHT).get("accuracy")
    except (ValueError, OSError, KeyError, TypeError):  # a file is being replaced, or damaged
        return None


def report_html(folder: Path, save: str) -> str:
    """Writes the report of a run, and returns it as a page inside a page, with a link that saves it.

    The report carries all it needs; its frame may run no scripts and load nothing.

    Args:
        folder: of the run.
        save: text of the link.

    Raises:
        LoopError: the folder is no run.
        FileError: a file of the run is damaged, or the report cannot be written.
    """
    write_report(folder)
    path = folder / "report" / "index.html"
    content = path.read_text(encoding="utf-8")
    address = "data:text/html;base64," + base64.b64encode(content.encode()).decode()
    name = escape(f"{folder.resolve().name}-report.html")
    link = f'<a href="{address}" download="{name}">{escape(save)}</a>'
    where = f'<span class="mmself-soft">{escape(str(path))}</span>'
    frame = f'<iframe sandbox="" title="{name}" srcdoc="{escape(content)}"></iframe>'
    return block(f'<div class="mmself-state">{link}{where}</div>{frame}')
