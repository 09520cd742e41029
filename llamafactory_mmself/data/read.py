# SPDX-License-Identifier: Apache-2.0
"""Reading preference rows from JSON and JSONL files."""

import codecs
import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .answers import PrefixReading, decide_prefix_reading
from .faults import DataError, Fault
from .jsontext import decode, parse
from .rows import PreferenceRow, normalise
from .schema import DATASET_INFO, EXTRA_COLUMNS, DatasetSchema, kind
from .terminal import quote


JSON_SUFFIXES = (".json", ".jsonl")
OTHER_SUFFIXES = (".arrow", ".csv", ".parquet", ".txt")

_OPTIONAL = ("system", "tools", "images", "videos", "audios", "history", "query", *EXTRA_COLUMNS)


def iter_raw(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields the rows of a JSON or JSONL file, or of all such files of a folder in sorted order.

    Whether a file holds one list or one object on each line is told by its content. Lines are read one at a time, and
    blank ones are skipped.

    Args:
        path: A file or a folder.

    Yields:
        The number of the row in its file, from 1 (for JSONL the line number), and its value, of any type.

    Raises:
        DataError: A file is missing, of another type, not UTF-8 or not JSON (with line and column).
    """
    for file in data_files(path):
        for row, raw in _iter_file(file):
            if isinstance(raw, Fault):
                raise DataError([raw])
            yield row, raw


def data_files(path: Path) -> list[Path]:
    """Returns the file itself, or the JSON and JSONL files of a folder in sorted order.

    Raises:
        DataError: There is nothing at `path`, or a file of another type.
    """
    path = Path(path)
    if path.is_dir():
        inside = sorted(child for child in path.iterdir() if child.is_file() and not child.name.startswith("."))
        files = [child for child in inside if child.suffix in JSON_SUFFIXES and child.name != DATASET_INFO]
        others = [child for child in inside if child.suffix in OTHER_SUFFIXES]
        if files and others:
            message = f"The folder mixes file types: `{files[0].name}` and `{others[0].name}`."
            raise _file_error(path, "mixed-file-types", message, "Keep the files of one data set in one type.")
        if files:
            return files
        message = "The folder holds no .json or .jsonl file."
        raise _file_error(path, "file-missing", message, "Put the rows there, or correct `file_name`.")
    if not path.is_file():
        raise _file_error(path, "file-missing", "There is no such file.", _missing_fix(path))
    if path.suffix not in JSON_SUFFIXES:
        message = f"Rows are read from .json and .jsonl here, not from `{path.suffix or path.name}`."
        raise _file_error(path, "wrong-file-type", message, "Save the rows as a JSON list or as JSONL.")
    return [path]


class RowReader:
    """Reads the rows of a data set one at a time, and knows at the end what concerns all of them.

    Iterating yields each row with its faults; None stands for an unusable row. A broken line of a JSONL file is a
    fault of that row; reading goes on behind it.

    Args:
        schema: The data set.
        dataset_dir: The folder that `schema.file_name` starts from.
        media_dir: The folder that media paths start from.

    Attributes:
        number: How many rows have been read so far, usable or not.

    Raises:
        DataError: The data set cannot be read at all: see `iter_raw` and `DatasetSchema.faults`.
    """

    def __init__(self, schema: DatasetSchema, dataset_dir: Path, media_dir: Path):
        if faults := schema.faults():
            raise DataError(faults)
        if schema.file_name is None:
            message = "The rows of this data set are not in a local file."
            fix = "Use a data set with `file_name`."
            raise DataError([Fault(schema.info_file, 0, schema.name, "no-local-file", message, fix)])
        self.schema = schema
        self.media_dir = media_dir
        self.path = Path(dataset_dir) / schema.file_name
        self.files = data_files(self.path)
        self.number = 0
        self._unseen = {column for column in _OPTIONAL if column in schema.declared}

    def __iter__(self) -> Iterator[tuple[PreferenceRow | None, list[Fault]]]:
        yield from _normalise_all(self._located(), self.schema, self.media_dir)

    def closing_faults(self) -> list[Fault]:
        """Returns what only shows after the last row: no rows at all, and declared columns that no row has."""
        if not self.number:
            fix = "Add rows, or correct `file_name`."
            return [Fault(str(self.path), 0, "", "no-rows", "The data set holds no rows.", fix)]
        return [self._unused(column) for column in sorted(self._unseen)]

    def _located(self) -> Iterator[tuple[str, int, Any]]:
        self.number = 0
        for file in self.files:
            for row, raw in _iter_file(file):
                self.number += 1
                if self._unseen and isinstance(raw, Mapping):
                    self._unseen = {column for column in self._unseen if self.schema.key(column) not in raw}
                yield str(file), row, raw

    def _unused(self, column: str) -> Fault:
        key = self.schema.key(column)
        message = f"`columns` says that `{column}` is the key `{key}`, but no row has it."
        fix = "Correct the key, or delete the column."
        return Fault(self.schema.info_file, 0, f"{self.schema.name}.columns.{column}", "unused-column", message, fix)


def read_rows(schema: DatasetSchema, dataset_dir: Path, media_dir: Path) -> tuple[list[PreferenceRow], list[Fault]]:
    """Reads all rows of a data set.

    Args:
        schema: The data set.
        dataset_dir: The folder that `schema.file_name` starts from.
        media_dir: The folder that media paths start from.

    Returns:
        The usable rows, and the faults of all rows. Faults of the data set, such as having no rows, have the row 0.

    Raises:
        DataError: As `RowReader`.
    """
    reader = RowReader(schema, dataset_dir, media_dir)
    rows: list[PreferenceRow] = []
    faults: list[Fault] = []
    for row, found in reader:
        faults += found
        if row is not None:
            rows.append(row)
    return rows, faults + reader.closing_faults()


def rows_from_raw(
    raws: Iterable[tuple[int, Mapping[str, Any]]], schema: DatasetSchema, file: str, media_dir: Path
) -> Iterator[tuple[PreferenceRow | None, list[Fault]]]:
    """Normalises rows that somebody else has read.

    Args:
        raws: Row number (from 1) and row.
        schema: The data set.
        file: Where the rows come from, for the faults.
        media_dir: The folder that media paths start from.

    Yields:
        Each row with its faults; None stands for an unusable row.

    Raises:
        DataError: See `DatasetSchema.faults`.
    """
    if faults := schema.faults():
        raise DataError(faults)
    yield from _normalise_all(((file, row, raw) for row, raw in raws), schema, media_dir)


def _normalise_all(
    located: Iterable[tuple[str, int, Any]], schema: DatasetSchema, media_dir: Path
) -> Iterator[tuple[PreferenceRow | None, list[Fault]]]:
    reading: PrefixReading | None = None
    for file, row, raw in located:
        if isinstance(raw, Fault):
            yield None, [raw]
            continue
        reading = reading or decide_prefix_reading([raw], schema)
        yield normalise(raw, schema, file=file, row=row, media_dir=media_dir, prefix_reading=reading)


def _iter_file(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields the rows of one file; a `Fault` stands for a line that cannot be read."""
    if _holds_lines(path):
        yield from _iter_lines(path)
        return
    text = decode(path.read_bytes(), str(path))
    if not text.strip():
        return
    value = parse(text, str(path))
    if isinstance(value, list):
        yield from enumerate(value, start=1)
    elif isinstance(value, dict):
        yield 1, value
    else:
        message = f"The file holds {kind(value)}."
        raise _file_error(path, "not-a-list", message, "Write a list of objects: [{...}, {...}].")


def _iter_lines(path: Path) -> Iterator[tuple[int, Any]]:
    file = str(path)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.removeprefix(codecs.BOM_UTF8).strip():
                continue
            try:
                yield number, parse(decode(line, file), file, first_line=number)
            except DataError as err:
                first = err.faults[0]
                message = first.message.replace("Line 1:", f"Line {number}:", 1)
                yield number, Fault(file, number, "", first.code, message, first.fix)


def _holds_lines(path: Path) -> bool:
    """Tells a file with one value on each line from a file with one value."""
    with path.open("rb") as lines:
        first = next((line for line in lines if line.removeprefix(codecs.BOM_UTF8).strip()), b"")
    first = first.removeprefix(codecs.BOM_UTF8).strip()
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return False
    if path.suffix == ".jsonl":
        return not first.startswith(b"[") or not _is_json(path.read_bytes())
    return first.startswith(b"{") and _is_json(first)


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data.removeprefix(codecs.BOM_UTF8))
    except (ValueError, RecursionError):
        return False
    return True


def _missing_fix(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"The folder `{quote(str(folder), 80)}` does not exist either: correct `dataset_dir` or `file_name`."
    names = sorted(child.name for child in folder.iterdir())
    if close := difflib.get_close_matches(path.name, names, n=1):
        return f"Did you mean `{close[0]}`? Correct `file_name`."
    return "Correct `file_name`, or put the file there."


def _file_error(path: Path, code: str, message: str, fix: str) -> DataError:
    return DataError([Fault(str(path), 0, "", code, message, fix)])
