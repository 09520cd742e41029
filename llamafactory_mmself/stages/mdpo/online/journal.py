# SPDX-License-Identifier: Apache-2.0
"""What has been sampled and annotated, on the disk as soon as it is: a killed run does none of it again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ....files import append_jsonl
from .entries import Group, Outcome


FOLDER = "experience"
JOURNALS = "*-rank*.jsonl"


@dataclass
class Recorded:
    """What journals hold, by position."""

    groups: dict[int, Group] = field(default_factory=dict)
    outcomes: dict[int, Outcome] = field(default_factory=dict)


class Journal:
    """The file of a rank, which only ever grows. No two processes write one file.

    Args:
        folder: where sampled data of the run is kept.
        run: id of the run: journals of other runs in the same folder are neither read nor written.
        rank: this process.
    """

    def __init__(self, folder: Path, run: str, rank: int) -> None:
        self._folder = folder / FOLDER
        self._run = run
        self._path = self._folder / f"{run}-rank{rank}.jsonl"

    def sampled(self, groups: Sequence[Group]) -> None:
        """Records groups that were sampled in one batch, all of them or none."""
        self._append({"groups": [group.to_row() for group in groups]})

    def finished(self, outcome: Outcome) -> None:
        """Records what became of a position; may be called from several threads."""
        self._append({"outcome": outcome.to_row()})

    def read(self, wanted: Callable[[int], bool] = lambda position: True) -> Recorded:
        """What all ranks of the run have recorded of some positions.

        A line that a kill has cut short is as if it had never been.
        """
        found = Recorded()
        for path in sorted(self._folder.glob(f"{self._run}-rank*.jsonl")):
            with open(path, "rb") as lines:
                for line in lines:
                    self._read_line(_whole(line), wanted, found)
        return found

    def _read_line(self, row: Mapping[str, Any], wanted: Callable[[int], bool], found: Recorded) -> None:
        outcome = row.get("outcome")
        if outcome is not None and wanted(outcome["position"]):
            found.outcomes[outcome["position"]] = Outcome.from_row(outcome)
        for group in row.get("groups", ()):
            if wanted(group["position"]):
                found.groups[group["position"]] = Group.from_row(group)

    def _append(self, row: dict[str, Any]) -> None:
        append_jsonl(self._path, [row])


def _whole(line: bytes) -> dict[str, Any]:
    """The object of a line, or an empty one."""
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}
