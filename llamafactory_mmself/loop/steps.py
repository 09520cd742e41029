# SPDX-License-Identifier: Apache-2.0
"""Steps: what they read, what they write, and running those that are not done."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from ..files import TORN, FileError, read_json, scratch_of, told, write_json
from .manifest import Manifest, Record, step_key


Status = Literal["done", "to do", "changed", "depends"]


class LoopError(ValueError):
    """A run that cannot go on, with the step, the reason and what to do."""


@dataclass(frozen=True)
class Step:
    """A piece of work from files to files.

    Attributes:
        name: unique within a run, for example `iter1/train`.
        action: does the work and returns its figures. It writes its outputs in one step each, may leave scratch behind
            when killed, and goes on from that scratch when it is called again.
        inputs: label -> file or folder that it reads.
        outputs: files and folders that it writes.
        settings: JSON values that the outputs depend on beside the inputs.
        scratch: further files and folders that must not survive a change of inputs or settings; names may be patterns.
        names: label -> name, for inputs that are no local files (a model on a hub).
    """

    name: str
    action: Callable[[], Mapping[str, Any]]
    inputs: Mapping[str, Path]
    outputs: Sequence[Path]
    settings: Mapping[str, Any] = field(default_factory=dict)
    scratch: Sequence[Path] = ()
    names: Mapping[str, str] = field(default_factory=dict)


class Runner:
    """Runs the steps of a run in order; finished ones are left alone.

    `<run>/current.json` says which step is at work and with which key: a step that was killed finds its scratch again,
    and one whose settings or inputs changed since starts clean.
    """

    def __init__(self, folder: Path, steps: Sequence[Step]) -> None:
        self.folder = folder
        self.steps = steps
        self.manifest = Manifest(folder / "manifest.json")
        self.current = folder / "current.json"

    def plan(self, restart_from: str | None = None) -> Iterator[tuple[Step, Status]]:
        """Yields the steps with what would happen; `depends`: only if an earlier step writes something else."""
        again = {step.name for step in self.later(restart_from)} if restart_from else set()
        open_paths: set[Path] = set()
        for step in self.steps:
            waiting = any(_inside(path, open_paths) for path in step.inputs.values())
            done = step.name not in again and self.manifest.done(step.name, self._key(step))
            status: Status = "done" if done else "changed" if step.name in self.manifest.records else "to do"
            if waiting:
                status = "depends" if done else status
            if status != "done":
                open_paths.update(step.outputs)
            yield step, status

    def later(self, name: str) -> Sequence[Step]:
        """A step and all after it.

        Raises:
            LoopError: there is no such step.
        """
        names = [step.name for step in self.steps]
        if name not in names:
            raise LoopError(f"There is no step {name!r}. The steps are: {', '.join(names)}.")
        return self.steps[names.index(name) :]

    def restart(self, name: str) -> None:
        """Forgets a step and all after it; see `later`."""
        later = self.later(name)
        self.manifest.forget([step.name for step in later])
        for step in later:
            _clear(step)
        self.current.unlink(missing_ok=True)

    def run(self, say: Callable[[str], None]) -> None:
        """Runs what is not done.

        Raises:
            LoopError: a step failed, or an input is missing.
        """
        _remove_torn(self.manifest.path, self.current)
        self.manifest.plan([step.name for step in self.steps])
        for number, step in enumerate(self.steps, start=1):
            key = self._key(step)
            title = f"[{number}/{len(self.steps)}] {step.name}"
            if self.manifest.done(step.name, key):
                say(f"{title}: done before")
                continue
            for label, path in step.inputs.items():
                if not path.exists():
                    raise LoopError(f"Step {step.name}: its input {label} is missing: {path}.")
            self._prepare(step, key)
            say(f"{title} ...")
            started = time.monotonic()
            try:
                figures = dict(step.action())
            except (ValueError, OSError) as error:
                raise LoopError(f"Step {step.name}: {told(error)}") from error
            self._finish(step, key, time.monotonic() - started, figures)
            numbers = ", ".join(f"{name} {_show(value)}" for name, value in figures.items())
            say(f"{title}: {self.manifest.records[step.name].seconds:.0f} s" + (f" ({numbers})" if numbers else ""))

    def _prepare(self, step: Step, key: str) -> None:
        if self._interrupted() != key:
            _clear(step)
        _remove_torn(*step.outputs, *_scratch(step))
        write_json(self.current, {"step": step.name, "key": key, "since": _now()})

    def _interrupted(self) -> str | None:
        """The key of the step that was at work; None where that is not known any more."""
        try:
            return str(read_json(self.current)["key"]) if self.current.exists() else None
        except (FileError, KeyError, TypeError):  # damaged
            return None

    def _finish(self, step: Step, key: str, seconds: float, figures: dict[str, Any]) -> None:
        digests, relative = self.manifest.digests, self.manifest.relative
        outputs = {relative(path): digests.of(path) for path in step.outputs}
        if missing := [path for path, value in outputs.items() if value is None]:
            raise LoopError(f"Step {step.name} ended without writing {', '.join(missing)}.")
        inputs = {relative(path): digests.of(path) for path in step.inputs.values()} | dict(step.names)
        record = Record(
            key,
            step.settings,
            {path: value for path, value in inputs.items() if value is not None},
            {path: value for path, value in outputs.items() if value is not None},
            round(seconds, 3),
            figures,
            _now(),
        )
        self.manifest.record(step.name, record)
        self.current.unlink(missing_ok=True)

    def _key(self, step: Step) -> str:
        inputs = {label: self.manifest.digests.of(path) for label, path in step.inputs.items()}
        return step_key(step.name, step.settings, {**inputs, **step.names})


def _scratch(step: Step) -> list[Path]:
    return [path for pattern in step.scratch for path in pattern.parent.glob(pattern.name)]


def _clear(step: Step) -> None:
    for path in (*step.outputs, *_scratch(step)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _remove_torn(*paths: Path) -> None:
    """Removes what `files.write_text` was writing when it was killed, beside these paths and in these folders."""
    for path in paths:
        inside = path.rglob(f"*{TORN}") if path.is_dir() else ()
        for torn in [scratch_of(path), *inside]:
            torn.unlink(missing_ok=True)


def _inside(path: Path, folders: set[Path]) -> bool:
    return path in folders or any(parent in folders for parent in path.parents)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _show(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
