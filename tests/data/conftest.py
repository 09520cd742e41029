# SPDX-License-Identifier: Apache-2.0
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llamafactory_mmself.data.faults import Fault
from llamafactory_mmself.data.rows import PreferenceRow, normalise
from llamafactory_mmself.data.schema import DatasetSchema


COLUMNS = {
    "messages": "conversations",
    "system": "system",
    "tools": "tools",
    "images": "images",
    "videos": "videos",
    "audios": "audios",
    "chosen": "chosen",
    "rejected": "rejected",
}
LEAVE_OUT = object()


@pytest.fixture
def left_out() -> object:
    """The value that makes `make_row` leave a key out."""
    return LEAVE_OUT


@pytest.fixture
def make_schema() -> Callable[..., DatasetSchema]:
    """Makes the schema of a ShareGPT preference set; keyword arguments replace keys of its entry."""

    def make(**changes: Any) -> DatasetSchema:
        entry = {"file_name": "rows.json", "formatting": "sharegpt", "ranking": True, "columns": COLUMNS}
        return DatasetSchema.from_info("pairs", entry | changes, "dataset_info.json")

    return make


@pytest.fixture
def schema(make_schema) -> DatasetSchema:
    return make_schema()


@pytest.fixture
def make_row() -> Callable[..., dict[str, Any]]:
    """Makes a faultless raw row; keyword arguments replace its keys."""

    def make(**changes: Any) -> dict[str, Any]:
        row = {
            "conversations": [{"from": "human", "value": "<image>\nHow many red squares are there?"}],
            "chosen": {"from": "gpt", "value": "There is one."},
            "rejected": {"from": "gpt", "value": "There are two."},
            "images": ["red.png"],
        }
        return {key: value for key, value in (row | changes).items() if value is not LEAVE_OUT}

    return make


@pytest.fixture
def read(schema, tmp_path) -> Callable[..., tuple[PreferenceRow | None, list[Fault]]]:
    """Normalises one raw row."""

    def read_one(raw: Any, schema: DatasetSchema = schema, reading: Any = None):
        return normalise(raw, schema, file="rows.json", row=3, media_dir=tmp_path, prefix_reading=reading)

    return read_one


@pytest.fixture
def only_fault(read) -> Callable[..., Fault]:
    """Normalises one raw row that has exactly one fault and returns this fault."""

    def get(raw: Any, **options: Any) -> Fault:
        row, faults = read(raw, **options)
        assert len(faults) == 1, faults
        assert (row is None) == (faults[0].level == "error")
        assert (faults[0].file, faults[0].row) == ("rows.json", 3)
        return faults[0]

    return get


@pytest.fixture
def world(tmp_path, make_row) -> Callable[..., Path]:
    """Writes a data set folder with two pictures and returns it."""

    def make(rows: Any = None, file_name: str = "rows.json", **entry: Any) -> Path:
        Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
        Image.new("RGB", (8, 8), "blue").save(tmp_path / "blue.png")
        rows = [make_row()] if rows is None else rows
        text = rows if isinstance(rows, str) else json.dumps(rows)
        (tmp_path / file_name).write_text(text, encoding="utf-8")
        info = {"file_name": file_name, "formatting": "sharegpt", "ranking": True, "columns": COLUMNS}
        info["columns"] = {key: COLUMNS[key] for key in ("messages", "images", "chosen", "rejected")}
        (tmp_path / "dataset_info.json").write_text(json.dumps({"pairs": info | entry}), encoding="utf-8")
        return tmp_path

    return make
