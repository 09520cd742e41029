# SPDX-License-Identifier: Apache-2.0
"""Checking whole data sets and telling people what was found."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .faults import DataError, Fault, format_counts, format_groups
from .images import check_images
from .read import RowReader
from .rows import PreferenceRow
from .schema import DatasetSchema
from .supervised import SupervisedReader
from .terminal import count, table


REQUIRABLE = frozenset({"images", "rejected_images", "prefix", "weights"})

Encode = Callable[[PreferenceRow], list[Fault]]

_SHOWN = 50
_SHOWN_PER_CODE = 5


@dataclass(frozen=True)
class Report:
    """What was found in one data set.

    Attributes:
        dataset: The name of the data set.
        file: Its file or folder.
        rows: Number of rows in it.
        good: Number of rows without an error.
        faults: All errors and warnings.
    """

    dataset: str
    file: str
    rows: int
    good: int
    faults: tuple[Fault, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings are allowed."""
        return all(fault.level != "error" for fault in self.faults)

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as plain JSON values."""
        return {
            "dataset": self.dataset,
            "file": self.file,
            "ok": self.ok,
            "rows": self.rows,
            "good": self.good,
            "faults": [fault.to_dict() for fault in self.faults],
        }


def validate_dataset(
    schema: DatasetSchema,
    dataset_dir: Path,
    media_dir: Path,
    *,
    require: frozenset[str] = frozenset(),
    check_media: bool = True,
    encode: Encode | None = None,
    progress: bool = False,
) -> Report:
    """Checks the structure of every row, then its media files, then whether it can be encoded.

    Rows of a data set with `ranking` hold a chosen and a rejected answer; those of one without, that names no column
    `chosen`, end with one answer. Each check only sees rows that passed the ones before it.

    Args:
        schema: The data set.
        dataset_dir: The folder that `schema.file_name` starts from.
        media_dir: The folder that media paths start from.
        require: What every row must have: any of `images`, `rejected_images`, `prefix`, `weights`.
        check_media: Whether to open image and video files.
        encode: Returns the faults that show when a row is tokenised.
        progress: Whether to show progress bars.

    Raises:
        ValueError: `require` holds an unknown word. Bad data never raises; it is in the report.
    """
    if unknown := require - REQUIRABLE:
        raise ValueError(f"Cannot require {sorted(unknown)}. Choose from {sorted(REQUIRABLE)}.")
    file = str(Path(dataset_dir) / schema.file_name) if schema.file_name else schema.info_file
    rows: list[PreferenceRow] = []
    faults: list[Fault] = []
    number = 0
    try:
        supervised = not schema.ranking and "chosen" not in schema.declared
        reader = (SupervisedReader if supervised else RowReader)(schema, dataset_dir, media_dir)
        for row, found in _with_bar(reader, "Reading rows", progress):
            number = reader.number
            faults += found
            if row is not None:
                rows.append(row)
                faults += missing_requirements(row, schema, require)
        faults += reader.closing_faults()
    except DataError as err:
        faults += err.faults
    if check_media:
        faults += check_images(rows, progress=progress)
    if encode is not None:
        bad = _bad_rows(faults)
        clean = [row for row in rows if (row.file, row.row) not in bad]
        for row in _with_bar(clean, "Encoding rows", progress):
            faults += encode(row)
    ordered = sorted(faults, key=lambda fault: (fault.file, fault.row))
    return Report(schema.name, file, number, number - len(_bad_rows(faults)), tuple(ordered))


def format_report(reports: Sequence[Report], width: int = 100) -> str:
    """Lays reports out for a terminal: a line for every data set, then its faults.

    Of each data set at most 50 different faults are shown, chosen so that every kind of fault is among them.

    Args:
        reports: What `validate_dataset` returned.
        width: Columns of the terminal.
    """
    head = ("data set", "rows", "good", "errors", "warnings", "")
    lines = [_summary(report) for report in reports]
    blocks = ["\n".join(table([head, *lines], right=frozenset({1, 2, 3, 4})))]
    for report in reports:
        if report.faults:
            blocks.append(_format_faults(report, width))
    return "\n\n".join(blocks)


def _summary(report: Report) -> tuple[str, ...]:
    errors = sum(fault.level == "error" for fault in report.faults)
    numbers = (report.rows, report.good, errors, len(report.faults) - errors)
    verdict = "has errors" if errors else "ok"
    return (report.dataset, *(f"{number:,}" for number in numbers), verdict)


def _format_faults(report: Report, width: int) -> str:
    shown = _select(report.faults)
    title = f"{report.dataset}: {report.file}"
    parts = [f"{title}\n{'-' * min(len(title), width)}", format_groups(shown, width)]
    if hidden := len(report.faults) - len(shown):
        parts.append(f"... and {count(hidden, 'more fault')}, counted below.")
    if counts := format_counts(report.faults, width):
        parts.append(counts)
    return "\n\n".join(parts)


def _select(faults: Sequence[Fault]) -> list[Fault]:
    """Keeps what fits on 50 lines: some faults of every kind, then as many errors as possible, then warnings.

    Faults that differ in their row only share a line.
    """
    lines: dict[Fault, list[Fault]] = {}
    for fault in faults:
        lines.setdefault(replace(fault, row=min(fault.row, 1)), []).append(fault)
    seen: dict[str, int] = {}
    ranked: list[tuple[bool, bool, int, Fault]] = []
    for line in lines:
        seen[line.code] = seen.get(line.code, 0) + 1
        ranked.append((seen[line.code] > _SHOWN_PER_CODE, line.level != "error", len(ranked), line))
    shown = {line for *_, line in sorted(ranked, key=lambda item: item[:3])[:_SHOWN]}
    return [fault for fault in faults if replace(fault, row=min(fault.row, 1)) in shown]


def _with_bar(items: Iterable[Any], title: str, show: bool) -> Iterable[Any]:
    if not show:
        return items
    from tqdm import tqdm

    return tqdm(items, desc=title, unit="row")


def _bad_rows(faults: Iterable[Fault]) -> set[tuple[str, int]]:
    return {(fault.file, fault.row) for fault in faults if fault.level == "error" and fault.row}


def missing_requirements(row: PreferenceRow, schema: DatasetSchema, require: frozenset[str]) -> list[Fault]:
    """A fault for each optional column that a training needs and the row does not have.

    Args:
        row: The row.
        schema: Its data set.
        require: Any of `images`, `rejected_images`, `prefix` and `weights`.
    """
    present = {
        "images": bool(row.images),
        "rejected_images": bool(row.rejected_images),
        "prefix": row.prefix is not None,
        "weights": row.weight is not None,
    }
    ways = {
        "images": "Give a picture and an `<image>` in the question.",
        "rejected_images": "Give it, or a second image for every placeholder in `images`.",
        "prefix": "Give `prefix` and `prefix_l`.",
        "weights": "Give a number.",
    }
    return [
        Fault(
            file=row.file,
            row=row.row,
            field=schema.key(column),
            code="missing-required",
            message=f"The row has no `{schema.key(column)}`, which this training needs.",
            fix=ways[column],
        )
        for column in sorted(require)
        if not present[column]
    ]
