# SPDX-License-Identifier: Apache-2.0
"""What the readers share: finding files, checking rows, and pictures that lie inside of tables."""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from string import ascii_uppercase
from typing import Any

from ....data.questions import Question
from ....data.sources.layout import rows_of, table_of
from ....files import write_bytes
from ...metrics.base import Item


LONGEST_CELL = 1 << 30  # characters of a TSV cell; pictures stand in them as base64
NAME = 32  # hexadecimal digits of a picture's digest that name its file
_MAGIC = {b"\xff\xd8": "jpg", b"\x89PNG": "png", b"GIF8": "gif", b"BM": "bmp", b"II*\x00": "tif", b"MM\x00*": "tif"}


class LayoutError(ValueError):
    """A benchmark's file or row that cannot be used, with file, row, field and what to do."""


class MissingFile(LayoutError):
    """A file of a benchmark that is not there, with the layout expected and where its owner publishes it."""


@dataclass(frozen=True)
class Place:
    """Where a benchmark lies.

    Attributes:
        folder: the user's copy, in the official layout.
        pictures: folder that pictures from inside of tables are written to, once, named by their content.
        expected: what the layout is and who publishes it; errors about missing files end with it.
        wanted: paths of pictures from inside of tables that are to be written; None for all.
    """

    folder: Path
    pictures: Path
    expected: str = ""
    wanted: frozenset[str] | None = None

    def find(self, *names: str) -> Path:
        """The first of these files, glob patterns among them, that is there.

        Raises:
            MissingFile: none is.
        """
        return self.find_all(*names)[0]

    def find_all(self, *names: str) -> list[Path]:
        """All files, in order, of the first of these glob patterns that any file has.

        Raises:
            MissingFile: no file has any of them.
        """
        for name in names:
            found = sorted(path for path in self.folder.glob(name) if path.is_file())
            if found:
                return found
        which = names[0] if len(names) == 1 else f"any of {', '.join(names)}"
        raise MissingFile(f"{self.folder}: there is no {which}.\n{self.expected}".strip())

    def has(self, name: str) -> bool:
        """Whether a file is there; a glob pattern stands for any of its files."""
        return any(path.is_file() for path in self.folder.glob(name))

    def picture(self, row: Row, name: str, *folders: str, key: str = "image") -> str:
        """The path of a picture that a row names, looked for in the benchmark's folder and these folders below it.

        Args:
            row: for the error.
            name: as the row has it; of a longer path the end suffices.
            folders: below the benchmark's folder.
            key: the row's field, for the error.

        Raises:
            LayoutError: it is nowhere.
        """
        parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", ".")]
        for start in range(len(parts)):
            for root in folders or ("",):
                path = self.folder / root / Path(*parts[start:])
                if path.is_file():
                    return str(path.resolve())
        where = ", ".join(str(self.folder / root) for root in folders or ("",))
        raise row.fail(key, f"there is no picture {name!r} in {where}; put the benchmark's pictures there.")

    def keep(self, row: Row, data: Any, key: str = "image") -> str:
        """Writes a picture from inside of a table, if it is wanted, to a file that bears its digest; returns the path.

        Args:
            row: for the error.
            data: bytes, base64 text, or what `datasets` stores: `{"bytes": ..., "path": ...}`.
            key: the row's field, for the error.

        Raises:
            LayoutError: it is no picture.
        """
        content = _bytes(row, data, key)
        ending = next((ending for start, ending in _MAGIC.items() if content.startswith(start)), None)
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            ending = "webp"
        if ending is None:
            raise row.fail(
                key, "this is no picture (JPEG, PNG, GIF, BMP, TIFF and WebP are known); get the file anew."
            )
        path = self.pictures / f"{hashlib.sha256(content).hexdigest()[:NAME]}.{ending}"
        wanted = self.wanted is None or str(path.resolve()) in self.wanted
        if wanted and (not path.is_file() or path.read_bytes() != content):
            write_bytes(path, content)
        return str(path.resolve())


Reader = Callable[..., Iterator[Item]]  # (place, **options of the task file)


