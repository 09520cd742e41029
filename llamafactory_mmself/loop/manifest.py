# SPDX-License-Identifier: Apache-2.0
"""What a run has finished: each step with what went in, what came out, how long it took and its figures."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..files import FileError, digest, read_json, write_json


# Of a model's folder these are by-products: they change from run to run, or nobody reads them again.
BY_PRODUCTS = frozenset(
    {
        "training_args.bin",
        "trainer_state.json",
        "trainer_log.jsonl",
        "all_results.json",
        "train_results.json",
        "eval_results.json",
        "README.md",
        "teacher.jsonl",
    }
)
BY_PRODUCT_SUFFIXES = frozenset({".log", ".md", ".lock"})
_PLOT = re.compile(r"training_.*\.(png|svg)")  # LLaMA-Factory's


@dataclass(frozen=True)
class Record:
    """A finished step.

    Attributes:
        key: digest of the step's name, settings and inputs; a step with another key has to run again.
        settings: the values that it depends on.
        inputs: path -> SHA-256; paths inside the run are relative to it, so that a run can be moved.
        outputs: path -> SHA-256.
        seconds: wall time of the call that finished it.
        figures: what it counted.
        finished: local time, ISO 8601.
    """

    key: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    seconds: float
    figures: Mapping[str, Any] = field(default_factory=dict)
    finished: str = ""


class Digests:
    """SHA-256 of files and folders, remembered by size and time so that large weights are read once."""

    def __init__(self, known: Mapping[str, Any] | None = None) -> None:
        self._known = dict(known or {})

    def of(self, path: Path) -> str | None:
        """The digest of a file, or of a folder's content without by-products; None if there is nothing."""
        if path.is_file():
            return self._file(path)
        if not path.is_dir():
            return None
        whole = hashlib.sha256()
        for file in _content(path):
            whole.update(f"{file.relative_to(path).as_posix()}\0{self._file(file)}\n".encode())
        return whole.hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return self._known

    def _file(self, path: Path) -> str:
        state = path.stat()
        stamp = [state.st_size, state.st_mtime_ns]
        known = self._known.get(str(path))
        if known is None or known[:2] != stamp:
            known = [*stamp, digest(path)]
            self._known[str(path)] = known
        return str(known[2])


class Manifest:
    """The finished steps of a run, kept in `<run>/manifest.json`.

    The file is replaced in one step after each step of the run, so a kill at any moment leaves a valid one.

    Attributes:
        planned: names of all steps of the run, in order, so that a reader knows whether it has finished.
        records: those that are finished.

    Raises:
        FileError: the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        stored = read_manifest(path)
        self.planned: list[str] = stored.get("planned", [])
        self.records = {name: Record(**record) for name, record in stored.get("steps", {}).items()}
        self.digests = Digests(stored.get("digests"))

    def done(self, name: str, key: str) -> bool:
        """Whether the step was finished with this key and its outputs are still what it wrote."""
        record = self.records.get(name)
        return (
            record is not None
            and record.key == key
            and all(self.digests.of(self.path.parent / path) == value for path, value in record.outputs.items())
        )

    def relative(self, path: Path) -> str:
        """A path as records name it."""
        folder = self.path.parent
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)

    def plan(self, names: Sequence[str]) -> None:
        """Says which steps the run has."""
        if list(names) != self.planned:
            self.planned = list(names)
            self._save()

    def record(self, name: str, record: Record) -> None:
        """Adds a finished step and writes the file."""
        self.records[name] = record
        self._save()

    def forget(self, names: Iterator[str] | list[str]) -> None:
        """Removes steps, so that they run again."""
        for name in names:
            self.records.pop(name, None)
        self._save()

    def _save(self) -> None:
        steps = {name: asdict(record) for name, record in self.records.items()}
        values = {"planned": self.planned, "steps": steps, "digests": self.digests.to_dict()}
        read_back = json.loads(json.dumps(values))  # all keys are texts
        write_json(self.path, {**read_back, "sha256": _checksum(read_back)})


def read_manifest(path: Path) -> dict[str, Any]:
    """What a manifest's file holds, see `Manifest`; nothing if there is none.

    Raises:
        FileError: it is damaged, with what to do.
    """
    try:
        stored = read_json(path) if path.exists() else {}
        if "sha256" in stored and stored.pop("sha256") != _checksum(stored):
            raise FileError(f"{path} is not as it was written.")
    except (FileError, TypeError, AttributeError) as error:
        raise FileError(
            f"{path} is damaged, and nobody knows which steps are done ({error}). Put a copy of it back, or remove it "
            "and run the same command again: it does all steps anew."
        ) from error
    return dict(stored)


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def step_key(name: str, settings: Mapping[str, Any], inputs: Mapping[str, str | None]) -> str:
    """The key of a step; see `Record.key`."""
    text = json.dumps([name, settings, inputs], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _content(folder: Path) -> list[Path]:
    files = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        checkpoint = any(part.startswith(("checkpoint-", "runs", ".")) for part in inside)
        by_product = path.name in BY_PRODUCTS or path.suffix in BY_PRODUCT_SUFFIXES or _PLOT.fullmatch(path.name)
        if path.is_file() and not checkpoint and not by_product:
            files.append(path)
    return files
