# SPDX-License-Identifier: Apache-2.0
"""Rows of our formats in LlamaBoard's data preview: both pictures, prefixes, weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from ...board.rows import rows_html
from ...board.style import STYLE


def add_preview(elements: dict[str, Any]) -> dict[str, Any]:
    """Adds cards above the plain rows of the preview; they stay hidden for other data sets."""
    cards = gr.HTML(visible=False, padding=False, elem_id="mmself-preview")
    plain = elements["preview_samples"]
    row = plain.parent
    box = row.parent
    cards.parent.children.remove(cards)
    box.children.insert(box.children.index(row), cards)
    cards.parent = box
    plain.change(show_rows, [elements["dataset_dir"], elements["dataset"], plain], [cards], queue=False)
    return {"mmself_preview": cards}


def show_rows(folder: str, dataset: list[str], rows: Any) -> Any:
    """Cards of the rows that the preview shows; pictures come from the data set's folder only."""
    from ..lf_web import load_dataset_info

    entry = load_dataset_info(folder).get(dataset[0]) if dataset else None
    html = rows_html(rows, entry, [Path(folder)]) if isinstance(rows, list) and isinstance(entry, dict) else ""
    return gr.update(value=STYLE + html if html else "", visible=bool(html))
