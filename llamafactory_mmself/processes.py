# SPDX-License-Identifier: Apache-2.0
"""Processes by number and time of start, so that a number that the system gave away again is not mistaken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Identity:
    """A process.

    Attributes:
        pid: its number.
        started: when the system started it, in clock ticks since it booted.
    """

    pid: int
    started: int

    @property
    def running(self) -> bool:
        """Whether this very process still runs; one that has ended and was not waited for does not."""
        found = _stat(self.pid)
        return found is not None and found == ("running", self.started)


def identity(pid: int) -> Identity | None:
    """The process with this number, or None if there is none."""
    found = _stat(pid)
    return None if found is None else Identity(pid, found[1])


def _stat(pid: int) -> tuple[str, int] | None:
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return ("ended" if after_name[0] in "ZX" else "running"), int(after_name[19])
