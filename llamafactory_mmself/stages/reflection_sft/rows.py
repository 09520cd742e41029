# SPDX-License-Identifier: Apache-2.0
"""Rows with a kind and a pair, through LLaMA-Factory's own loading and tokenising."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from datasets import Dataset

from ...data.schema import find_schema
from ...plugin import lf
from ..base import RunArguments, SettingError


logger = lf.get_logger(__name__)

#: Kind of rows that name none; its id is 0.
NO_KIND = "none"
KINDS_FILE = "mmself_kinds.json"

#: Labels carry the id of their kind above this many bits while LLaMA-Factory packs and pads them.
KIND_BITS = 32
_TOKEN = (1 << KIND_BITS) - 1


@dataclass(frozen=True)
class Kinds:
    """The kinds of a run's rows.

    Attributes:
        names: a kind's place is its id.
        present: kinds that there are rows of.
    """

    names: tuple[str, ...]
    present: frozenset[str]

    @classmethod
    def of(cls, present: frozenset[str]) -> Kinds:
        """The kinds of rows, the empty one first."""
        return cls((NO_KIND, *sorted(present - {NO_KIND})), present)

    @property
    def told_apart(self) -> bool:
        """Whether any row names its kind."""
        return bool(self.present - {NO_KIND})


@dataclass
class KindConverter:
    """A data-set converter that keeps `kind` and `pair` of a row beside what LLaMA-Factory keeps.

    Raises:
        SettingError: for a kind or pair that is no text.
    """

    original: Callable[[Mapping[str, Any]], dict[str, Any]]
    dataset: str
    columns: Mapping[str, str]

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """One row in LLaMA-Factory's aligned form, with `_kind` and `_pair`."""
        kind, pair = self._text(row, "kind"), self._text(row, "pair")
        return {**self.original(row), "_kind": kind or NO_KIND, "_pair": pair}

    def _text(self, row: Mapping[str, Any], column: str) -> str:
        key = self.columns.get(column)
        value = None if key is None else row.get(key)
        if value is None or isinstance(value, str):
            return value or ""
        where = f" (id {row['id']})" if "id" in row else ""
        raise SettingError(f"Data set `{self.dataset}`: a row{where} has {key} {value!r}; write a string.")


