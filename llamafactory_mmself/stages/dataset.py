# SPDX-License-Identifier: Apache-2.0
"""Data sets of tree stages: read, check, mix, split, tokenise."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Features, IterableDataset, List, Value, config, load_from_disk

from ..data.encode import RowEncoder
from ..data.faults import DataError, Fault
from ..data.read import read_rows, rows_from_raw
from ..data.rows import FEATURES, PreferenceRow
from ..data.schema import DEFAULT_TAGS, EXTRA_COLUMNS, LLAMAFACTORY_COLUMNS, DatasetSchema, read_dataset_info
from ..data.validate import missing_requirements
from ..plugin import lf
from .base import RunArguments, TreeStage


logger = lf.get_logger(__name__)

FINGERPRINT_FILE = "mmself_fingerprint.json"
#: Changes whenever encoded rows change their meaning.
ENCODING_VERSION = 1

_JSON = (".json", ".jsonl")
AnyDataset = Dataset | IterableDataset
DatasetModule = dict[str, Any]


def load_tree_dataset(stage: TreeStage, run: RunArguments, encoder: RowEncoder) -> DatasetModule:
    """The tokenised training and evaluation sets of a run.

    Returns:
        `train_dataset` and `eval_dataset`, as LLaMA-Factory's own loader names them; each only if asked for.

    Raises:
        DataError: if rows cannot be trained on and `invalid_rows` is `error`, or a set on disk was made with other
            settings than this run's.
    """
    fingerprint = encoding_fingerprint(stage, run, encoder)
    path = run.data.tokenized_path
    if path is not None and os.path.isdir(path) and os.listdir(path):
        return _load_tokenized(path, fingerprint, run)
    if path is not None and run.data.streaming:
        raise DataError((), "Turn off `streaming` to save a tokenised data set.")

    with run.training.main_process_first(desc="load dataset", local=not run.data.data_shared_file_system):
        train = _merged(stage, run, run.data.dataset)
        evaluation = _merged(stage, run, run.data.eval_dataset, separate=run.data.eval_on_each_dataset)
    with run.training.main_process_first(desc="pre-process dataset", local=not run.data.data_shared_file_system):
        splits = {
            name: _encoded(stage, run, encoder, dataset, fingerprint, name)
            for name, dataset in _split(train, evaluation, run).items()
        }
        if path is not None and run.training.should_save:
            DatasetDict(splits).save_to_disk(path)
            Path(path, FINGERPRINT_FILE).write_text(json.dumps(fingerprint, indent=2), encoding="utf-8")
            logger.info_rank0(f"Tokenised data set saved at {path}; the next run with this path loads it.")
    return _module(splits)


def encoding_fingerprint(stage: TreeStage, run: RunArguments, encoder: RowEncoder) -> dict[str, str]:
    """What encoded rows depend on besides the rows: part -> digest or value."""
    template = {
        field.name: repr(getattr(encoder.template, field.name)) for field in dataclasses.fields(encoder.template)
    }
    model = run.model
    return {
        "stage": stage.name,
        "encoding": str(ENCODING_VERSION),
        "template": f"{run.data.template} {_digest(template)}",
        "tokenizer": _digest(
            encoder.tokenizer.backend_tokenizer.to_str()
            if encoder.tokenizer.is_fast
            else sorted(encoder.tokenizer.get_vocab().items())
        ),
        "processor": _digest(encoder.processor.image_processor.to_dict() if encoder.processor else None),
        "cutoff_len": str(encoder.cutoff_len),
        "image_pixels": f"{model.image_min_pixels} to {model.image_max_pixels}",
        "video": f"{model.video_min_pixels} to {model.video_max_pixels}, {model.video_fps} fps, {model.video_maxlen}",
        **stage.fingerprint(run),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _load_tokenized(path: str, fingerprint: dict[str, str], run: RunArguments) -> DatasetModule:
    file = Path(path, FINGERPRINT_FILE)
    if not file.exists():
        raise DataError(
            (),
            f"{path} holds no data set of a tree stage ({FINGERPRINT_FILE} is missing): give another tokenized_path.",
        )
    saved = json.loads(file.read_text(encoding="utf-8"))
    differences = [
        f"{part}: {saved.get(part)} there, {value} in this run"
        for part, value in fingerprint.items()
        if saved.get(part) != value
    ]
    if differences:
        raise DataError(
            (),
            f"The tokenised data set at {path} was made with other settings ({'; '.join(differences)}): "
            "delete it or give another tokenized_path.",
        )
    logger.warning_rank0("A tokenised data set from disk ignores all other data arguments.")
    module = _module(load_from_disk(path))
    if run.data.streaming:
        module["train_dataset"] = module["train_dataset"].to_iterable_dataset()
    return module


def _merged(
    stage: TreeStage, run: RunArguments, names: Sequence[str] | None, separate: bool = False
) -> AnyDataset | dict[str, AnyDataset] | None:
    if not names:
        return None
    loaded = {name: _load_one(stage, run, name) for name in names}
    if separate:
        return loaded
    merged: AnyDataset = lf.merge_dataset(list(loaded.values()), run.data, seed=run.training.seed)
    return merged


def _load_one(stage: TreeStage, run: RunArguments, name: str) -> AnyDataset:
    schema, rows, faults = _read(stage, run, name)
    required = stage.required_columns(run)
    missing = {row: missing_requirements(row, schema, required) for row in rows}
    faults += [fault for found in missing.values() for fault in found]
    rows = [row for row in rows if not missing[row]]
    _apply_policy(faults, run.stage.invalid_rows, name)
    if not rows:
        raise DataError((), f"Data set `{name}` has no row that can be trained on.")

    (attr,) = lf.get_dataset_list([name], run.data.dataset_dir)
    rng = np.random.default_rng(run.training.seed)
    if attr.num_samples is not None and not run.data.streaming:
        order = list(rng.permutation(len(rows))[: attr.num_samples])
        order += list(rng.integers(len(rows), size=max(0, attr.num_samples - len(rows))))
        rows = [rows[place] for place in order]
    if run.data.max_samples is not None:
        rows = rows[: run.data.max_samples]
    dataset = Dataset.from_list([row.to_record() for row in rows], features=_features(FEATURES))
    if run.data.streaming:
        return dataset.to_iterable_dataset(num_shards=max(1, run.training.dataloader_num_workers))
    return dataset


def _read(stage: TreeStage, run: RunArguments, name: str) -> tuple[DatasetSchema, list[PreferenceRow], list[Fault]]:
    media_dir = Path(run.data.media_dir)
    (attr,) = lf.get_dataset_list([name], run.data.dataset_dir)
    local = attr.load_from == "file"
    if local:
        schema = stage.schema(read_dataset_info(Path(run.data.dataset_dir), [name])[name], run)
        path = Path(run.data.dataset_dir, attr.dataset_name)
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        if schema.formatting in ("sharegpt", "alpaca") and all(file.suffix in _JSON for file in files):
            return schema, *read_rows(schema, Path(run.data.dataset_dir), media_dir)
    raw = lf.load_raw_dataset(attr, run.model, _unlimited(run.data), run.training)
    schema = stage.schema(schema_of(name, attr), run)
    if attr.formatting not in ("sharegpt", "alpaca"):
        raw = [_converted(row, attr, run.data) for row in raw]
        schema = stage.schema(CONVERTED, run)
    found = list(rows_from_raw(enumerate(raw, start=1), schema, attr.dataset_name, media_dir))
    rows = [row for row, _ in found if row is not None]
    return schema, rows, [fault for _, faults in found for fault in faults]


def _unlimited(data_args: Any) -> Any:
    return dataclasses.replace(data_args, max_samples=None, streaming=False, val_size=0.0)


def schema_of(name: str, attr: Any) -> DatasetSchema:
    """The schema of a data set that LLaMA-Factory describes by its `DatasetAttr`."""
    tags = {tag: getattr(attr, tag) for tag in DEFAULT_TAGS}
    columns = {column: getattr(attr, column) for column in LLAMAFACTORY_COLUMNS}
    return DatasetSchema(
        name=name,
        file_name=None,
        formatting=attr.formatting,
        ranking=attr.ranking,
        columns={key: value for key, value in columns.items() if value}
        | {column: column for column in EXTRA_COLUMNS if column not in columns.values()},
        tags={key: value for key, value in tags.items() if value},
    )


#: Rows as registered converters return them, in our own columns.
CONVERTED = DatasetSchema(
    name="converted",
    file_name=None,
    formatting="sharegpt",
    ranking=True,
    columns={column: column for column in (*LLAMAFACTORY_COLUMNS, *EXTRA_COLUMNS)},
    tags={"role_tag": "role", "content_tag": "content"}
    | {f"{role}_tag": role for role in ("user", "assistant", "observation", "function", "system")},
)


def _converted(row: dict[str, Any], attr: Any, data_args: Any) -> dict[str, Any]:
    """A row through a registered converter: LLaMA-Factory's aligned form, renamed to our columns."""
    aligned = lf.convert_row(row, attr, data_args)
    answers = aligned.get("_response") or []
    result = {
        "messages": aligned.get("_prompt"),
        "chosen": answers[0] if answers else None,
        "rejected": answers[1:],
        "images": aligned.get("_images") or [],
        "rejected_images": aligned.get("_rejected_images") or [],
        "videos": aligned.get("_videos") or [],
        "system": aligned.get("_system") or "",
        "tools": aligned.get("_tools") or "",
    }
    extras = {key: aligned[f"_{key}"] for key in ("id", "prefix", "prefix_l", "weights") if f"_{key}" in aligned}
    return {key: value for key, value in result.items() if value not in (None, [], "")} | extras


