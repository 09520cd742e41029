# SPDX-License-Identifier: Apache-2.0
"""Answers to a benchmark's questions as JSON lines: ours, and those that were made elsewhere.

A line has `id`, `prompt`, `images`, `text`, `finish_reason` and `policy`. From elsewhere come files with an id
(`request`, `id`, `question_id`, `index`) and a text (`text`, `response`, `prediction`, `model_answer`), as a JSON list
or as JSON lines; and the folders that `mmself correct` leaves, with a file `turn<k>.jsonl` for each turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.sources.layout import rows_of
from ..files import relative, write_jsonl
from ..generate.types import Sample
from .metrics.base import Item


PREDICTIONS = "predictions.jsonl"
IDS = ("request", "id", "question_id", "index")  # a sample has an id of its own beside its request's
TEXTS = ("text", "response", "prediction", "model_answer")
CHAIN = "@"  # `mmself correct` asks for corrections as `<question>@<chain>`


class PredictionError(ValueError):
    """Predictions that do not belong to a task, with file, row or id and what to do."""


@dataclass(frozen=True)
class Prediction:
    """One answer.

    Attributes:
        id: of the item.
        text: what the model said.
        cut: whether the answer reached the limit of tokens.
        policy: which weights answered, "" if that is not known.
    """

    id: str
    text: str
    cut: bool = False
    policy: str = ""


def from_samples(samples: Sequence[Sample]) -> list[Prediction]:
    """Predictions of a finished sampling job."""
    return [
        Prediction(sample.request, sample.text, sample.completion.finish_reason == "length", sample.policy)
        for sample in samples
    ]


def write_predictions(
    path: Path, items: Sequence[Item], predictions: Sequence[Prediction], prompted: bool = True
) -> None:
    """Writes predictions in the order of the items, with what was asked if that is known (`prompted`)."""
    rows = (
        {
            "id": item.id,
            "prompt": item.prompt if prompted else None,
            "images": [relative(image, path.parent) for image in item.images],
            "text": prediction.text,
            "finish_reason": "length" if prediction.cut else "stop",
            "policy": prediction.policy,
        }
        for item, prediction in zip(items, predictions, strict=True)
    )
    write_jsonl(path, rows)


def read_predictions(path: Path, items: Sequence[Item], limited: bool = False) -> list[Prediction]:
    """The predictions for these items, in their order.

    Args:
        path: the file.
        items: what was asked.
        limited: whether the items are a part of the task's only, so that more predictions may be there.

    Raises:
        PredictionError: an item has no prediction, or a prediction no item.
    """
    found = _read(path)
    return _fitting(path, found, items, limited)


def find_turns(path: Path, task: str, alone: bool) -> list[Path]:
    """The files of a task's predictions by turn of correction; one file where nothing was corrected.

    Args:
        path: a file, or a folder with `<task>.jsonl`, `<task>/predictions.jsonl` or `<task>/turn0.jsonl`, ...
        task: its name.
        alone: whether it is the only task, so that the folder itself may be the task's.

    Raises:
        PredictionError: the folder has nothing for the task.
    """
    if path.is_file() and alone:
        return [path]
    for folder in (path / task, *((path,) if alone else ())):
        turns: list[Path] = []
        while (file := folder / f"turn{len(turns)}.jsonl").is_file():
            turns.append(file)
        if turns:
            return turns
        if (folder / PREDICTIONS).is_file():
            return [folder / PREDICTIONS]
    for file in (path / f"{task}.jsonl", path / f"{task}.json"):
        if file.is_file():
            return [file]
    raise PredictionError(
        f"{path} has no predictions for {task}: {task}.jsonl, {task}/{PREDICTIONS} or {task}/turn0.jsonl is expected"
        + ("." if alone else ", because there are several tasks.")
    )


def read_turns(files: Sequence[Path], items: Sequence[Item], limited: bool = False) -> list[list[Prediction]]:
    """The predictions after each turn; an answer that a turn did not correct stays as it was.

    Raises:
        PredictionError: as `read_predictions`.
    """
    if len(files) == 1:
        return [read_predictions(files[0], items, limited)]
    answers = _read(files[0])
    turns = [_fitting(files[0], answers, items, limited)]
    for file in files[1:]:
        answers = {**answers, **_read(file, chained=True)}
        turns.append(_fitting(file, answers, items, limited))
    return turns


def _read(path: Path, chained: bool = False) -> dict[str, Prediction]:
    """Predictions by id; of several chains or samples of a question the first."""
    found: dict[str, Prediction] = {}
    for number, row in rows_of(path):
        prediction = _prediction(path, number, row)
        id, chain = prediction.id, ""
        if chained:
            id, _, chain = prediction.id.rpartition(CHAIN)
        if (row.get("k") or 0) == 0 and chain in ("", "0"):
            if id in found:
                raise PredictionError(f"{path}, row {number}: {id!r} comes twice; remove one of the two rows.")
            found[id] = prediction
    return found


def _prediction(path: Path, number: int, row: Mapping[str, Any]) -> Prediction:
    id = next(_present(row, IDS), None)
    text = next(_present(row, TEXTS), None)
    if id is None or not isinstance(text, str):
        what, names = ("an id", IDS) if id is None else ("a text", TEXTS)
        raise PredictionError(f"{path}, row {number}: {what} is expected in one of the fields {', '.join(names)}.")
    return Prediction(str(id), text, row.get("finish_reason") == "length", str(row.get("policy") or ""))


def _present(row: Mapping[str, Any], names: Sequence[str]) -> Iterator[Any]:
    return (row[name] for name in names if row.get(name) is not None)


def _fitting(path: Path, found: Mapping[str, Prediction], items: Sequence[Item], limited: bool) -> list[Prediction]:
    lacking = [item.id for item in items if item.id not in found]
    if lacking:
        raise PredictionError(
            f"{path}: {len(lacking)} of {len(items)} questions have no prediction, the first is {lacking[0]!r}. "
            "Give predictions for all of them, or the same --limit as when they were made."
        )
    known = {item.id for item in items}
    foreign = next((id for id in found if id not in known), None)
    if foreign is not None and not limited:
        raise PredictionError(f"{path}: the task has no question {foreign!r}; are these predictions for another task?")
    return [Prediction(item.id, found[item.id].text, found[item.id].cut, found[item.id].policy) for item in items]
