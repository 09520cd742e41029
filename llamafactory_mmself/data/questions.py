# SPDX-License-Identifier: Apache-2.0
"""Questions with a known answer: ShareGPT rows that also have `id`, `answer` and, for multiple choice, `choices`.

```json
{"id": "toy-17", "question": "How many red shapes are there?", "choices": ["1", "2", "3", "4"], "answer": "B",
 "images": ["images/17.png"],
 "conversations": [{"from": "human", "value": "<image>\\nHow many ...\\nChoices:\\n(A) 1\\n..."},
                   {"from": "gpt", "value": "Answer: B"}]}
```

`conversations` is the direct-answer form, so that stock `sft` can train on the file as it is. `question` is the bare
text; a row without it is asked what its human turn says. With `choices`, `answer` is a letter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from ..files import FileError, read_json, read_jsonl, relative, write_json


IMAGE = "<image>"
#: Columns of questions in `dataset_info.json`.
QUESTION_COLUMNS = {
    "messages": "conversations",
    "images": "images",
    "id": "id",
    "answer": "answer",
    "choices": "choices",
}
KNOWN = frozenset({"id", "question", "choices", "answer", "images", "conversations"})


@dataclass(frozen=True)
class Question:
    """A question about pictures.

    Attributes:
        id: unique within a file.
        text: the question, without options, instructions and image placeholders.
        answer: the truth; a capital letter when there are choices.
        images: paths of the pictures, as they can be opened from here.
        choices: texts of the options (A), (B), ..., or None.
        extra: the row's other fields (unit, grade, domain ...).
    """

    id: str
    text: str
    answer: str
    images: tuple[str, ...] = ()
    choices: tuple[str, ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def letters(self) -> str:
        """The letters of the options, "" without any."""
        return ascii_uppercase[: len(self.choices or ())]

    @property
    def block(self) -> str:
        """The question with its unit and options, as every prompt shows it."""
        unit = self.extra.get("unit")
        lines = [f"{self.text} (Unit: {unit})" if unit else self.text]
        if self.choices:
            options = zip(self.letters, self.choices, strict=True)
            lines += ["Choices:", *(f"({letter}) {text}" for letter, text in options)]
        return "\n".join(lines)

    @property
    def options(self) -> str:
        """The options on one line, "(A) red (B) blue"; "N/A" without any."""
        return (
            " ".join(f"({letter}) {text}" for letter, text in zip(self.letters, self.choices or (), strict=True))
            or "N/A"
        )

    @property
    def context(self) -> str:
        """The question's hint and its caption, the row's fields of these names; "N/A" without any."""
        parts = (str(self.extra.get(name) or "").strip() for name in ("hint", "caption"))
        return " ".join(filter(None, parts)) or "N/A"

    @property
    def placeholders(self) -> str:
        """One image placeholder a picture, each on a line of its own, to stand before a prompt."""
        return f"{IMAGE}\n" * len(self.images)

    def to_row(self, folder: Path) -> dict[str, Any]:
        """The row of a file in `folder`; picture paths inside the folder become relative to it."""
        return {
            "id": self.id,
            "question": self.text,
            "choices": None if self.choices is None else list(self.choices),
            "answer": self.answer,
            "images": [relative(image, folder) for image in self.images],
            "conversations": [
                {"from": "human", "value": self.placeholders + self.block},
                {"from": "gpt", "value": f"Answer: {self.answer}"},
            ],
            **self.extra,
        }


def read_questions(path: Path, *, labelled: bool = True) -> list[Question]:
    """Reads a JSON or JSONL file of questions; pictures are looked for from the file's folder.

    Args:
        path: the file.
        labelled: whether each question needs an answer; without, one that has none gets the empty answer.

    Raises:
        FileError: naming file, row and field, for rows without id or answer, for an id that comes twice, for a letter
            that is no option, and for pictures that are not there.
    """
    path = Path(path)
    rows = list(read_jsonl(path)) if path.suffix == ".jsonl" else read_json(path)
    if not isinstance(rows, list):
        raise FileError(f"{path}: a list of rows is expected, found {type(rows).__name__}.")
    seen: dict[str, int] = {}
    questions = []
    for number, row in enumerate(rows):
        question = _question(row, path, number, labelled)
        if question.id in seen:
            raise FileError(f"{path}, row {number}, field `id`: {question.id!r} is row {seen[question.id]}'s already.")
        seen[question.id] = number
        questions.append(question)
    return questions


def write_questions(path: Path, questions: Iterable[Question]) -> None:
    """Writes questions as a JSON file in one step."""
    path = Path(path)
    write_json(path, [question.to_row(path.parent) for question in questions])


def _question(row: Any, path: Path, number: int, labelled: bool) -> Question:
    def fail(name: str, problem: str) -> FileError:
        return FileError(f"{path}, row {number}, field `{name}`: {problem}")

    if not isinstance(row, dict):
        raise FileError(f"{path}, row {number}: a JSON object is expected, found {type(row).__name__}.")
    if row.get("id") in (None, ""):
        raise fail("id", "is missing; each question needs an id of its own.")
    unknown = row.get("answer") in (None, "")
    if labelled and unknown:
        raise fail("answer", "is missing; questions are checked against it.")
    text = row.get("question") or _human_turn(row)
    if not text:
        raise fail("question", "is missing, and there is no human turn to take it from.")
    choices = row.get("choices")
    if choices is not None and (not isinstance(choices, list) or not 2 <= len(choices) <= len(ascii_uppercase)):
        raise fail("choices", f"a list of 2 to {len(ascii_uppercase)} options is expected, found {choices!r}.")
    answer = "" if unknown else str(row["answer"]).strip()
    if choices and not unknown:
        answer = answer.strip("()").upper()
        if answer not in ascii_uppercase[: len(choices)] or len(answer) != 1:
            last = ascii_uppercase[len(choices) - 1]
            raise fail("answer", f"{row['answer']!r} is not among the options (A) to ({last}).")
    if not isinstance(text, str) or IMAGE in text:
        raise fail("question", f"text without `{IMAGE}` is expected, found {text!r}.")
    names = row.get("images") or ()
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise fail("images", f"a list of paths is expected, found {names!r}.")
    images = tuple(str((path.parent / image).resolve()) for image in names)
    for image in images:
        if not Path(image).is_file():
            raise fail("images", f"there is no file {image}.")
    extra = {name: value for name, value in row.items() if name not in KNOWN}
    options = None if choices is None else tuple(str(choice) for choice in choices)
    return Question(str(row["id"]), text, answer, images, options, extra)


def _human_turn(row: Mapping[str, Any]) -> str:
    turns = row.get("conversations") or row.get("messages") or ()
    for turn in turns:
        if isinstance(turn, dict) and turn.get("from", turn.get("role")) in ("human", "user"):
            return str(turn.get("value", turn.get("content", ""))).replace(IMAGE, "").strip()
    return ""
