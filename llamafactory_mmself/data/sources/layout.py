# SPDX-License-Identifier: Apache-2.0
"""What the readers share: finding files and pictures, checking rows, dropping and counting faulty ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from string import ascii_uppercase
from typing import Any

from ..questions import Question


class SourceError(ValueError):
    """A benchmark's file or row that cannot be used, with file, row, field and what to do."""


class MissingFile(SourceError):
    """A benchmark's folder without a file of the split."""


class RowError(SourceError):
    """A fault of one row; `reason` is the same text for all rows with that fault."""

    def __init__(self, file: Path, row: int | str, name: str, problem: str, reason: str):
        super().__init__(f"{file}, row {row}, field `{name}`: {problem} --drop_invalid leaves such rows out.")
        self.reason = reason


# Makes the error of a row from field, problem and reason.
Fail = Callable[[str, str, str], RowError]


@dataclass(frozen=True)
class Options:
    """How to read a benchmark.

    Attributes:
        images: folder of the pictures, where they are not where the benchmark puts them.
        limit: at most this many questions, None for all.
        drop_invalid: leave faulty rows out and count them, instead of stopping at the first.
        domain: M3CoT only: a domain of the benchmark, or one of STL's four.
        augmented: ChartQA only: machine-written questions too.
        extracted: M3CoT only: folder for pictures that are stored inside parquet files.
    """

    images: Path | None = None
    limit: int | None = None
    drop_invalid: bool = False
    domain: str | None = None
    augmented: bool = False
    extracted: Path | None = None


@dataclass(frozen=True)
class Layout:
    """A benchmark's folder."""

    folder: Path
    options: Options

    def find(self, names: Iterable[str]) -> Path:
        """The first of these files, glob patterns among them, that is there.

        Raises:
            MissingFile: naming all of them.
        """
        names = list(names)
        for name in names:
            for path in sorted(self.folder.glob(name)):
                if path.is_file():
                    return path
        raise MissingFile(f"{self.folder} has none of the files {', '.join(names)}.")

    def picture(self, image: str, folders: Sequence[str], fail: Fail) -> str:
        """The path of a picture that a row names; a path that begins elsewhere is looked up by its end."""
        parts = PurePosixPath(image.replace("\\", "/")).parts
        tails = [Path(*parts[start:]) for start in range(len(parts)) if parts[start] != "/"]
        roots = [self.options.images] if self.options.images else [self.folder / name for name in ("", *folders)]
        for tail in tails:
            for root in roots:
                if (root / tail).is_file():
                    return str((root / tail).resolve())
        where = ", ".join(str(root) for root in roots)
        raise fail("image", f"there is no picture {image!r} in {where}; --images names another folder.", "no picture")


def rows_of(file: Path, key: str | None = None) -> list[tuple[int, dict[str, Any]]]:
    """The numbered rows of a JSON list or of JSON lines, whatever the file is called.

    Args:
        file: what to read.
        key: the field that holds the list, for files that wrap it in an object.

    Raises:
        SourceError: naming file and line.
    """
    text = _read(file)
    if text.lstrip().startswith("[") or (key and _wraps(text, key)):
        value = _loads(file, text)
        rows = value[key] if isinstance(value, dict) and key else value
    else:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        rows = [_loads(file, line, number) for number, line in lines]
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise SourceError(f"{file}, row {number}: a JSON object is expected, found {type(row).__name__}.")
    return list(enumerate(rows))


def table_of(file: Path) -> dict[str, Any]:
    """A JSON object by id; an id that comes twice is an error, not the last one's.

    Raises:
        SourceError: naming file and line or id.
    """
    value = _loads(file, _read(file), twice=True)
    if not isinstance(value, dict):
        raise SourceError(f"{file}: a JSON object is expected, found {type(value).__name__}.")
    return value


def fault(file: Path, row: int | str) -> Fail:
    """Makes the errors of one row from field, problem and reason."""
    return lambda name, problem, reason: RowError(file, row, name, problem, reason)


