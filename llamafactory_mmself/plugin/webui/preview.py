# SPDX-License-Identifier: Apache-2.0
"""Rows of our formats in LlamaBoard's data preview: both pictures, prefixes, weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from ...board.rows import rows_html
from ...board.samples import file_rows
from ...board.style import STYLE


def add_preview(elements: dict[str, Any]) -> dict[str, Any]:
    """Adds cards above the plain rows of the preview; they stay hidden for other data sets."""
    cards: Any = gr.HTML(visible=False, padding=False, elem_id="mmself-preview")
    plain = elements["preview_samples"]
    row = plain.parent
    box = row.parent
    cards.parent.children.remove(cards)
    box.children.insert(box.children.index(row), cards)
    cards.parent = box
    asked = [elements["dataset_dir"], elements["dataset"], elements["page_index"]]
    plain.change(show_rows, asked, [cards], queue=False, api_name=False, show_progress="hidden")
    return {"mmself_preview": cards}


def show_rows(folder: str, dataset: list[str], page: int) -> Any:
    """Cards of the rows that the preview shows; pictures come from the data set's folder only."""
    from ..lf_web import PAGE_SIZE, load_dataset_info

    entry = load_dataset_info(folder).get(dataset[0]) if dataset else None
    html = ""
    if isinstance(entry, dict) and isinstance(entry.get("file_name"), str):
        rows = file_rows(Path(folder) / entry["file_name"])
        html = rows_html(rows[PAGE_SIZE * int(page) :][:PAGE_SIZE], entry, [Path(folder)])
    return gr.update(value=STYLE + html if html else "", visible=bool(html))
