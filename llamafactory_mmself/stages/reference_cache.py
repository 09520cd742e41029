# SPDX-License-Identifier: Apache-2.0
"""A cache of reference log-probs that is complete before the first step.

Each rank looks after every n-th row: it computes what the cache lacks of them and appends it to a shard of its own.
Then all ranks read what all have written. What a killed run has left is kept, and the next one goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import config
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..files import FileError, read_json, write_json
from ..plugin import lf
from ..tree.batch import Batch
from ..tree.logp_store import LogpStore, sample_digest
from ..tree.reference import Cached, Reference, SampleIds, missing
from ..tree.sample import SampleTree
from ..tree.scores import ScoreTable
from .base import RunArguments, SettingError
from .ranks import gathered


logger = lf.get_logger(__name__)

MANIFEST = "manifest.json"

#: A row of a data set -> its tree.
MakeTree = Callable[[dict[str, Any]], SampleTree]


def cache_root(run: RunArguments) -> Path:
    """The folder of all reference caches: what the user names, or beside the tokenised rows."""
    if run.stage.ref_logps_dir is not None:
        return Path(run.stage.ref_logps_dir)
    return Path(config.HF_DATASETS_CACHE, "mmself", "ref_logps")


def sample_ids(trees: Sequence[SampleTree], rows: Sequence[Mapping[str, Any]]) -> SampleIds:
    """What names the samples of a batch, in the cache and in messages."""
    names = tuple(_name(tree, row) for tree, row in zip(trees, rows, strict=True))
    return SampleIds(tuple(sample_digest(tree) for tree in trees), names)


def _name(tree: SampleTree, row: Mapping[str, Any]) -> str:
    return f"{tree.key} ({row['origin']})"


@dataclass(frozen=True)
class _Sample:
    """A row that this rank looks after."""

    dataset: Any
    index: int
    digest: str
    name: str
    tokens: int


class _Rows(Dataset[dict[str, Any]]):
    def __init__(self, samples: Sequence[_Sample]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = self._samples[index].dataset[self._samples[index].index]
        return row


class ReferenceCache:
    """The cached log-probs of a run's rows.

    Building it looks up every row; every rank has to do so at the same time.

    Attributes:
        store: what is on disk.
        lacking: samples that are not there yet, of all ranks.

    Args:
        run: arguments of the run.
        key: of the reference, see `reference_key`.
        splits: training and evaluation rows, by name.
        tree: how a row becomes a tree.

    Raises:
        SettingError: for rows that are not known before training.
    """

    def __init__(self, run: RunArguments, key: Mapping[str, Any], splits: Mapping[str, Any], tree: MakeTree) -> None:
        self._run = run
        folder = cache_root(run) / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
        self.store = LogpStore(folder)
        damaged = self.store.load()
        self._samples = self._look_up(splits, tree)
        wanted = {sample.digest: sample for sample in self._samples if sample.digest not in self.store}
        self._todo = sorted(wanted.values(), key=lambda sample: -sample.tokens)  # alike lengths share a batch
        self.lacking = sum(gathered(len(self._todo)))
        if self.lacking:
            if damaged:
                logger.warning_rank0(
                    f"{folder}: {damaged} entries were cut short, by a kill or on the disk, and are passed over."
                )
            self._write_manifest(folder / MANIFEST, key)
        else:
            logger.info_rank0(f"Reference log-probs of all rows are in {folder} ({_size(self.store)}).")

    def fill(
        self,
        reference: Reference,
        model: nn.Module,
        collate: Callable[[list[dict[str, Any]]], Batch],
        prepare: Callable[[Batch], Batch],
    ) -> Cached:
        """Computes what is lacking, and returns the reference that reads it; all ranks take part.

        Args:
            reference: computes log-probs.
            model: the wrapped policy.
            collate: rows -> a batch with `samples`.
            prepare: moves a batch to the device.

        Raises:
            MissingLogpsError: a row is not in the cache even now.
            FileError: the cache cannot be written.
        """
        if self.lacking:
            start = time.monotonic()
            training = model.training
            model.eval()
            try:
                self._compute(collate, lambda batch: reference(model, prepare(batch)))
            finally:
                self.store.close()
                model.train(training)
            gathered(None)  # all have written
            self.store.load()
            logger.info_rank0(
                f"Reference log-probs: computed for {self.lacking} samples in {time.monotonic() - start:.1f} s, kept "
                f"in {self.store.folder} ({_size(self.store)}). Delete the folder whenever no run uses it."
            )
        self._check()
        return Cached(self.store)

    def _look_up(self, splits: Mapping[str, Any], tree: MakeTree) -> list[_Sample]:
        rank, ranks = _share(self._run)
        places = []
        for name, dataset in splits.items():
            if not hasattr(dataset, "__len__"):
                raise SettingError(
                    f"`ref_logps: cache` needs all rows before the first step, and those of `{name}` come while "
                    "training runs. Set `ref_logps: live`."
                )
            places += [(dataset, index) for index in range(len(dataset))]
        samples = []
        for dataset, index in tqdm(
            places[rank::ranks], "Looking up reference log-probs", disable=not self._run.training.should_log
        ):
            row = dataset[index]
            item = tree(row)
            tokens = sum(len(node.ids) for node in item.nodes)
            samples.append(_Sample(dataset, index, sample_digest(item), _name(item, row), tokens))
        self._spare = places[:1]
        return samples

    def _compute(self, collate: Callable[[list[dict[str, Any]]], Batch], score: Callable[[Batch], ScoreTable]) -> None:
        """Every rank runs as many batches as the one with most to do: a model may be sharded over them."""
        size, training = self._run.training.per_device_train_batch_size, self._run.training
        count = len(self._todo)
        rounds = max(gathered(-(-count // size)))
        (dataset, index), *_ = self._spare
        rows = _Rows([*self._todo, _Sample(dataset, index, "", "", 0)])
        batches = [list(range(start, min(start + size, count))) for start in range(0, count, size)]
        batches += [[count]] * (rounds - len(batches))
        loader = DataLoader(
            rows, batch_sampler=batches, collate_fn=collate, num_workers=training.dataloader_num_workers
        )
        bar = tqdm(loader, "Reference log-probs", disable=not training.should_log)
        for places, batch in zip(batches, bar, strict=True):
            table = score(batch)
            if places[0] < count:
                self._keep(batch["samples"], table)

    def _keep(self, samples: SampleIds, table: ScoreTable) -> None:
        rows = {role: (scores.logp.float().cpu(), scores.mask.cpu()) for role, scores in table.items()}
        found = {}
        for place, (digest, name) in enumerate(zip(samples.digests, samples.names, strict=True)):
            found[digest] = {role: logps[place][mask[place]] for role, (logps, mask) in rows.items()}
            if any(torch.isnan(logps).any() for logps in found[digest].values()):
                raise ValueError(f"The reference gives log-probs that are no numbers for sample {name}.")
        self.store.add(found)

    def _check(self) -> None:
        gaps = [sample for sample in self._samples if sample.digest not in self.store]
        if sum(gathered(len(gaps))):
            name = gaps[0].name if gaps else "of another rank"
            raise missing(name, self.store)

    def _write_manifest(self, path: Path, key: Mapping[str, Any]) -> None:
        """For people who wonder what a folder holds."""
        if _share(self._run)[0] != 0:
            return
        try:
            read_json(path)
        except FileError:
            write_json(path, {"about": "log-probs of a reference, see docs/architecture.md", **key})


def _share(run: RunArguments) -> tuple[int, int]:
    """Which share of the rows this rank looks after: of all ranks, or of its node's if nodes share no disk."""
    training = run.training
    if run.data.data_shared_file_system or "LOCAL_WORLD_SIZE" not in os.environ:
        return training.process_index, training.world_size
    return training.local_process_index, int(os.environ["LOCAL_WORLD_SIZE"])


def _size(store: LogpStore) -> str:
    return f"{len(store)} samples, {store.size / 2**20:.1f} MiB"
