# SPDX-License-Identifier: Apache-2.0
"""Predictions in the form that VLMEvalKit evaluates: `<model>/<model>_<dataset>.tsv`, the questions' columns and
`prediction`. `vlmutil eval FILE` scores such a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from ...files import write_text
from ...verify.letters import option_letter
from ..metrics.base import Item
from ..metrics.reading import choices_of, true_option
from ..predictions import Prediction
from ..tasks.task import Task
from . import BridgeError


#: Our task -> VLMEvalKit's data set.
DATASETS = {
    "ai2d": "AI2D_TEST",
    "aokvqa": "A-OKVQA",
    "chartqa": "ChartQA_TEST",
    "hallusion": "HallusionBench",
    "llava_bench": "LLaVABench",
    "m3cot": "M3CoT",
    "mathvista": "MathVista_MINI",
    "mmbench": "MMBench_DEV_EN_V11",
    "mmbench_test": "MMBench_TEST_EN_V11",
    "mme": "MME",
    "mmmu": "MMMU_DEV_VAL",
    "mmstar": "MMStar",
    "mmvet": "MMVet",
    "pope": "POPE",
    "realworldqa": "RealWorldQA",
    "scienceqa": "ScienceQA_TEST",
    "textvqa": "TextVQA_VAL",
}
_NAMES = {"l2_category": "l2-category"}
_OWN = frozenset({"answer", "choices", "question", "index", "turn"})


def dataset_name(task: Task, given: str | None) -> str:
    """VLMEvalKit's name of a task's data set.

    Raises:
        BridgeError: it is not known, and not given.
    """
    name = given or DATASETS.get(task.name)
    if name is None:
        raise BridgeError(f"How VLMEvalKit calls {task.title} is not known: say it with --export_dataset.")
    return name


def export_predictions(
    task: Task,
    items: Sequence[Item],
    predictions: Sequence[Prediction],
    model: str,
    folder: Path,
    dataset: str | None = None,
) -> Path:
    """Writes predictions for VLMEvalKit; returns the file.

    A row has `index`, `question`, the options as `A`, `B`, ..., `answer`, what the item's truth holds beside them, and
    `prediction`. The index is the item's id if all ids are whole numbers, as they are where a task reads tables that
    VLMEvalKit publishes; otherwise items are numbered and the id is a column.

    Args:
        task: the task.
        items: its items.
        predictions: one for each item, in the same order.
        model: the model's name there; other signs than letters, digits, `.`, `_` and `-` become `_`.
        folder: of all models.
        dataset: VLMEvalKit's name of the data set, where it is not the usual one.

    Raises:
        BridgeError: the data set's name is not known.
    """
    name = "".join(sign if sign.isalnum() or sign in "._-" else "_" for sign in model)
    path = folder / name / f"{name}_{dataset_name(task, dataset)}.tsv"
    numbered = not all(item.id.isdecimal() for item in items)
    rows = [
        {**_row(item, number if numbered else int(item.id), numbered), "prediction": prediction.text}
        for number, (item, prediction) in enumerate(zip(items, predictions, strict=True))
    ]
    columns = list(dict.fromkeys(column for row in rows for column in row if column != "prediction"))
    buffer = io.StringIO()
    writer = csv.DictWriter(
        buffer, [*columns, "prediction"], delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n", restval=""
    )
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())
    return path


def _row(item: Item, index: int, numbered: bool) -> dict[str, Any]:
    truth: Mapping[str, Any] = item.truth
    choices = choices_of(item)
    row: dict[str, Any] = {"index": index} | ({"id": item.id} if numbered else {})
    row["question"] = str(truth.get("question") or item.prompt)
    row |= dict(zip(ascii_uppercase, choices, strict=False))
    if truth.get("answer") is not None:
        row["answer"] = (option_letter(true_option(item), choices) if choices else None) or truth["answer"]
    kept = {key: value for key, value in truth.items() if key not in _OWN and isinstance(value, str | int | float)}
    return row | {_NAMES.get(key, key): value for key, value in kept.items()}
