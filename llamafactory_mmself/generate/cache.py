# SPDX-License-Identifier: Apache-2.0
"""Answers kept on disk: lines are only ever added, so that nothing that was paid for is lost."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path

from ..files import FileError


class AnswerCache:
    """Texts by key in a JSONL file, which several processes may add to.

    A line that a kill or a full disk cut short is passed over, and asked for again when it is needed.

    Attributes:
        damaged: lines that were passed over when the file was read.

    Args:
        path: the file; it is made when the first answer is added. None keeps answers in memory only.

    Raises:
        FileError: the file is there and cannot be read.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = None if path is None else Path(path)
        self._answers: dict[str, tuple[str, str]] = {}
        self.damaged = 0
        if self._path is not None and self._path.exists():
            self._read(self._path)

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: str) -> tuple[str, str] | None:
        """Text and finish reason of an answer."""
        return self._answers.get(key)

    def add(self, answers: Mapping[str, tuple[str, str]]) -> None:
        """Adds answers (key to text and finish reason) and waits until they are on the disk.

        Raises:
            FileError: they cannot be written.
        """
        fresh = {key: answer for key, answer in answers.items() if key not in self._answers}
        if self._path is not None and fresh:
            self._write(self._path, fresh)
        self._answers.update(fresh)

    def _read(self, path: Path) -> None:
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError as error:
            raise FileError(f"The cache {path} cannot be read: {error.strerror or error}.") from error
        for line in filter(None, lines):
            try:
                row = json.loads(line)
                key, text, reason = row["key"], row["text"], row["finish_reason"]
            except (ValueError, KeyError, TypeError):
                self.damaged += 1
                continue
            self._answers[key] = (text, reason)

    def _write(self, path: Path, answers: Mapping[str, tuple[str, str]]) -> None:
        rows = [{"key": key, "text": text, "finish_reason": reason} for key, (text, reason) in answers.items()]
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "ab+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if file.seek(0, os.SEEK_END):
                    file.seek(-1, os.SEEK_END)
                    content = content if file.read(1) == b"\n" else b"\n" + content  # ends a line that was cut short
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise FileError(
                f"The cache {path} cannot be written: {error.strerror or error}. Make room and start again; the "
                "answers before these are kept."
            ) from error