@dataclass(frozen=True)
class Row:
    """One row of a file, with errors that name file, row and field.

    Attributes:
        file: where it stands.
        number: its place from 0, or its id.
        values: its fields.
    """

    file: Path
    number: int | str
    values: Mapping[str, Any] = field(repr=False)

    def fail(self, name: str, problem: str) -> LayoutError:
        """The error of a field."""
        return LayoutError(f"{self.file}, row {self.number}, field `{name}`: {problem}")

    def get(self, name: str) -> Any:
        """A field, None if there is none."""
        return self.values.get(name)

    def text(self, name: str, default: str | None = None) -> str:
        """A text or a number, as text; `default` stands for what is missing, without one it is an error."""
        value = self.values.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
        if default is None or not (value is None or isinstance(value, str)):
            raise self.fail(name, f"a text is expected, found {_short(value)}.")
        return default

    def whole(self, name: str) -> int:
        """A whole number, also one that is written as text."""
        value = self.text(name)
        if not value.lstrip("-").isdecimal():
            raise self.fail(name, f"a whole number is expected, found {_short(value)}.")
        return int(value)

    def texts(self, name: str, least: int = 0) -> tuple[str, ...]:
        """A list of texts."""
        value = self.values.get(name)
        if not isinstance(value, list | tuple) or len(value) < least or any(isinstance(item, dict) for item in value):
            wanted = f"a list of {least} or more texts" if least else "a list of texts"
            raise self.fail(name, f"{wanted} is expected, {_found(value)}.")
        return tuple(str(item).strip() for item in value)

    def one_of(self, name: str, choices: Mapping[str, str]) -> str:
        """What a field's value, in any case, stands for."""
        value = self.text(name).lower()
        if value not in choices:
            raise self.fail(name, f"one of {', '.join(choices)} is expected, found {_short(self.get(name))}.")
        return choices[value]

    def letter(self, name: str, options: Sequence[str]) -> str:
        """A capital letter such as `B`, `(b)` or `B.`, that has to be an option's."""
        letter = self.text(name).strip().strip("().").upper()
        if len(letter) != 1 or letter not in ascii_uppercase[: len(options)]:
            last = ascii_uppercase[len(options) - 1]
            raise self.fail(name, f"{_short(self.get(name))} is not among the options (A) to ({last}).")
        return letter

    def place(self, name: str, options: Sequence[str]) -> str:
        """The letter of an option that is told by its place from 0."""
        number = self.whole(name)
        if not 0 <= number < len(options):
            raise self.fail(name, f"place {number} is not among the {len(options)} options, which start at 0.")
        return ascii_uppercase[number]

    def columns(self, letters: str = "ABCDEFGH") -> tuple[str, ...]:
        """The options that stand in columns A, B, ...; the first empty one ends them.

        Raises:
            LayoutError: there are fewer than two.
        """
        found = []
        for letter in letters:
            if not (text := self.text(letter, default="")):
                break
            found.append(text)
        if len(found) < 2:
            raise self.fail(letters[len(found)], "at least two options are expected in columns A, B, ...")
        return tuple(found)


def json_rows(file: Path, key: str | None = None) -> Iterator[Row]:
    """The rows of a JSON list or of JSON lines, whatever the file is called."""
    for number, values in rows_of(file, key):
        yield Row(file, number, values)


def json_objects(file: Path) -> Iterator[Row]:
    """The rows of a JSON object by id."""
    for name, values in table_of(file).items():
        if not isinstance(values, dict):
            raise LayoutError(f"{file}, row {name}: a JSON object is expected, found {type(values).__name__}.")
        yield Row(file, name, values)


def tsv_rows(file: Path) -> Iterator[Row]:
    """The rows of a table with tabs, as pandas writes it.

    Raises:
        LayoutError: the file cannot be read, or it has no header with a column `index`.
    """
    csv.field_size_limit(LONGEST_CELL)
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, dialect="excel-tab")
            if "index" not in (reader.fieldnames or ()):
                raise LayoutError(f"{file}: a header with a column `index` is expected, found {reader.fieldnames}.")
            for number, values in enumerate(reader):
                yield Row(file, number, values)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LayoutError(f"{file} cannot be read: {error}") from error


def parquet_rows(file: Path, leave_out: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of a parquet file, without some of its columns.

    Raises:
        LayoutError: the file cannot be read.
    """
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        table = ParquetFile(file)
        columns = [name for name in table.schema_arrow.names if name not in leave_out]
        batches = table.iter_batches(batch_size=64, columns=columns)
        for number, values in enumerate(row for batch in batches for row in batch.to_pylist()):
            yield Row(file, number, values)
    except (ArrowException, OSError) as error:
        raise LayoutError(f"{file} cannot be read: {error}") from error


def text_lines(file: Path) -> list[str]:
    """The lines of a text file that are not empty.

    Raises:
        LayoutError: the file cannot be read.
    """
    try:
        return [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise LayoutError(f"{file} cannot be read: {error}") from error


def tables(place: Place, *patterns: str) -> Iterator[Row]:
    """The rows of all files of the first pattern that any file has: parquet, TSV, JSON or JSON lines."""
    for file in place.find_all(*patterns):
        if file.suffix == ".parquet":
            yield from parquet_rows(file)
        elif file.suffix == ".tsv":
            yield from tsv_rows(file)
        else:
            yield from json_rows(file)


def choice_item(id: str, text: str, images: Sequence[str], choices: Sequence[str], **truth: Any) -> Item:
    """An item whose prompt lists lettered options as all prompts of this package do.

    Args:
        id: unique in the benchmark.
        text: the question without its options.
        images: paths.
        choices: texts of the options; none for a free question.
        truth: what metrics need beside `question` and `choices`.
    """
    question = Question(id, text, "", tuple(images), tuple(choices) or None)
    facts = {"question": text, **({"choices": list(choices)} if choices else {}), **truth}
    return Item(id, question.block, tuple(images), facts)


def free_item(id: str, text: str, images: Sequence[str], **truth: Any) -> Item:
    """An item that is asked as it is."""
    return choice_item(id, text, images, (), **truth)


def _bytes(row: Row, data: Any, key: str) -> bytes:
    if isinstance(data, Mapping):
        data = data.get("bytes")
    if isinstance(data, str) and data:
        try:
            return base64.b64decode(data.partition(";base64,")[2] or data, validate=False)
        except (binascii.Error, ValueError) as error:
            raise row.fail(key, f"this is no base64 text ({error}); get the file anew.") from error
    if not isinstance(data, bytes | bytearray) or not data:
        raise row.fail(key, f"a picture is expected, {_found(data)}.")
    return bytes(data)


def _found(value: Any) -> str:
    return f"found {_short(value)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
