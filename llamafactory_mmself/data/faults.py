# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a data set: one `Fault` per finding, errors made of them, and a table for terminals."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .terminal import count, display_width, hang, number_ranges, quote, table


Level = Literal["error", "warning"]

_SHOWN_IN_ERROR = 10
_FIELD_WIDTH = 30
_PLACE_WIDTH = 20


@dataclass(frozen=True)
class Fault:
    """One finding in one row.

    Attributes:
        file: The data file, or `dataset_info.json`.
        row: Counts from 1. For JSONL it is the line number. 0 means the whole file.
        field: Path of the value inside the row as the user wrote it, such as `conversations[0].value`; "" for the row.
        code: Short kebab-case name of this kind of fault.
        message: What is wrong: whole sentences.
        fix: What to do about it: whole sentences.
        level: An `error` makes the row unusable, a `warning` does not.
    """

    file: str
    row: int
    field: str
    code: str
    message: str
    fix: str
    level: Level = "error"

    @property
    def place(self) -> str:
        """File, row and field in words."""
        parts = [self.file]
        if self.row:
            parts.append(f"row {self.row}")
        if self.field:
            parts.append(f"field `{self.field}`")
        return ", ".join(parts)

    def __str__(self) -> str:
        return f"{self.place}: {self.message} Fix: {self.fix}"

    def to_dict(self) -> dict[str, Any]:
        """Returns the fault as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Fault":
        """Makes a fault from what `to_dict` returned."""
        return cls(**values)


class DataError(ValueError):
    """Data that cannot be used. The text shows the first 10 faults, one per line.

    Args:
        faults: What was found.
        hint: A last line that tells the user where to go from here.
    """

    def __init__(self, faults: Sequence[Fault], hint: str = ""):
        self.faults = tuple(faults)
        self.hint = hint
        lines = [str(fault) for fault in self.faults[:_SHOWN_IN_ERROR]]
        if (more := len(self.faults) - _SHOWN_IN_ERROR) > 0:
            lines.append(f"... and {count(more, 'more fault')}.")
        if hint:
            lines.append(hint)
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.faults, self.hint)


class FaultLog:
    """Collects the faults of one row while it is read.

    Args:
        file: The file that the row stands in.
        row: The number of the row, from 1.
    """

    def __init__(self, file: str = "", row: int = 0):
        self.file = file
        self.row = row
        self.faults: list[Fault] = []

    def error(self, field: str, code: str, message: str, fix: str) -> None:
        """Adds a fault that makes the row unusable."""
        self.faults.append(Fault(self.file, self.row, field, code, message, fix))

    def warn(self, field: str, code: str, message: str, fix: str) -> None:
        """Adds a fault that leaves the row usable."""
        self.faults.append(Fault(self.file, self.row, field, code, message, fix, "warning"))

    @property
    def failed(self) -> bool:
        """Whether there is at least one error."""
        return any(fault.level == "error" for fault in self.faults)


def format_table(faults: Iterable[Fault], width: int = 100) -> str:
    """Lays faults out for a terminal.

    Errors come before warnings, and faults of one kind stand together. If a kind occurs more than once, a list of all
    kinds with their counts and rows follows.

    Args:
        faults: What to show.
        width: Columns of the terminal.

    Returns:
        Lines joined by newlines; "" if there is no fault.
    """
    faults = list(faults)
    counts = format_counts(faults, width)
    return format_groups(faults, width) + (f"\n\n{counts}" if counts else "")


def format_groups(faults: Sequence[Fault], width: int = 100) -> str:
    """Lays out every fault, those of one kind with one fix under one heading."""
    name_files = len({fault.file for fault in faults if fault.row}) > 1
    blocks = []
    for (level, code), members in _group(faults, lambda fault: (fault.level, fault.code)).items():
        lines = [f"{level.upper()}  {code}"]
        for fix, alike in _group(members, lambda fault: fault.fix).items():
            lines += _aligned(alike, name_files, width)
            lines += hang("  Fix: ", fix, width)
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def format_counts(faults: Sequence[Fault], width: int = 100) -> str:
    """Lists every kind of fault with its count and its rows; "" if no kind occurs twice."""
    groups = _group(faults, lambda fault: (fault.level, fault.code))
    if len(groups) == len(faults):
        return ""
    cells = [(level, code, f"{len(members):,}") for (level, code), members in groups.items()]
    lines = ["In all"]
    for line, members in zip(table(cells, right=frozenset({2})), groups.values(), strict=True):
        places = {file: _rows(_of_file(members, file)) for file in dict.fromkeys(fault.file for fault in members)}
        where = next(iter(places.values())) if len(places) == 1 else f"in {len(places)} files"
        lines.append(f"  {line}   {quote(where, max(width - display_width(line) - 5, 12))}")
    return "\n".join(lines)


def _of_file(faults: Sequence[Fault], file: str) -> list[Fault]:
    return [fault for fault in faults if fault.file == file]


def _rows(faults: Sequence[Fault]) -> str:
    """Names the rows of faults in one file, or the file if they have none."""
    rows = {fault.row for fault in faults if fault.row}
    return ("row " if len(rows) == 1 else "rows ") + number_ranges(rows) if rows else Path(faults[0].file).name


def _aligned(faults: Sequence[Fault], name_files: bool, width: int) -> list[str]:
    """Returns a line for every message; rows that share field and message share a line."""
    labels, messages = [], []
    groups = _group(faults, lambda fault: (fault.file, fault.field, fault.message))
    for (file, field, message), alike in groups.items():
        place = quote(_rows(alike), _PLACE_WIDTH)
        if name_files and alike[0].row:
            place = f"{quote(Path(file).name, _PLACE_WIDTH)} {place}"
        labels.append((place, quote(field, _FIELD_WIDTH)))
        messages.append(message)
    lines = []
    for label, message in zip(table(labels, gap=2), messages, strict=True):
        if display_width(label) <= width // 2:
            lines += hang(f"  {label}  ", message, width)
        else:
            lines += [f"  {quote(label, width - 4)}", *hang("      ", message, width)]
    return lines


def _group(faults: Iterable[Fault], key: Callable[[Fault], Any]) -> dict[Any, list[Fault]]:
    groups: dict[Any, list[Fault]] = {}
    for fault in sorted(faults, key=lambda fault: fault.level != "error"):
        groups.setdefault(key(fault), []).append(fault)
    return groups
