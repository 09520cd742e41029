# SPDX-License-Identifier: Apache-2.0
"""A loop as a process of its own: started, found again, stopped.

`<run>/board.json` says which process was started and how, so that a reloaded page or a restarted web UI finds it;
`<run>/board.log` is what it says. A loop that was started in a terminal is found by its lock file.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from shlex import join
from typing import Any

from ..files import FileError, read_json, write_json
from ..loop.run import holder
from ..processes import Identity, identity


STATE = "board.json"
LOG = "board.log"
MARK = "$ "  # begins the line of a start in the log
_TAIL = 20_000  # bytes of the log that are shown

_starting = threading.Lock()
_children: dict[int, subprocess.Popen[bytes]] = {}  # kept so that ended ones are waited for


class ChildError(ValueError):
    """A process that cannot be started or stopped, with the reason."""


@dataclass(frozen=True)
class Child:
    """A started loop.

    Attributes:
        process: which process; None if it ended before it could be looked at.
        command: arguments of `mmself`.
        since: local time of the start, ISO 8601.
        form: what the form showed, so that a page can show it again.
    """

    process: Identity | None
    command: Sequence[str]
    since: str
    form: Mapping[str, Any] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The command as a user would type it."""
        return join(["mmself", *self.command])


def start(command: Sequence[str], folder: Path, form: Mapping[str, Any]) -> Child:
    """Starts `mmself` in a session of its own, so that it outlives the web UI.

    Args:
        command: its arguments.
        folder: of the run.
        form: what the form shows.

    Raises:
        ChildError: a loop works on this run already.
        FileError: the folder cannot be written.
    """
    with _starting:
        if running(folder) is not None:
            raise ChildError(f"A loop works on {folder} already.")
        _wait_for_ended()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with open(folder / LOG, "ab") as log:
                log.write(f"{MARK}{join(['mmself', *command])}\n".encode())
                log.flush()
                child = subprocess.Popen(
                    [sys.executable, "-m", "llamafactory_mmself.cli", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise FileError(f"{folder} cannot be written: {error}") from error
        _children[child.pid] = child
        started = Child(
            identity(child.pid), tuple(command), datetime.now().astimezone().isoformat(timespec="seconds"), dict(form)
        )
        write_json(folder / STATE, asdict(started))
        return started


def last_start(folder: Path) -> Child | None:
    """How the run was last started from a web UI, or None."""
    try:
        values = read_json(folder / STATE)
        found = values["process"]
        process = None if found is None else Identity(int(found["pid"]), int(found["started"]))
        return Child(process, tuple(map(str, values["command"])), str(values["since"]), dict(values["form"]))
    except (FileError, KeyError, TypeError, ValueError):
        return None


def running(folder: Path) -> Identity | None:
    """The process that works on a run: a child of a web UI, or whoever holds the run's lock."""
    child = last_start(folder)
    if child is not None and child.process is not None and child.process.running:
        return child.process
    other = holder(folder)
    return other if other is not None and other.running else None


def stop(folder: Path) -> None:
    """Asks the process of a run to end, as Ctrl-C does: what is finished stays, and a start goes on from there.

    It is the signal that `mmself loop` ends in order on even where Ctrl-C is ignored, as it is in background jobs.

    Raises:
        ChildError: no process works on the run, or it belongs to somebody else.
    """
    process = running(folder)
    if process is None:
        raise ChildError(f"No loop works on {folder}.")
    try:
        os.kill(process.pid, signal.SIGTERM)
    except PermissionError as error:
        raise ChildError(f"The loop on {folder} belongs to another user.") from error
    except ProcessLookupError:  # it has ended meanwhile
        return


def log_tail(folder: Path) -> str:
    """The end of what the last start said; of a progress bar only its last state."""
    try:
        with open(folder / LOG, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    starts = [number for number, line in enumerate(lines) if line.startswith(MARK + "mmself ")]
    return "\n".join(lines[starts[-1] if starts else 0 :]).strip()


def failure(folder: Path) -> str | None:
    """The error that the last start ended with, or None."""
    text = log_tail(folder)
    _, found, message = text.rpartition("mmself: error: ")
    if found:
        return message.strip()
    return text[-2000:] if "Traceback (most recent call last)" in text else None


def _wait_for_ended() -> None:
    for pid, child in list(_children.items()):
        if child.poll() is not None:
            del _children[pid]
