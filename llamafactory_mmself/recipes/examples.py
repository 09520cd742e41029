# SPDX-License-Identifier: Apache-2.0
"""Training examples and the data sets that they make."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..data.questions import Question
from ..files import read_json, read_jsonl, relative, write_json
from .datasets import register_dataset
from .prompts import Prompts
from .records import RecipeError, rank


COLUMNS = {
    "messages": "conversations",
    "images": "images",
    "id": "id",
    "kind": "kind",
    "pair": "pair",
    "provenance": "provenance",
}
NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Example:
    """One turn to learn.

    Attributes:
        id: unique within a data set, and the same in every build from the same samples.
        kind: what it teaches (direct, cot, refine, select; answer, refute); stages weigh by it.
        question: id of its question.
        images: paths of the pictures.
        prompt: the user's turn, one `<image>` a picture included.
        target: the answer to learn.
        pair: equal for examples that belong together.
        provenance: where it comes from: samples with iteration and policy, prompt digest.
    """

    id: str
    kind: str
    question: str
    images: tuple[str, ...]
    prompt: str
    target: str
    pair: str
    provenance: Mapping[str, Any]

    def to_row(self, folder: Path) -> dict[str, Any]:
        """The ShareGPT row of a data set whose picture paths start from `folder`."""
        return {
            "id": self.id,
            "kind": self.kind,
            "pair": self.pair,
            "images": [relative(image, folder) for image in self.images],
            "conversations": [{"from": "human", "value": self.prompt}, {"from": "gpt", "value": self.target}],
            "provenance": json.dumps(self.provenance, ensure_ascii=False, sort_keys=True),
        }


def direct_prompt(question: Question, prompts: Prompts) -> str:
    """The user's turn that asks for the final answer only."""
    return question.placeholders + prompts.direct.fill(question=question.block)


def direct_example(question: Question, prompts: Prompts) -> Example:
    """The final answer of a question, without a reason."""
    id = f"{question.id}/direct"
    return Example(
        id=id,
        kind="direct",
        question=question.id,
        images=question.images,
        prompt=direct_prompt(question, prompts),
        target=f"Answer: {question.answer}",
        pair=id,
        provenance={"question": question.id, "prompt": prompts.direct.digest, "samples": []},
    )


def mixed(examples: Iterable[Example], seed: int) -> list[Example]:
    """Shuffles by a seed; the result does not depend on the order that the examples come in. Pairs stay adjacent.

    Raises:
        RecipeError: an id comes twice.
    """
    found: dict[str, Example] = {}
    for example in examples:
        if example.id in found:
            raise RecipeError(f"Two examples have the id {example.id!r}; each needs its own.")
        found[example.id] = example
    return sorted(found.values(), key=lambda example: (rank(seed, "mix", example.pair), example.id))


class Row(Protocol):
    """Something that a data set is made of."""

    def to_row(self, folder: Path) -> dict[str, Any]:
        """The row of a data set whose picture paths start from `folder`."""
        ...


def write_dataset(
    folder: Path,
    name: str,
    examples: Sequence[Row],
    *,
    register: Path | None = None,
    columns: Mapping[str, str] = COLUMNS,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Writes `<folder>/<name>.json` and its entry in a `dataset_info.json`, each in one step.

    Args:
        folder: where the data set goes.
        name: its name in training YAMLs.
        examples: its rows, in this order.
        register: the `dataset_info.json` that gets the entry, by default the folder's own. No other file is touched.
            Picture paths are relative to this file's folder when they lie inside it, and absolute otherwise.
        columns: of the entry.
        facts: what else the entry says.

    Raises:
        RecipeError: there are no examples, or the name cannot be used.
        FileError: a file cannot be written.
    """
    folder = Path(folder).resolve()
    if not NAME.fullmatch(name):
        raise RecipeError(f"{name!r} is no name for a data set: use letters, digits, `_`, `-` and `.` only.")
    if not examples:
        raise RecipeError(
            f"The data set {name!r} would be empty: no sample was right, or every one was dropped. Look at the "
            "checked samples, draw more of them, or start from a stronger model."
        )
    path = folder / f"{name}.json"
    info = folder / "dataset_info.json" if register is None else Path(register).resolve()
    write_json(path, [example.to_row(info.parent) for example in examples])
    entry = {
        "file_name": relative(path, info.parent),
        "formatting": "sharegpt",
        **(facts or {}),
        "columns": dict(columns),
    }
    register_dataset(info, name, entry)
    return path


def read_examples(path: Path, *, kind: str = "cot") -> list[Example]:
    """Reads ShareGPT rows of one human and one gpt turn: what `write_dataset` wrote, or warm-up data of the user's.

    Args:
        path: JSON or JSONL; pictures are looked for from its folder.
        kind: for rows without `kind`. A row without `id` is called after file and row number, one without `pair`
            stands alone, one without `provenance` names the file.

    Raises:
        FileError: the file cannot be read.
        RecipeError: naming file, row and field.
    """
    path = Path(path).resolve()
    rows = list(read_jsonl(path)) if path.suffix == ".jsonl" else read_json(path)
    if not isinstance(rows, list):
        raise RecipeError(f"{path}: a list of rows is expected, found {type(rows).__name__}.")
    return [_example(row, path, number, kind) for number, row in enumerate(rows)]


def _example(row: Any, path: Path, number: int, kind: str) -> Example:
    def fail(field: str, problem: str) -> RecipeError:
        return RecipeError(f"{path}, row {number}, field `{field}`: {problem}")

    if not isinstance(row, dict):
        raise RecipeError(f"{path}, row {number}: a JSON object is expected, found {type(row).__name__}.")
    turns = row.get("conversations")
    if not isinstance(turns, list) or [_speaker(turn) for turn in turns] != ["human", "gpt"]:
        raise fail("conversations", "one turn of `human` and one of `gpt` are expected, each with `from` and `value`.")
    images = row.get("images") or []
    if not isinstance(images, list):
        raise fail("images", f"a list of paths is expected, found {images!r}.")
    paths = tuple(str((path.parent / str(image)).resolve()) for image in images)
    for image in paths:
        if not Path(image).is_file():
            raise fail("images", f"there is no file {image}.")
    id = str(row.get("id") or f"{path.stem}/{number}")
    provenance = row.get("provenance") or {"file": path.name, "row": number, "samples": []}
    try:
        provenance = json.loads(provenance) if isinstance(provenance, str) else provenance
    except json.JSONDecodeError as error:
        raise fail("provenance", f"JSON text is expected ({error.msg}).") from error
    if not isinstance(provenance, dict):
        raise fail("provenance", f"a JSON object is expected, found {provenance!r}.")
    prompt, target = (str(turn["value"]) for turn in turns)
    return Example(
        id=id,
        kind=str(row.get("kind") or kind),
        question=str(provenance.get("question", id)),
        images=paths,
        prompt=prompt,
        target=target,
        pair=str(row.get("pair") or id),
        provenance=provenance,
    )


def _speaker(turn: Any) -> Any:
    return turn.get("from") if isinstance(turn, dict) and "value" in turn else None
