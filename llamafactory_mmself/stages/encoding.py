# SPDX-License-Identifier: Apache-2.0
"""Tokenising the rows of a data set: ahead of time with a cache, or one by one when they are asked for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Features, List, Value, config
from PIL import Image

from ..data.encode import RowEncoder, Segments
from ..data.faults import DataError, Fault
from ..data.rows import FEATURES, PreferenceRow
from ..plugin import lf
from .base import RunArguments, TreeStage
from .reading import apply_policy
from .sampling import FILLER


logger = lf.get_logger(__name__)

#: Changes whenever encoded rows change their meaning.
ENCODING_VERSION = 2


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
        "split_special_tokens": str(encoder.tokenizer.split_special_tokens),
        "processor": _digest(encoder.processor.to_dict() if encoder.processor else None),
        "packages": ", ".join(f"{name} {version(name)}" for name in ("transformers", "llamafactory")),
        "cutoff_len": str(encoder.cutoff_len),
        "image_pixels": f"{model.image_min_pixels} to {model.image_max_pixels}",
        "video": f"{model.video_min_pixels} to {model.video_max_pixels}, {model.video_fps} fps, {model.video_maxlen}",
        **stage.fingerprint(run),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def records(rows: Iterable[PreferenceRow]) -> Dataset:
    """Rows as an Arrow table."""
    return Dataset.from_list([row.to_record() for row in rows], features=_features(FEATURES))


def encoded(
    stage: TreeStage,
    run: RunArguments,
    encoder: RowEncoder,
    dataset: Dataset,
    fingerprint: Mapping[str, str],
    name: str,
) -> Dataset:
    """All rows tokenised, from the cache if it has them.

    Raises:
        DataError: for rows that cannot be tokenised, according to `invalid_rows`, and if none is left.
    """
    digest = _digest([fingerprint, _content(dataset)])
    cache = Path(config.HF_DATASETS_CACHE, "mmself")
    cache.mkdir(parents=True, exist_ok=True)
    shared = run.data.data_shared_file_system
    first = (run.training.process_index if shared else run.training.local_process_index) == 0
    result = dataset.map(
        _Mapper(stage, encoder),
        batched=True,
        batch_size=run.data.preprocessing_batch_size,
        remove_columns=list(FEATURES),
        features=_features({**stage.segment_types(), "fault": "string"}),
        num_proc=run.data.preprocessing_num_workers,
        cache_file_name=str(cache / f"{digest}.arrow"),
        new_fingerprint=digest,
        load_from_cache_file=not (run.data.overwrite_cache and first),
        desc=f"Running tokenizer on {name} set",
    )
    faults = [Fault.from_dict(json.loads(text)) for text in result["fault"] if text]
    apply_policy(faults, run.stage.invalid_rows, name)
    good = [place for place, text in enumerate(result["fault"]) if not text]
    if not good:
        raise DataError(faults, "No row is left to train on.")
    result = (result if len(good) == len(result) else result.select(good)).remove_columns("fault")
    if run.training.should_log:
        _show(result[0], encoder, name)
    return result


class LazyRows(torch.utils.data.Dataset[Segments]):
    """Rows that are tokenised when they are asked for: what `streaming` means for tree stages.

    They stay a data set with a length, so that splits, several ranks, evaluation and resuming are the same as without
    streaming. A row that cannot be tokenised stops the run, or its place is taken by a filler.
    """

    def __init__(self, stage: TreeStage, encoder: RowEncoder, rows: Dataset, policy: str, name: str) -> None:
        self._stage = stage
        self._encoder = encoder
        self._rows = rows
        self._policy = policy
        self._name = name

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Segments:
        for offset in range(len(self)):
            row = PreferenceRow.from_record(self._rows[(index + offset) % len(self)])
            segments, faults = self._stage.encode(row, self._encoder)
            apply_policy([fault for fault in faults if fault.level == "error"], self._policy, self._name)
            if segments:
                return {**segments[0], FILLER: True} if offset else segments[0]
        raise DataError((), f"Data set `{self._name}` has no row that can be tokenised.")


class _Mapper:
    """Encodes a batch of records; faults come out as rows of their own."""

    def __init__(self, stage: TreeStage, encoder: RowEncoder) -> None:
        self._stage = stage
        self._encoder = encoder

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        names = [*self._stage.segment_types()]
        out: dict[str, list[Any]] = {name: [] for name in (*names, "fault")}
        for values in zip(*batch.values(), strict=True):
            row = PreferenceRow.from_record(dict(zip(batch, values, strict=True)))
            segments, faults = self._stage.encode(row, self._encoder)
            lines = [(item, "") for item in segments]
            lines += [(dict.fromkeys(names), json.dumps(fault.to_dict())) for fault in faults]
            for item, fault in lines:
                out["fault"].append(fault)
                for name in names:
                    out[name].append(item[name])
        return out


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


def picture_sizes(datasets: Iterable[Dataset]) -> str:
    """A digest of the sizes of all pictures that tokenised rows name: what their tokens depend on."""
    digest = hashlib.sha256()
    known: dict[str, str] = {}
    for dataset in datasets:
        for column in ("images", "rejected_images"):
            for paths in dataset[column] if column in dataset.column_names else ():
                for path in paths:
                    if path not in known:
                        known[path] = _size(path)
                    digest.update(known[path].encode())
    return digest.hexdigest()[:16]


def _size(path: str) -> str:
    try:
        with Image.open(path) as image:
            return f"{image.size} "
    except OSError:
        return "missing "


def _features(types: Mapping[str, Any]) -> Features:
    return Features({name: _feature(kind) for name, kind in types.items()})


def _feature(kind: Any) -> Any:
    if isinstance(kind, list):
        return List(_feature(kind[0]))
    return {name: _feature(inner) for name, inner in kind.items()} if isinstance(kind, dict) else Value(kind)


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
