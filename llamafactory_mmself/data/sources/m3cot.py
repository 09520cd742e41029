# SPDX-License-Identifier: Apache-2.0
"""M3CoT (Chen et al. 2024) in its three published forms.

- JSON lines `<split>.jsonl`: `id`, `question`, `choices`, `context`, `answer` (a letter), `image`, `domain`, `topic`;
- parquet `data/<split>-*.parquet`: the same with the picture inside, which is written to a folder;
- the files of STL: `questions_<split>_<domain>.jsonl` with `question_id`, `image`, `text` (question and options in
  one), `category`, and the keys `(b)` by id in `correct_answers_<split>.json`. It kept four options of each question:
  where the key is `(e)`, the row cannot be used.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...files import write_bytes
from ..questions import Question
from .layout import (
    Fail,
    Layout,
    Options,
    RowError,
    SourceError,
    each,
    letter_of,
    options_of,
    rows_of,
    table_of,
    text_of,
)


SPLITS = ("train", "dev", "test")
FOLDERS = ("images", "data", "data/images")
# STL's names of domains, as domain and first word of the topic.
DOMAINS = {
    "science_natural": ("science", "natural"),
    "science_social": ("science", "social"),
    "science_language": ("science", "language"),
}
STL_DOMAINS = ("commonsense", *DOMAINS)
OPTION = re.compile(r"^\(([a-z])\)[ \t]*(.*)$")


def read(layout: Layout, split: str, options: Options) -> Iterator[Question | RowError]:
    """Yields the questions of a split, those of one domain only if `options.domain` is given."""
    files = sorted(layout.folder.glob(f"questions_{split}_*.jsonl"))
    if files:
        return _stl(layout, split, files, options)
    parts = _parquets(layout.folder, split)
    if parts:
        return itertools.chain.from_iterable(_parquet(layout, part, options) for part in parts)
    file = layout.find([f"{folder}{split}.jsonl" for folder in ("", "data/")])
    return each(file, rows_of(file), lambda _, row, fail: _row(layout, row, options, fail))


def _row(layout: Layout, row: Mapping[str, Any], options: Options, fail: Fail, image: str = "") -> Question | None:
    if not _wanted(row, options.domain):
        return None
    choices = options_of(row, fail)
    name = text_of(row, "id", fail)
    if not image:
        path = row.get("image_path") or row.get("image") or f"{name}.png"
        image = layout.picture(str(path), FOLDERS, fail)
    context = str(row.get("context") or "").strip()
    text = text_of(row, "question", fail)
    return Question(
        name,
        f"Context: {context}\n{text}" if context else text,
        letter_of(text_of(row, "answer", fail), choices, "answer", fail),
        (image,),
        choices,
        {field: row[field] for field in ("domain", "topic", "category") if row.get(field)},
    )


def _wanted(row: Mapping[str, Any], wish: str | None) -> bool:
    if wish is None:
        return True
    domain, start = DOMAINS.get(wish, (wish, ""))
    return row.get("domain") == domain and str(row.get("topic", "")).startswith(start)


def _stl(layout: Layout, split: str, files: list[Path], options: Options) -> Iterator[Question | RowError]:
    by_domain = {file.stem.removeprefix(f"questions_{split}_"): file for file in files}
    if options.domain is not None and options.domain not in by_domain:
        raise SourceError(f"{layout.folder} has no domain {options.domain!r}, only {', '.join(by_domain)}.")
    wanted = {name: file for name, file in by_domain.items() if options.domain in (None, name)}
    answers = layout.find([f"correct_answers_{split}.json"])
    key = table_of(answers)

    def questions(domain: str, file: Path) -> Iterator[Question | RowError]:
        def build(_: int | str, row: Any, fail: Fail) -> Question:
            name = text_of(row, "question_id", fail)
            text, choices = _split(text_of(row, "text", fail), fail)
            if name not in key:
                raise fail("question_id", f"{name!r} has no key in {answers}.", "no key")
            image = layout.picture(text_of(row, "image", fail), FOLDERS, fail)
            extra = {"domain": domain} | ({"topic": row["category"]} if row.get("category") else {})
            return Question(name, text, letter_of(str(key[name]), choices, "text", fail), (image,), choices, extra)

        return each(file, rows_of(file), build)

    return itertools.chain.from_iterable(questions(domain, file) for domain, file in wanted.items())


def _split(text: str, fail: Fail) -> tuple[str, tuple[str, ...]]:
    """Takes question and options apart; the line that asks to choose, if any, is left out."""
    lines = text.split("\n")
    starts = [number for number, line in enumerate(lines) if line.startswith("(a)")]
    if not starts:
        raise fail("text", "no options of the form `(a) ...` are found.", "no options")
    choices: list[str] = []
    for line in lines[starts[-1] :]:
        match = OPTION.match(line)
        if match and match[1] == chr(ord("a") + len(choices)):
            choices.append(match[2].strip())
        else:
            choices[-1] = f"{choices[-1]}\n{line}".strip()
    head = [line for line in lines[: starts[-1]] if line.strip()]
    if len(head) > 1 and head[-1].rstrip().endswith(":"):
        head.pop()
    if not head or len(choices) < 2:
        raise fail("text", "a question and at least two options are expected.", "no options")
    return "\n".join(head).strip(), tuple(choices)


def _parquets(folder: Path, split: str) -> list[Path]:
    names = (split, "validation") if split == "dev" else (split,)
    return sorted(
        file for name in names for root in (folder, folder / "data") for file in root.glob(f"{name}-*.parquet")
    )


def _parquet(layout: Layout, file: Path, options: Options) -> Iterator[Question | RowError]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    if options.extracted is None:
        raise SourceError(f"{file} holds its pictures inside; a folder to write them to is needed.")
    try:
        batches = ParquetFile(file).iter_batches(batch_size=64)
        every = enumerate(row for batch in batches for row in batch.to_pylist())
        rows = ((number, row) for number, row in every if _wanted(row, options.domain))
        yield from each(
            file, rows, lambda _, row, fail: _row(layout, row, options, fail, _extract(row, options, fail))
        )
    except (ArrowException, OSError) as error:
        raise SourceError(f"{file} cannot be read: {error}") from error


def _extract(row: Mapping[str, Any], options: Options, fail: Fail) -> str:
    data = (row.get("image") or {}).get("bytes")
    if not data:
        raise fail("image", "there is no picture in this row.", "no picture")
    assert options.extracted is not None
    name = re.sub(r"[^\w.\-]", "_", text_of(row, "id", fail))
    ending = "jpg" if data.startswith(b"\xff\xd8") else "png"
    path = options.extracted / f"{name}.{ending}"
    if not path.is_file() or path.read_bytes() != data:
        write_bytes(path, data)
    return str(path.resolve())