def _apply_policy(faults: Sequence[Fault], policy: str, name: str) -> None:
    """Warns, and stops or counts, according to `invalid_rows`."""
    groups: dict[str, list[Fault]] = defaultdict(list)
    for fault in faults:
        groups[f"{fault.level}/{fault.code}"].append(fault)
    for fault, *others in groups.values():
        if fault.level == "warning":
            more = f" ({len(others)} more rows like this)" if others else ""
            logger.warning_rank0(f"{fault}{more}")
    errors = [fault for fault in faults if fault.level == "error"]
    if not errors:
        return
    if policy == "error":
        raise DataError(
            errors,
            f"`mmself validate` lists every fault of `{name}`; `invalid_rows: drop` drops such rows and counts them.",
        )
    dropped = len({(fault.file, fault.row) for fault in errors if fault.row})
    counts = ", ".join(f"{len(group)} {code.split('/')[1]}" for code, group in groups.items() if code[0] == "e")
    logger.warning_rank0(f"Data set `{name}`: {dropped} rows dropped ({counts}).")


def _split(
    train: AnyDataset | dict[str, AnyDataset] | None,
    evaluation: AnyDataset | dict[str, AnyDataset] | None,
    run: RunArguments,
) -> dict[str, AnyDataset]:
    """Splits off `val_size`, keeping all rows of one id on the same side."""
    if isinstance(train, Dataset) and run.data.val_size > 1e-6:
        train, validation = split_by_key(train, run.data.val_size, run.training.seed)
        return {"train": train, "validation": validation}
    train_dict, eval_dict = lf.split_dataset(train, evaluation, run.data, seed=run.training.seed)
    return {**train_dict, **eval_dict}


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


