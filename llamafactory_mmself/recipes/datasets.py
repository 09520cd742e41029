# SPDX-License-Identifier: Apache-2.0
"""Entries of a `dataset_info.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..files import FileError, read_json, unwritten, write_json


PATIENCE = 60.0  # seconds to wait for another writer


def register_dataset(dataset_info: Path, name: str, entry: Mapping[str, Any]) -> None:
    """Sets one entry of a `dataset_info.json`; all other entries stay, also those that others write meanwhile.

    Args:
        dataset_info: the file; it is made if there is none.
        name: the data set's name in training YAMLs.
        entry: file name, formatting, columns, tags.

    Raises:
        FileError: the file holds no JSON object, cannot be written, or another writer does not finish.
    """
    dataset_info = Path(dataset_info)
    lock = dataset_info.with_name(f".{dataset_info.name}.lock")
    try:
        dataset_info.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=PATIENCE):
            entries = _entries(dataset_info)
            if entries.get(name) != entry:
                write_json(dataset_info, {**entries, name: dict(entry)})
    except Timeout as error:
        raise FileError(
            f"{dataset_info} is being written by another process for over {PATIENCE:.0f} s. If none is running, "
            f"remove {lock}."
        ) from error
    except OSError as error:
        raise unwritten(dataset_info, error, "Nothing there was changed.") from error


def _entries(dataset_info: Path) -> dict[str, Any]:
    """What the file holds, nothing if there is none."""
    try:
        entries = read_json(dataset_info) if dataset_info.exists() else {}
        if not isinstance(entries, dict):
            raise FileError(f"{dataset_info}: a JSON object is expected, found {type(entries).__name__}.")
    except FileError as error:
        raise FileError(
            f"{error} The file is damaged: mend it, or remove it and build its data sets again: they are entered anew."
        ) from error
    return entries
