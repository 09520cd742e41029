# SPDX-License-Identifier: Apache-2.0
"""Which data sets a stage can be trained on, as far as their entries and first rows say."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal


Rows = Literal["pairs", "examples", "questions"]

_PEEK = 2**20  # bytes at the beginning of a file that are looked at


def suitable(entries: Mapping[str, Any], folder: Path, rows: Rows, needed: Collection[str]) -> list[str]:
    """Names of the data sets that have what a stage needs.

    A data set whose first row cannot be seen (on a hub, in a folder, no JSON) counts as suitable if its entry is.

    Args:
        entries: content of dataset_info.json.
        folder: where it lies.
        rows: `pairs` of answers, `examples` with one answer, or `questions` with an id.
        needed: columns that every row has to have, such as `prefix` or `rejected_images`.
    """
    return [
        name for name, entry in entries.items() if isinstance(entry, Mapping) and _fits(entry, folder, rows, needed)
    ]


def _fits(entry: Mapping[str, Any], folder: Path, rows: Rows, needed: Collection[str]) -> bool:
    if bool(entry.get("ranking", False)) != (rows == "pairs"):
        return False
    name = entry.get("file_name")
    if not isinstance(name, str):
        return rows != "questions"
    row = first_row(folder / name)
    if row is None:
        return rows != "questions"
    if rows == "questions":
        return "id" in row and ("question" in row or "conversations" in row)
    columns = entry.get("columns")
    keys = columns if isinstance(columns, Mapping) else {}
    return all(_has(row, column, keys) for column in needed)


def _has(row: Mapping[str, Any], column: str, keys: Mapping[str, Any]) -> bool:
    def value(name: str) -> Any:
        return row.get(str(keys.get(name, name)))

    if column == "rejected_images" and not value(column):
        images = value("images")
        return isinstance(images, list) and len(images) >= 2  # the second half are the rejected ones
    return bool(value(column)) or value(column) == 0


def first_row(path: Path) -> Mapping[str, Any] | None:
    """The first row of a JSON or JSONL file, or None if its beginning does not show it."""
    if path.suffix not in (".json", ".jsonl"):
        return None
    try:
        with open(path, "rb") as file:
            text = file.read(_PEEK).decode("utf-8", errors="ignore").lstrip("\ufeff \t\r\n")
        row = json.JSONDecoder().raw_decode(text[1:].lstrip() if text.startswith("[") else text)[0]
    except (OSError, ValueError, RecursionError):
        return None
    return row if isinstance(row, Mapping) else None
