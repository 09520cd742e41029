# SPDX-License-Identifier: Apache-2.0
"""Pieces that all readers of published files share."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...data.questions import IMAGE
from ...files import FileError, read_jsonl, read_text
from ...generate.types import Completion, Sample
from ..examples import Example
from ..records import RecipeError


@dataclass
class Found:
    """What a folder holds.

    Attributes:
        samples: name of a samples file -> its samples.
        sets: name of a data set -> its rows.
        skipped: what was left out -> how often.
    """

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    sets: dict[str, list[Example]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    _drawn: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add_sample(self, name: str, question: str, text: str, policy: str) -> None:
        """Adds a sample of a question behind those that are there."""
        k = self._drawn[name, question]
        self._drawn[name, question] += 1
        sample = Sample(f"{question}#{k}", question, k, policy, Completion(text, (), "stop"))
        self.samples.setdefault(name, []).append(sample)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON list or of JSON lines, whatever the file's name says.

    Raises:
        FileError: naming the file, and the line or the place that is no object.
    """
    text = read_text(path)
    if not text.lstrip().startswith("["):
        return list(read_jsonl(path))
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise FileError(f"{path}, line {error.lineno}: {error.msg}; a JSON list is expected.") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise FileError(f"{path}, row {number}: an object is expected, found {type(row).__name__}.")
    return rows


def text_field(row: Mapping[str, Any], name: str, path: Path, number: int) -> str:
    """A field that has to be a text or a number.

    Raises:
        RecipeError: naming file, row and field.
    """
    value = row.get(name)
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise RecipeError(f"{path}, row {number}, `{name}`: a text is expected, found {value!r}.")
    return str(value)


def shown(prompt: str, pictures: int) -> str:
    """A user's turn with one placeholder a picture; published files leave them out at times."""
    missing = max(0, pictures - prompt.count(IMAGE))
    return f"{IMAGE * missing}\n{prompt}" if missing else prompt


def turn_of(row: Mapping[str, Any], path: Path, number: int, images: Sequence[str], id: str, kind: str) -> Example:
    """The turn of a row with `conversations` or `messages` of a user and an assistant.

    Raises:
        RecipeError: there are not exactly two turns, or one has no text.
    """
    name = "messages" if "messages" in row else "conversations"
    turns = row.get(name)
    if not isinstance(turns, list) or len(turns) != 2 or not all(isinstance(turn, dict) for turn in turns):
        raise RecipeError(f"{path}, row {number}, `{name}`: a question and an answer are expected.")
    texts = [turn.get("content", turn.get("value")) for turn in turns]
    if not all(isinstance(text, str) for text in texts):
        raise RecipeError(f"{path}, row {number}, `{name}`: both turns need a text.")
    prompt, target = (str(text).strip() for text in texts)
    source = {"file": path.name, "row": number}
    return Example(id, kind, id, tuple(images), shown(prompt, len(images)), target, id, source)
