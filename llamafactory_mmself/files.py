# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there: atomic writes, JSON lines, digests."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


TORN = ".torn"  # suffix of a file that is being written; what a kill leaves of it can be removed

# Read once: it can only be read by changing it, for all threads of the process.
_UMASK = os.umask(0)
os.umask(_UMASK)


class FileError(ValueError):
    """A file that cannot be read or written, with its path and the reason."""


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file in one step: whoever looks sees the old content or the new one, never a part.

    Raises:
        FileError: the disk is full or the folder cannot be written; what was there before is untouched.
    """
    path = Path(path)
    scratch = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TORN)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(scratch, 0o666 & ~_UMASK)
        os.replace(scratch, path)
    except OSError as error:
        if scratch is not None:
            Path(scratch).unlink(missing_ok=True)
        raise FileError(f"{path} cannot be written: {error.strerror or error}. Nothing there was changed.") from error


def write_text(path: Path, text: str) -> None:
    """Writes a text as UTF-8, in one step; errors as for `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes one JSON value, indented, with a line end."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes one JSON object a line."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def append_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Adds lines to a file that only ever grows, such as a list of failures.

    Raises:
        FileError: it cannot be written.
    """
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}.") from error


def read_text(path: Path) -> str:
    """A file's text in UTF-8.

    Raises:
        FileError: it is not there, cannot be read, or is no such text.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path} cannot be read: {error}") from error


def read_json(path: Path) -> Any:
    """Reads one JSON value.

    Raises:
        FileError: naming file, line and column.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise FileError(f"{path}, line {error.lineno}, column {error.colno}: {error.msg}.") from error


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of a JSONL file; blank lines are skipped.

    Raises:
        FileError: naming file and line.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise FileError(f"{path}, line {number}: not a JSON object ({error.msg}).") from error
        if not isinstance(row, dict):
            raise FileError(f"{path}, line {number}: a JSON object is expected, found {type(row).__name__}.")
        yield row


def relative(path: str | Path, folder: Path) -> str:
    """A path as a file in `folder` names it: relative if it lies inside, absolute otherwise."""
    path, folder = Path(path).resolve(), Path(folder).resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
