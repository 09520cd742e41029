# SPDX-License-Identifier: Apache-2.0
"""The prompts that OViP samples for: its own rows, or questions with their answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..data.faults import DataError
from ..data.media import PLACEHOLDERS, resolve
from ..data.questions import Question, read_questions
from ..data.read import iter_raw, read_rows
from ..data.rows import PreferenceRow
from ..data.schema import DatasetSchema
from ..data.turns import Turn
from ..files import FileError


#: OViP's published rows, as an entry of dataset_info.json.
ENTRY = {
    "formatting": "sharegpt",
    "ranking": True,
    "columns": {"messages": "conversations", "images": "images", "chosen": "chosen", "rejected": "rejected"},
}


def read_prompts(path: Path, media_dir: Path | None = None) -> list[PreferenceRow]:
    """Reads a file of prompts with reference answers, in its order.

    Two kinds of rows are read: OViP's (`conversations`, `chosen`, `rejected`, `images`; the first half of the pictures
    are the real ones), where `chosen` is the reference, and questions (see `data.questions`), whose reference is their
    answer.

    Args:
        path: JSON or JSONL.
        media_dir: where paths of pictures start; those that are not there are looked for from the file's folder.

    Returns:
        rows with the reference as `chosen`; `rejected` means nothing, and there are no rejected pictures. A row's
        `key` may come several times, for several answers to one question.

    Raises:
        DataError: rows that cannot be read, with file, row and field; or there is no row.
        FileError: the same for questions.
    """
    path = Path(path)
    first = next(iter_raw(path), None)
    if first is None:
        raise DataError((), f"{path} has no row.")
    if not isinstance(first[1], dict) or "chosen" in first[1]:
        return _ovip_rows(path, path.parent if media_dir is None else media_dir)
    return [_asked(question, path) for question in read_questions(path)]


def bare_question(row: PreferenceRow) -> str:
    """What a row asks, without placeholders of pictures."""
    text = row.prompt[-1].content
    for placeholder in PLACEHOLDERS:
        text = text.replace(placeholder, "")
    return text.strip()


def _ovip_rows(path: Path, media_dir: Path) -> list[PreferenceRow]:
    schema = DatasetSchema.from_info("ds_path", {**ENTRY, "file_name": path.name}, str(path))
    rows, faults = read_rows(schema, path.parent, media_dir)
    errors = [fault for fault in faults if fault.level == "error"]
    if errors:
        raise DataError(errors)
    return [replace(row, images=tuple(_beside(row, path)), rejected_images=()) for row in rows]


def _beside(row: PreferenceRow, path: Path) -> Iterator[str]:
    for place, image in enumerate(row.images):
        found = resolve(image, path.parent)
        if not Path(found).is_file():
            raise FileError(
                f"{path}, row {row.row}, field `images[{place}]`: there is no file {image}, neither from media_dir "
                f"nor from {path.parent}."
            )
        yield found


def _asked(question: Question, path: Path) -> PreferenceRow:
    turn = Turn("user", question.placeholders + question.block)
    return PreferenceRow(question.id, str(path), 0, "", "", (turn,), question.answer, ("",), question.images)