def text_of(row: Mapping[str, Any], name: str, fail: Fail) -> str:
    """A field that must hold a text or a number."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise fail(name, f"a text is expected, found {value!r}.", f"no {name}")
    return str(value).strip()


def options_of(row: Mapping[str, Any], fail: Fail) -> tuple[str, ...]:
    """The field `choices`: two options at least."""
    choices = row.get("choices")
    if not isinstance(choices, list) or not 2 <= len(choices) <= len(ascii_uppercase):
        raise fail("choices", f"a list of 2 or more texts is expected, found {choices!r}.", "no options")
    return tuple(str(choice).strip() for choice in choices)


def place_of(row: Mapping[str, Any], name: str, choices: Sequence[str], fail: Fail) -> str:
    """The capital letter of the option that a field tells by its place from 0."""
    place = row.get(name)
    if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < len(choices):
        raise fail(
            name,
            f"place {place!r} is not among the {len(choices)} options, which start at 0.",
            "key not among the options",
        )
    return ascii_uppercase[place]


def letter_of(key: str, choices: Sequence[str], name: str, fail: Fail) -> str:
    """The capital letter of a key such as `(b)`, `B` or `b`; it must be among the options."""
    letter = key.strip().strip("().").upper()
    if len(letter) != 1 or letter not in ascii_uppercase[: len(choices)]:
        last = ascii_uppercase[len(choices) - 1]
        raise fail(name, f"the key {key!r} is not among the options (A) to ({last}).", "key not among the options")
    return letter


def collect(layout: Layout, questions: Iterator[Question | RowError], options: Options) -> Source:
    """Takes questions up to the limit; faulty and repeated ones are dropped and counted, or raised.

    Raises:
        SourceError: no question is left.
    """
    found: dict[str, Question] = {}
    dropped: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for question in questions:
        if options.limit is not None and len(found) >= options.limit:
            break
        error = question if isinstance(question, RowError) else None
        if isinstance(question, Question):
            if question.id not in found:
                found[question.id] = question
                continue
            error = RowError(layout.folder, question.id, "id", "this id comes twice.", "id comes twice")
        assert error is not None
        if not options.drop_invalid:
            raise error
        dropped[error.reason] += 1
        examples.setdefault(error.reason, str(error).removesuffix(" --drop_invalid leaves such rows out."))
    if not found:
        raise SourceError(f"{layout.folder}: no question can be used. {'; '.join(examples.values())}".strip())
    return Source(list(found.values()), dict(dropped), examples)


@dataclass(frozen=True)
class Source:
    """Questions of one split.

    Attributes:
        questions: in the order of the file.
        dropped: how many rows were left out, by reason.
        examples: the first row that was left out for each reason.
    """

    questions: list[Question]
    dropped: Mapping[str, int]
    examples: Mapping[str, str]


def each(
    file: Path,
    rows: Iterable[tuple[int | str, Any]],
    build: Callable[[int | str, Any, Fail], Question | None],
) -> Iterator[Question | RowError]:
    """Builds a question from each numbered row; a row's fault is yielded, not raised. None leaves a row out."""
    for number, row in rows:
        try:
            question = build(number, row, fault(file, number))
        except RowError as error:
            yield error
        else:
            if question is not None:
                yield question


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{file} cannot be read: {error}") from error


def _loads(file: Path, text: str, line: int = 0, twice: bool = False) -> Any:
    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = Counter(name for name, _ in pairs)
        for name, count in names.items():
            if count > 1:
                raise SourceError(f"{file}: {name!r} comes {count} times in one object; remove all but one.")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=table if twice else None)
    except json.JSONDecodeError as error:
        raise SourceError(f"{file}, line {line or error.lineno}, column {error.colno}: {error.msg}.") from error


def _wraps(text: str, key: str) -> bool:
    return text.lstrip().startswith("{") and f'"{key}"' in text[:100_000] and "\n{" not in text.strip()