class _KindRows:
    """Tokenises rows as LLaMA-Factory does, and notes the kind of each token that is trained on.

    The kind travels inside the labels, so that it stays with its tokens however rows are cut and packed.
    """

    kinds: tuple[str, ...]
    told_apart: bool
    closed: bool
    pairs: bool

    def preprocess_dataset(self, examples: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """See LLaMA-Factory's `DatasetProcessor`; adds `kinds` (an id for each token) and `pair`."""
        used = [
            len(prompt) % 2 == 1 and len(response) == 1
            for prompt, response in zip(examples["_prompt"], examples["_response"], strict=True)
        ]
        rows = [row for row, is_used in enumerate(used) if is_used]
        self._ids: Iterator[int] = iter([self._id(examples["_kind"][row]) for row in rows])
        inputs: dict[str, list[Any]] = super().preprocess_dataset(examples)  # type: ignore[misc]
        del self._ids
        if self.told_apart:
            coded = inputs["labels"]
            inputs["labels"] = [[label if label < 0 else label & _TOKEN for label in row] for row in coded]
            inputs["kinds"] = [[0 if label < 0 else label >> KIND_BITS for label in row] for row in coded]
        if self.pairs:
            inputs["pair"] = [examples["_pair"][row] for row in rows]
        return inputs

    def _id(self, kind: str) -> int:
        if kind in self.kinds:
            return self.kinds.index(kind)
        if self.closed:
            raise SettingError(
                f"A row is of kind `{kind}`. While streaming, kinds are known only from kind_weights: name them all."
            )
        return 0

    def _encode_data_example(self, *args: Any, **kwargs: Any) -> tuple[list[int], list[int]]:
        input_ids, labels = super()._encode_data_example(*args, **kwargs)  # type: ignore[misc]
        kind = next(self._ids)
        if self.data_args.mask_history and self.template.efficient_eos:  # type: ignore[attr-defined]
            labels = last_answer_only(labels)
        return input_ids, [label if label < 0 else label | kind << KIND_BITS for label in labels]


def last_answer_only(labels: list[int]) -> list[int]:
    """Labels without those before the last answer.

    With templates that write the end of an answer at the beginning of the next question, LLaMA-Factory's
    `mask_history` leaves that end of masked answers in.
    """
    start = len(labels)
    while start and labels[start - 1] != lf.IGNORE_INDEX:
        start -= 1
    return [lf.IGNORE_INDEX] * start + labels[start:]


@dataclass
class KindProcessor(_KindRows, lf.SupervisedDatasetProcessor):
    """One row, one example."""

    kinds: tuple[str, ...] = (NO_KIND,)
    told_apart: bool = False
    closed: bool = False
    pairs: bool = False


@dataclass
class PackedKindProcessor(_KindRows, lf.PackedSupervisedDatasetProcessor):
    """Many rows, one example."""

    kinds: tuple[str, ...] = (NO_KIND,)
    told_apart: bool = False
    closed: bool = False
    pairs: bool = False


_OURS = {
    lf.SupervisedDatasetProcessor: KindProcessor,
    lf.PackedSupervisedDatasetProcessor: PackedKindProcessor,
}


def load_rows(run: RunArguments, template: Any, modules: dict[str, Any]) -> tuple[dict[str, Any], Kinds]:
    """The tokenised data sets of a run and the kinds of their rows.

    Raises:
        SettingError: for rows whose kind cannot be read.
        DataError: for a wrong entry in dataset_info.json.
    """
    path = run.data.tokenized_path
    saved = path is not None and lf.has_tokenized_data(path)
    kinds = _saved_kinds(path) if saved else Kinds.of(frozenset({NO_KIND}))

    def list_datasets(names: list[str] | None, dataset_dir: Any) -> list[Any]:
        attributes = lf.get_dataset_list(names, dataset_dir)
        for name, attribute in zip(names or [], attributes, strict=True):
            if run.data.streaming and attribute.load_from == "file" and not run.training.dataloader_num_workers:
                raise SettingError(
                    f"Data set `{name}`: local files are streamed in `dataloader_num_workers` parts, and it is 0: "
                    "set it to 1 or more."
                )
            attribute.mmself = (name, _columns(name, dataset_dir))
        return attributes

    def find_converter(name: str, attribute: Any, data_args: Any) -> KindConverter:
        return KindConverter(lf.get_dataset_converter(name, attribute, data_args), *attribute.mmself)

    def split(train: Any, evaluation: Any, data_args: Any, seed: int) -> Any:
        nonlocal kinds
        kinds = _kinds_of(run, train, evaluation)
        return lf.split_dataset(train, evaluation, data_args, seed)

    def make_processor(stock: Any) -> Any:
        if type(stock) not in _OURS:
            return stock
        values = {field.name: vars(stock)[field.name] for field in fields(stock)}
        closed = run.data.streaming and run.stage.kind_weights is not None
        return _OURS[type(stock)](
            **values, kinds=kinds.names, told_apart=kinds.told_apart, closed=closed, pairs=run.stage.keep_pairs
        )

    datasets = lf.supervised_datasets(
        template,
        run,
        modules,
        list_datasets=list_datasets,
        find_converter=find_converter,
        split=split,
        make_processor=make_processor,
    )
    if path is not None and not saved and run.training.should_save:
        about = {"kinds": kinds.names, "present": sorted(kinds.present)}
        Path(path, KINDS_FILE).write_text(json.dumps(about, indent=2), encoding="utf-8")
    return datasets, kinds


def _saved_kinds(path: str) -> Kinds:
    file = Path(path, KINDS_FILE)
    if not file.exists():  # tokenised by stage `sft`
        return Kinds.of(frozenset({NO_KIND}))
    about = json.loads(file.read_text(encoding="utf-8"))
    return Kinds(tuple(about["kinds"]), frozenset(about["present"]))


def _columns(name: str, dataset_dir: Any) -> Mapping[str, str]:
    """Where the rows of a data set have their kind and pair."""
    schema = find_schema(dataset_dir, name)
    return {"kind": "kind", "pair": "pair"} if schema is None else schema.columns


def _kinds_of(run: RunArguments, train: Any, evaluation: Any) -> Kinds:
    parts = [train, *(evaluation.values() if isinstance(evaluation, dict) else [evaluation])]
    if not run.data.streaming:
        rows = [part for part in parts if isinstance(part, Dataset)]
        return Kinds.of(frozenset(kind for part in rows for kind in part.unique("_kind")) or frozenset({NO_KIND}))
    if run.stage.kind_weights is None:
        logger.warning_rank0("While streaming, losses are logged by kind only for the kinds that kind_weights names.")
    return Kinds.of(frozenset(run.stage.kind_weights or ()) | {NO_KIND})