def _encoded(
    stage: TreeStage,
    run: RunArguments,
    encoder: RowEncoder,
    dataset: AnyDataset,
    fingerprint: dict[str, str],
    name: str,
) -> AnyDataset:
    mapper = _Mapper(stage, encoder, run.stage.invalid_rows if run.data.streaming else None)
    columns = list(FEATURES)
    options: dict[str, Any] = {"batched": True, "batch_size": run.data.preprocessing_batch_size}
    if isinstance(dataset, IterableDataset):
        return dataset.map(mapper, remove_columns=columns, **options)

    digest = _digest([fingerprint, _content(dataset)])
    cache = Path(config.HF_DATASETS_CACHE, "mmself")
    cache.mkdir(parents=True, exist_ok=True)
    encoded = dataset.map(
        mapper,
        remove_columns=columns,
        features=_features({**stage.segment_types(), "fault": "string"}),
        num_proc=run.data.preprocessing_num_workers,
        cache_file_name=str(cache / f"{digest}.arrow"),
        new_fingerprint=digest,
        load_from_cache_file=not run.data.overwrite_cache or run.training.local_process_index != 0,
        desc=f"Running tokenizer on {name} set",
        **options,
    )
    faults = [Fault.from_dict(json.loads(text)) for text in encoded["fault"] if text]
    _apply_policy(faults, run.stage.invalid_rows, name)
    good = [place for place, text in enumerate(encoded["fault"]) if not text]
    if not good:
        raise DataError(faults, "No row is left to train on.")
    encoded = (encoded if len(good) == len(encoded) else encoded.select(good)).remove_columns("fault")
    if run.training.should_log:
        _show(encoded[0], encoder, name)
    return encoded


