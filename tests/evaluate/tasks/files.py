# SPDX-License-Identifier: Apache-2.0
"""Small files of all kinds."""

import base64
import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(number: int = 0, form: str = "PNG") -> bytes:
    """A small picture of one colour, another one for each number."""
    buffer = io.BytesIO()
    Image.new("RGB", (28, 28), (40 * number % 256, 90, 160)).save(buffer, form)
    return buffer.getvalue()


def draw(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number, "JPEG" if path.suffix == ".jpg" else "PNG"))


def dump(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def lines(path: Path, rows: Iterable[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def tsv(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), dialect="excel-tab", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def stored(number: int = 0) -> dict[str, Any]:
    """A picture as the `datasets` library stores it."""
    return {"bytes": picture(number), "path": f"{number}.png"}


def text(number: int = 0) -> str:
    return base64.b64encode(picture(number, "JPEG")).decode()
