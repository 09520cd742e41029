# SPDX-License-Identifier: Apache-2.0
"""The journal of a running job: finished batches, one a line, on the disk before the next one starts."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..files import unwritten, write_text
from .types import EngineError, Sample


PATIENCE = 30.0  # seconds for the workers of a killed job to notice that they are orphans


def journal_path(out: Path, rank: int) -> Path:
    """Where a worker writes."""
    return out.with_name(f"{out.name}.journal-{rank}.jsonl")


def journals(out: Path) -> list[Path]:
    """The journals beside a samples file."""
    prefix = f"{out.name}.journal-"
    found = out.parent.glob("*.jsonl") if out.parent.is_dir() else ()
    return sorted(path for path in found if path.name.startswith(prefix))


class Journal:
    """Appends finished batches.

    Args:
        path: the file.
        job: digest of the job's manifest; lines of another job are not read back.
    """

    def __init__(self, path: Path, job: str) -> None:
        self.path = path
        self.job = job

    def append(self, batch: int, samples: Sequence[Sample]) -> None:
        """Writes a batch and waits until it is on the disk.

        Raises:
            FileError: the disk is full or the file cannot be written; earlier batches are kept.
        """
        line = line_of(self.job, batch, samples).encode()
        end = None
        try:
            with open(self.path, "ab", buffering=0) as file:
                end = file.tell()
                while line:
                    line = line[file.write(line) :]
                os.fsync(file.fileno())
        except OSError as error:
            if end is not None:
                with suppress(OSError):
                    os.truncate(self.path, end)
            raise unwritten(self.path, error, "Finished batches are kept.") from error


def line_of(job: str, batch: int, samples: Sequence[Sample]) -> str:
    """A batch as a line, with a checksum."""
    rows = json.dumps([sample.to_row() for sample in samples], ensure_ascii=False)
    return f'{{"job": "{job}", "batch": {batch}, "sha256": "{_checksum(job, batch, rows)}", "samples": {rows}}}\n'


def read_journals(out: Path, job: str) -> tuple[dict[int, list[Sample]], list[str], list[Path]]:
    """Reads what earlier runs of a job have left.

    Returns:
        batch -> its samples; what is damaged, in words; journals with nothing but lines of other jobs.
    """
    found: dict[int, list[Sample]] = {}
    damage: list[str] = []
    foreign: list[Path] = []
    for path in journals(out):
        lines = path.read_bytes().split(b"\n")
        mine = others = 0
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            entry = _entry(line)
            if entry is None:
                what = "ends in the middle of a batch" if number == len(lines) else "is damaged"
                damage.append(f"{path}, line {number} {what}; that batch is sampled again.")
            elif entry["job"] != job:
                others += 1
            else:
                mine += 1
                found[entry["batch"]] = [Sample.from_row(row) for row in entry["samples"]]
        if others and not mine:
            foreign.append(path)
    return found, damage, foreign


def compact(out: Path, job: str, found: dict[int, list[Sample]]) -> None:
    """Puts all batches into the first journal and removes the others, damaged lines with them."""
    old = journals(out)
    write_text(journal_path(out, 0), "".join(line_of(job, batch, found[batch]) for batch in sorted(found)))
    for path in old:
        if path != journal_path(out, 0):
            path.unlink()


def _entry(line: bytes) -> dict[str, Any] | None:
    """A line that is whole, or None."""
    try:
        entry: dict[str, Any] = json.loads(line)
        rows = json.dumps(entry["samples"], ensure_ascii=False)
        whole = entry["sha256"] == _checksum(entry["job"], entry["batch"], rows)
    except (ValueError, KeyError, TypeError):
        return None
    return entry if whole else None


def _checksum(job: str, batch: int, rows: str) -> str:
    return hashlib.sha256(f"{job} {batch} {rows}".encode()).hexdigest()[:16]


@contextmanager
def locked(out: Path) -> Iterator[int]:
    """Holds a samples file for one job; workers that inherit the descriptor hold it too.

    Raises:
        EngineError: another process is at work on the file.
    """
    path = out.with_name(f".{out.name}.lock")
    handle = _lock(path, out)
    try:
        yield handle
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(handle)


def _lock(path: Path, out: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + PATIENCE
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):  # not removed by its last holder
                return handle
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(handle)
                raise EngineError(
                    f"Another process is sampling into {out}. Wait for it, stop it, or choose another file."
                ) from None
        os.close(handle)
        time.sleep(0.1)