class _Mapper:
    """Encodes a batch of records; faults come out as rows of their own, or are handled at once when streaming."""

    def __init__(self, stage: TreeStage, encoder: RowEncoder, policy: str | None) -> None:
        self._stage = stage
        self._encoder = encoder
        self._policy = policy

    def __call__(self, records: dict[str, list[Any]]) -> dict[str, list[Any]]:
        names = [*self._stage.segment_types()]
        out: dict[str, list[Any]] = {name: [] for name in names}
        faulty: list[str] = []
        for values in zip(*records.values(), strict=True):
            row = PreferenceRow.from_record(dict(zip(records, values, strict=True)))
            encoded, faults = self._stage.encode(row, self._encoder)
            if self._policy is not None:
                _apply_policy(faults, self._policy, row.file)
                faults = []
            for segments in encoded:
                faulty.append("")
                for name in names:
                    out[name].append(segments[name])
            for fault in faults:
                faulty.append(json.dumps(fault.to_dict()))
                for name in names:
                    out[name].append(None)
        return out if self._policy is not None else {**out, "fault": faulty}


def _content(dataset: Dataset) -> str:
    """A digest of the rows and of the size and time of every picture they name."""
    digest = hashlib.sha256()
    files: set[str] = set()
    for record in dataset:
        digest.update(json.dumps(record, sort_keys=True).encode())
        files.update(record["images"], record["rejected_images"], record["videos"])
    for file in sorted(files):
        stat = os.stat(file) if os.path.exists(file) else None
        digest.update(f"{file} {stat and (stat.st_size, stat.st_mtime_ns)}".encode())
    return digest.hexdigest()


def _features(types: Mapping[str, Any]) -> Features:
    return Features({name: _feature(kind) for name, kind in types.items()})


def _feature(kind: Any) -> Any:
    if isinstance(kind, list):
        return List(_feature(kind[0]))
    return {name: _feature(inner) for name, inner in kind.items()} if isinstance(kind, dict) else Value(kind)


def _module(splits: dict[str, AnyDataset] | DatasetDict) -> DatasetModule:
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


def _show(segments: dict[str, Any], encoder: RowEncoder, name: str) -> None:
    """Prints one example, as LLaMA-Factory does."""
    print(f"{name} example ({segments['origin']}):")
    for part in ("prompt", "chosen", "rejected"):
        print(f"{part}:\n{_text(segments[part], encoder)}")
    for part in ("images", "rejected_images", "videos"):
        if segments.get(part):
            print(f"{part}: {', '.join(segments[part])}")


def _text(ids: Iterable[int], encoder: RowEncoder) -> str:
    text: str = encoder.tokenizer.decode(list(ids), skip_special_tokens=False)
    token = encoder.template.mm_plugin.image_token
    while token and token * 3 in text:
        text = text.replace(token * 3, token * 2)
    return text
