# SPDX-License-Identifier: Apache-2.0
"""What a run has generated, page by page: answers with verdicts, corrections, rows that it trains on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from ..data.faults import DataError
from ..data.questions import Question, read_questions
from ..data.schema import DatasetSchema
from ..files import FileError, read_json
from .pictures import picture, picture_html
from .rows import MOST_TEXT, badge, changes_html, row_card, text_html
from .style import block


Kind = Literal["answers", "corrections", "rows", "samples"]
Verdicts = Literal["all", "right", "wrong", "unparsed"]
PAGE = 5
MOST_BYTES = 64 * 2**20  # of a file that are read
_MOST_ANSWERS = 12  # of a question that are shown
_ROUND = re.compile(r"iter(\d+)")
_DATA = ("train_data", "test_data", "warmup", "online_data")
_CORRECTED = "checked_test_correct"


class SampleError(ValueError):
    """A part of a run that cannot be shown, with the reason."""


@dataclass(frozen=True)
class Source:
    """A file, or several, of a round.

    Attributes:
        name: `iter1/test_greedy` ...: unique within a run.
        kind: how its lines are shown.
        paths: the files.
    """

    name: str
    kind: Kind
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Page:
    """Some items of a source.

    Attributes:
        html: the items.
        number: of the page, from 0.
        items: of the source after the filter.
        cut: whether the file was too large to be read whole.
    """

    html: str
    number: int
    items: int
    cut: bool

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return max(1, -(-self.items // PAGE))


def sources(folder: Path) -> list[Source]:
    """What there is to see of a run, the newest round first."""
    found: list[Source] = []
    rounds = [(int(match[1]), path) for path in folder.glob("iter*") if (match := _ROUND.fullmatch(path.name))]
    for _, place in sorted(rounds, reverse=True):
        checked = {path.name.removeprefix("checked_"): path for path in sorted(place.glob("checked_*.jsonl"))}
        turns = [path for path in checked.values() if path.name.startswith(_CORRECTED)]
        greedy = checked.get("test_greedy.jsonl")
        if turns and greedy is not None:
            turns.sort(key=lambda path: (len(path.name), path.name))
            found.append(Source(f"{place.name}/corrections", "corrections", (greedy, *turns)))
        found += [
            Source(f"{place.name}/{name.removesuffix('.jsonl')}", "answers", (path,))
            for name, path in checked.items()
            if path not in turns
        ]
        found += [
            Source(f"{place.name}/{path.stem}", "samples", (path,))
            for path in sorted(place.glob("*.jsonl"))
            if "checked_" + path.name not in {item.name for item in checked.values()}
            and not path.name.startswith(("checked_", "."))
            and ".jsonl." not in path.name
        ]
        found += [
            Source(f"{place.name}/train/{path.stem}", "rows", (path,))
            for path in sorted((place / "train").glob("*.json"))
            if path.name != "dataset_info.json" and not path.name.startswith(".")
        ]
    return found


def page(folder: Path, name: str, verdicts: Verdicts = "all", number: int = 0) -> Page:
    """A page of a source.

    Args:
        folder: the run's.
        name: of one of its `sources`; anything else is refused, so that no other file can be asked for.
        verdicts: which answers; for answers and corrections only.
        number: of the page; one past the end shows the last one.

    Raises:
        SampleError: there is no such source, or its file is damaged.
    """
    source = next((item for item in sources(folder) if item.name == name), None)
    if source is None:
        raise SampleError(f"{folder} has no samples {name!r}.")
    roots = picture_roots(folder)
    show: Callable[[Any], str]
    if source.kind == "rows":
        items, cut = _rows(source.paths[0])
        schema = _schema(source.paths[0])
        show = lambda row: row_card(row, schema, [source.paths[0].parent, *roots])  # noqa: E731
    elif source.kind == "samples":
        lines, cut = _lines(source.paths[0])
        items = list(_grouped(lines, "request").items())
        show = _plain_card
    else:
        items, cut = _answered(source.paths)
        items = [item for item in items if _wanted(item[1], verdicts)]
        questions = _questions(folder)
        corrected = source.kind == "corrections"
        show = lambda item: _answer_card(item[0], item[1], questions.get(item[0]), roots, corrected)  # noqa: E731
    number = max(0, min(number, (len(items) - 1) // PAGE))
    shown = items[number * PAGE : (number + 1) * PAGE]
    try:
        return Page(block("".join(show(item) for item in shown)), number, len(items), cut)
    except (KeyError, TypeError, AttributeError) as error:
        raise SampleError(f"{source.paths[0]} is no file of samples: {error!r}.") from error


def file_rows(path: Path) -> list[Any]:
    """All rows of a JSON or JSONL file, or none if it is something else, damaged or very large."""
    try:
        if path.suffix == ".jsonl":
            lines, cut = _lines(path)
            return [] if cut else list(lines)
        return _rows(path)[0] if path.suffix == ".json" else []
    except SampleError:
        return []


def picture_roots(folder: Path) -> list[Path]:
    """The folders that pictures of a run come from: its own, and those of its data."""
    try:
        settings = read_json(folder / "run.json")
    except FileError:
        settings = {}
    given = [settings.get(name) for name in _DATA] if isinstance(settings, dict) else []
    return list(dict.fromkeys([folder, *(Path(path).parent for path in given if isinstance(path, str) and path)]))


def _answer_card(
    id: str,
    answers: Sequence[Sequence[Mapping[str, Any]]],
    question: Question | None,
    roots: Sequence[Path],
    turns: bool,
) -> str:
    images = () if question is None else question.images
    shown = "".join(picture_html(picture(path, roots)) for path in images[:4])
    parts = [badge(id)]
    if question is not None:
        parts += [
            text_html("", question.block, "asked"),
            f'<div class="mmself-label">{badge("= " + question.answer)}</div>',
        ]
    before = None
    for place, group in enumerate(answers):
        for row in group[:_MOST_ANSWERS]:
            verdict, text = row["verdict"], _text(row["sample"])
            kind = "good" if verdict["correct"] else "bad" if verdict["parsed"] else "none"
            sign = {"good": "✓", "bad": "✗", "none": "?"}[kind]
            label = f"correction {place}" if place else f"#{row['sample'].get('k', 0)}"
            parts.append(badge(f"{sign} {verdict['answer'] if verdict['parsed'] else 'unparsed'}", kind))
            if turns and before is not None:
                parts.append(changes_html(label, before, text, kind))
            else:
                parts.append(text_html(label, text, kind))
            before = text
    return _card(shown, parts)


def _plain_card(item: tuple[str, Sequence[Mapping[str, Any]]]) -> str:
    id, rows = item
    texts = [text_html(f"#{row.get('k', 0)}", _text(row), prefix=str(row.get("prefix") or "")) for row in rows]
    return _card("", [badge(id), *texts[:_MOST_ANSWERS]])


def _card(pictures: str, parts: Sequence[str]) -> str:
    side = f'<div class="mmself-side">{pictures}</div>' if pictures else ""
    return f'<div class="mmself-card">{side}<div class="mmself-main">{"".join(parts)}</div></div>'


def _text(sample: Mapping[str, Any]) -> str:
    return str(sample.get("text", ""))[: MOST_TEXT + 1]


def _wanted(answers: Sequence[Sequence[Mapping[str, Any]]], verdicts: Verdicts) -> bool:
    found = [row["verdict"] for group in answers for row in group]
    return {
        "all": True,
        "right": any(verdict["correct"] for verdict in found),
        "wrong": any(verdict["parsed"] and not verdict["correct"] for verdict in found),
        "unparsed": any(not verdict["parsed"] for verdict in found),
    }[verdicts]


def _answered(paths: Sequence[Path]) -> tuple[list[tuple[str, list[list[Any]]]], bool]:
    """Question id -> answers of each file, and whether a file was cut."""
    read = [_lines(path) for path in paths]
    try:
        files = [_grouped(lines, "question") for lines, _ in read]
        for rows in files:
            for group in rows.values():
                for row in group:
                    _ = row["verdict"]["correct"], row["verdict"]["parsed"], row["sample"]["text"]
    except (KeyError, TypeError) as error:
        raise SampleError(f"{paths[0]} is no file of checked samples: {error!r}.") from error
    return [(id, [rows.get(id, []) for rows in files]) for id in files[0]], any(cut for _, cut in read)


def _grouped(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(row.get(key, "")), []).append(row)
    return groups


def _lines(path: Path) -> tuple[list[dict[str, Any]], bool]:
    try:
        state = path.stat()
        return _read_lines(path, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise SampleError(f"{path} cannot be read: {error}") from error


@lru_cache(maxsize=6)
def _read_lines(path: Path, changed: int, size: int) -> tuple[list[dict[str, Any]], bool]:
    with open(path, "rb") as file:
        content = file.read(MOST_BYTES)
    cut = size > MOST_BYTES
    lines = content.split(b"\n")[: -1 if cut else None]
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SampleError(f"{path}, line {number}: not a JSON object ({error}).") from error
        if not isinstance(row, dict):
            raise SampleError(f"{path}, line {number}: not a JSON object.")
        rows.append(row)
    return rows, cut


def _rows(path: Path) -> tuple[list[Any], bool]:
    try:
        state = path.stat()
    except OSError as error:
        raise SampleError(f"{path} cannot be read: {error}") from error
    if state.st_size > MOST_BYTES:
        raise SampleError(f"{path} has {state.st_size / 2**20:.0f} MB, which is too much to show here.")
    return _read_rows(path, state.st_mtime_ns, state.st_size), False


@lru_cache(maxsize=4)
def _read_rows(path: Path, changed: int, size: int) -> list[Any]:
    try:
        rows = read_json(path)
    except (FileError, RecursionError) as error:
        raise SampleError(str(error)) from error
    if not isinstance(rows, list):
        raise SampleError(f"{path} is no list of rows.")
    return [row for row in rows if isinstance(row, dict)]


def _schema(path: Path) -> DatasetSchema:
    """How the rows of a file are read: its entry in the dataset_info.json beside it."""
    try:
        entries = read_json(path.with_name("dataset_info.json"))
        return DatasetSchema.from_info(path.stem, entries[path.stem])
    except (FileError, DataError, KeyError, TypeError):
        return DatasetSchema(path.stem, path.name, formatting="sharegpt")


def _questions(folder: Path) -> dict[str, Question]:
    try:
        settings = read_json(folder / "run.json")
    except FileError:
        return {}
    found: dict[str, Question] = {}
    for name in _DATA:
        path = Path(str(settings.get(name) or ""))
        if path.is_file() and path.stat().st_size <= MOST_BYTES:
            found = {**_read_questions(path, path.stat().st_mtime_ns), **found}
    return found


@lru_cache(maxsize=8)
def _read_questions(path: Path, changed: int) -> dict[str, Question]:
    try:
        return {question.id: question for question in read_questions(path, labelled=False)}
    except ValueError:  # a picture has gone, or the file holds something else: answers can be shown without
        return {}
