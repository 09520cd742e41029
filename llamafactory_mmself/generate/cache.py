# SPDX-License-Identifier: Apache-2.0
"""Answers kept on disk: lines are only ever added, so that nothing that was paid for is lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from ..files import FileError, append_jsonl


class AnswerCache:
    """Texts by key in a JSONL file, which several processes may add to.

    Each line has a checksum. One that was damaged, or that a kill or a full disk cut short, is passed over, and asked
    for again when it is needed.

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

    def replace(self, answers: Mapping[str, tuple[str, str]]) -> None:
        """Adds answers; those that are there under the same keys count no longer. Errors as for `add`."""
        if self._path is not None and answers:
            self._write(self._path, answers)
        self._answers.update(answers)

    def _read(self, path: Path) -> None:
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError as error:
            raise FileError(f"The cache {path} cannot be read: {error.strerror or error}.") from error
        for line in filter(None, lines):
            try:
                row = json.loads(line)
                key, text, reason = row["key"], row["text"], row["finish_reason"]
                whole = row["sha256"] == _checksum(key, text, reason)
            except (ValueError, KeyError, TypeError):
                whole = False
            if whole:
                self._answers[key] = (text, reason)
            else:
                self.damaged += 1

    def _write(self, path: Path, answers: Mapping[str, tuple[str, str]]) -> None:
        append_jsonl(
            path,
            (
                {"key": key, "text": text, "finish_reason": reason, "sha256": _checksum(key, text, reason)}
                for key, (text, reason) in answers.items()
            ),
        )


def _checksum(key: str, text: str, reason: str) -> str:
    return hashlib.sha256(json.dumps([key, text, reason]).encode()).hexdigest()[:16]
