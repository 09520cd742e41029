# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there: atomic writes, JSON lines, digests."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO


if TYPE_CHECKING:
    from PIL.Image import Image


TORN = ".torn"  # suffix of a file that is being written; see `scratch_of`
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class FileError(ValueError):
    """A file that cannot be read or written, with its path and the reason."""


def disk_is_full(error: BaseException) -> bool:
    """Whether a file found no room: the disk is full, or a quota is used up."""
    return isinstance(error, OSError) and error.errno in _FULL


def told(error: BaseException) -> str:
    """An error in words; of a full disk also what to do."""
    return f"{error}. {_make_room()}" if disk_is_full(error) else str(error)


def _make_room() -> str:
    return "The disk is full: make room and run the same command again."


def unwritten(path: Path, error: OSError, kept: str) -> FileError:
    """The error for a file that cannot be written; `kept` says what is not lost."""
    room = f" {_make_room()}" if disk_is_full(error) else ""
    return FileError(f"{path} cannot be written: {error.strerror or error}. {kept}{room}")


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file in one step: whoever looks sees the old content or the new one, never a part.

    Raises:
        FileError: the disk is full or the folder cannot be written; what was there before is untouched.
    """
    path = Path(path)
    scratch = scratch_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _held(scratch) as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.replace(scratch, path)
            except BaseException:
                scratch.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise unwritten(path, error, "Nothing there was changed.") from error


def scratch_of(path: Path) -> Path:
    """Where a file's content is until it is whole; what a kill leaves there, the file's next writer takes over."""
    return path.with_name(f".{path.name}{TORN}")


def _held(scratch: Path) -> BinaryIO:
    """An empty scratch file that nobody else writes; waits for whoever does."""
    while True:
        file = open(scratch, "ab")  # noqa: SIM115  the caller closes it
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(scratch, file):
                file.truncate(0)
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # the writer before has moved it to its place


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether an open file still has this path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def write_picture(path: Path, picture: Image, **options: Any) -> None:
    """Writes a picture of Pillow, in the format of the file's suffix; see `write_bytes`.

    Args:
        path: the file.
        picture: what is shown.
        **options: of Pillow's `save`.
    """
    buffer = io.BytesIO()
    picture.save(buffer, path.suffix.removeprefix(".").upper(), **options)
    write_bytes(path, buffer.getvalue())


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
    """Adds lines to a file that only ever grows and that several processes may add to; waits until they are on disk.

    A line that a kill or a full disk has cut short is ended first, so that no other is lost with it. Halves of
    characters, which replies may hold and UTF-8 does not have, are escaped as JSON escapes them.

    Raises:
        FileError: it cannot be written; earlier lines are kept.
    """
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    content = text.encode("utf-8", "backslashreplace")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                content = content if file.read(1) == b"\n" else b"\n" + content
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise unwritten(path, error, "The lines before are kept.") from error


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
