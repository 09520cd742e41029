# SPDX-License-Identifier: Apache-2.0
"""Data sets of tree stages: read, mix, split, tokenise."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, load_from_disk

from ..data.encode import RowEncoder
from ..data.faults import DataError
from ..plugin import lf
from .base import RunArguments, TreeStage
from .encoding import LazyRows, encoded, encoding_fingerprint, picture_sizes, records
from .reading import checked_rows


logger = lf.get_logger(__name__)

FINGERPRINT_FILE = "mmself_fingerprint.json"

#: `train_dataset` and `eval_dataset`, as LLaMA-Factory names them.
DatasetModule = dict[str, Any]


def load_tree_dataset(stage: TreeStage, run: RunArguments, encoder: RowEncoder) -> DatasetModule:
    """The tokenised training and evaluation sets of a run.

    Returns:
        `train_dataset` and `eval_dataset`, each only if asked for.

    Raises:
        DataError: if rows cannot be trained on and `invalid_rows` is `error`, or a set on disk was made with other
            settings than this run's.
    """
    fingerprint = encoding_fingerprint(stage, run, encoder)
    path = run.data.tokenized_path
    if path is not None and os.path.isdir(path) and os.listdir(path):
        return _load_tokenized(stage, path, fingerprint, run)
    if path is not None and run.data.streaming:
        raise DataError((), "Turn off `streaming` to save a tokenised data set.")

    with run.training.main_process_first(desc="load dataset", local=not run.data.data_shared_file_system):
        train = _merged(stage, run, run.data.dataset)
        evaluation = _merged(stage, run, run.data.eval_dataset, separate=run.data.eval_on_each_dataset)
    parts = _split(train, evaluation, run)
    if run.data.streaming:
        policy = run.stage.invalid_rows
        return _module({name: LazyRows(stage, encoder, rows, policy, name) for name, rows in parts.items()})

    with run.training.main_process_first(desc="pre-process dataset", local=not run.data.data_shared_file_system):
        splits = {name: encoded(stage, run, encoder, dataset, fingerprint, name) for name, dataset in parts.items()}
        if path is not None and run.training.should_save:
            _save_tokenized(stage, path, fingerprint, splits, run)
    return _module(splits)


def _save_tokenized(
    stage: TreeStage, path: str, fingerprint: dict[str, str], splits: dict[str, Dataset], run: RunArguments
) -> None:
    DatasetDict(splits).save_to_disk(path)
    about = {
        **fingerprint,
        "required": sorted(stage.required_columns(run)),
        "datasets": [*(run.data.dataset or []), *(run.data.eval_dataset or [])],
        "pictures": picture_sizes(splits.values()),
    }
    Path(path, FINGERPRINT_FILE).write_text(json.dumps(about, indent=2), encoding="utf-8")
    logger.info_rank0(f"Tokenised data set saved at {path}; the next run with this path loads it.")


def _load_tokenized(stage: TreeStage, path: str, fingerprint: dict[str, str], run: RunArguments) -> DatasetModule:
    """Loads a tokenised set after checking that this run would have made the same."""
    file = Path(path, FINGERPRINT_FILE)
    if not file.exists():
        raise DataError(
            (),
            f"{path} holds no data set of a tree stage ({FINGERPRINT_FILE} is missing): give another tokenized_path.",
        )
    saved = json.loads(file.read_text(encoding="utf-8"))
    loaded = load_from_disk(path)
    now = {**fingerprint, "pictures": picture_sizes(loaded.values())}
    differences = [
        f"{part}: {saved.get(part)} there, {value} in this run"
        for part, value in now.items()
        if saved.get(part) != value
    ]
    if unchecked := stage.required_columns(run) - set(saved.get("required", ())):
        differences.append(f"its rows were not checked for {', '.join(sorted(unchecked))}")
    if differences:
        raise DataError(
            (),
            f"The tokenised data set at {path} was made with other settings ({'; '.join(differences)}): "
            "delete it or give another tokenized_path.",
        )
    logger.warning_rank0(
        f"Loading the tokenised data set at {path}, made from {', '.join(saved.get('datasets', ()))}; all other data "
        "arguments are ignored."
    )
    return _module(loaded)


def _merged(
    stage: TreeStage, run: RunArguments, names: Sequence[str] | None, separate: bool = False
) -> Dataset | dict[str, Dataset] | None:
    if not names:
        return None
    loaded = {name: _load_one(stage, run, name) for name in names}
    if separate:
        return loaded
    merged: Dataset = lf.merge_dataset(list(loaded.values()), run.data, seed=run.training.seed)
    return merged


def _load_one(stage: TreeStage, run: RunArguments, name: str) -> Dataset:
    rows = checked_rows(stage, run, name)
    (attr,) = lf.get_dataset_list([name], run.data.dataset_dir)
    rng = np.random.default_rng(run.training.seed)
    if attr.num_samples is not None:
        order = list(rng.permutation(len(rows))[: attr.num_samples])
        order += list(rng.integers(len(rows), size=max(0, attr.num_samples - len(rows))))
        rows = [rows[place] for place in order]
    if run.data.max_samples is not None:
        rows = rows[: run.data.max_samples]
    return records(sample for row in rows for sample in stage.samples(row, run))


def _split(
    train: Dataset | dict[str, Dataset] | None, evaluation: Dataset | dict[str, Dataset] | None, run: RunArguments
) -> dict[str, Dataset]:
    """The parts by name: train, validation or validation_NAME."""
    parts: dict[str, Dataset] = {}
    if isinstance(train, Dataset):
        parts["train"] = train
        if run.data.val_size > 1e-6:
            parts["train"], parts["validation"] = split_by_key(train, run.data.val_size, run.training.seed)
    if isinstance(evaluation, dict):
        parts |= {f"validation_{name}": dataset for name, dataset in evaluation.items()}
    elif evaluation is not None:
        parts["validation"] = evaluation
    return parts


def split_by_key(dataset: Dataset, val_size: float, seed: int) -> tuple[Dataset, Dataset]:
    """Moves whole ids to the validation set until it has `val_size` rows (or that share of them).

    Raises:
        DataError: if that leaves one side empty.
    """
    wanted = int(val_size) if val_size > 1 else round(val_size * len(dataset))
    keys = np.array(dataset["key"])
    order = np.random.default_rng(seed).permutation(sorted(set(keys)))
    counts = dict(zip(*np.unique(keys, return_counts=True), strict=True))
    chosen: set[str] = set()
    taken = 0
    for key in order:
        if taken >= wanted:
            break
        if taken and taken + counts[key] > wanted:
            continue
        chosen.add(key)
        taken += counts[key]
    held_out = np.isin(keys, list(chosen))
    if held_out.all() or not held_out.any():
        raise DataError(
            (),
            f"val_size {val_size} cannot be split off {len(dataset)} rows with {len(counts)} different ids "
            "(rows of one id, or of one question and picture, stay together). Give an eval_dataset instead.",
        )
    return dataset.select(np.flatnonzero(~held_out)), dataset.select(np.flatnonzero(held_out))


def _module(splits: dict[str, Any] | DatasetDict) -> DatasetModule:
    module: DatasetModule = {}
    if "train" in splits:
        module["train_dataset"] = splits["train"]
    if "validation" in splits:
        module["eval_dataset"] = splits["validation"]
    prefix = "validation_"
    named = {name.removeprefix(prefix): split for name, split in splits.items() if name.startswith(prefix)}
    if named:
        module["eval_dataset"] = named
    return module
