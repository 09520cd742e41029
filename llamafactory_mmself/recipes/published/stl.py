# SPDX-License-Identifier: Apache-2.0
"""The folders of STL: `<domain>/ours` with responses and training sets of each iteration."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ..records import RecipeError
from .found import Found, read_rows, text_field, turn_of


_RESPONSES = re.compile(r"response_(?P<kind>pos|neg_train|test)_it(?P<iteration>\d+)\.jsonl")
_TRAINED = re.compile(r"(?P<kind>training_set|pos_samples_train|neg_train_samples)_it(?P<iteration>\d+)\.json")
_NAMES = {"pos": "answers", "neg_train": "refutations", "test": "test"}
#: `type` of a row -> what it teaches.
_TYPES = {"1": "answer", "2": "refute"}
_WRONG = re.compile(r"\(([a-z])\)", re.IGNORECASE)


def read_folder(folder: Path, images: Path | None = None) -> Found:
    """Samples and training sets of a domain.

    Responses become `answers_iter<i>`, `refutations_iter<i>` and `test_iter<i>`, their requests named as
    `mmself build stl` names them: by question, refutations by question and refuted option.

    Args:
        folder: `<domain>/ours`, or a folder above it.
        images: where pictures' paths start from; by default the file's folder.

    Raises:
        RecipeError, FileError: nothing of it is there, or a file is damaged.
    """
    found = Found()
    for path in sorted(folder.rglob("response_*.jsonl")):
        if match := _RESPONSES.fullmatch(path.name):
            name = f"{_NAMES[match['kind']]}_iter{match['iteration']}"
            _read_responses(found, path, name, _refuted if match["kind"] == "neg_train" else _asked)
    for path in sorted(folder.rglob("*.json")):
        if match := _TRAINED.fullmatch(path.name):
            _read_training(found, path, images)
    if not found.samples and not found.sets:
        raise RecipeError(f"{folder} holds no files of STL: names such as response_pos_it1.jsonl are expected.")
    return found


def _asked(question: str, prompt: str) -> str | None:
    return question


def _refuted(question: str, prompt: str) -> str | None:
    """The request of a refutation: the last option that the prompt names is the one to refute."""
    named = _WRONG.findall(prompt)
    return f"{question}!{named[-1].upper()}" if named else None


def _read_responses(found: Found, path: Path, name: str, request: Callable[[str, str], str | None]) -> None:
    for number, row in enumerate(read_rows(path), start=1):
        question = text_field(row, "question_id", path, number)
        asked = request(question, str(row.get("prompt", "")))
        if asked is None:
            found.skipped["refutations whose prompt names no option"] += 1
            continue
        found.add_sample(name, asked, text_field(row, "text", path, number), f"published {name}")


def _read_training(found: Found, path: Path, images: Path | None) -> None:
    turns = []
    for number, row in enumerate(read_rows(path), start=1):
        kind = _TYPES.get(str(row.get("type")), "answer")
        picture = (images or path.parent) / text_field(row, "image", path, number)
        if not picture.is_file():
            raise RecipeError(
                f"{path}, row {number}, `image`: {picture} is not there. --images names the folder of pictures."
            )
        id = f"{text_field(row, 'id', path, number)}/{kind}/{number}"
        turns.append(turn_of(row, path, number, [str(picture.resolve())], id, kind))
    if turns:
        found.sets[path.stem] = turns
