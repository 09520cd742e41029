# SPDX-License-Identifier: Apache-2.0
"""Micro-batches of what is sampled while they are asked for: the trainer's one long epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ....tree.batch import Batch
from ...sampling import FILLER
from .entries import Entry
from .supply import Supply


class OnlineLoader:
    """Yields a rank's micro-batches.

    Args:
        supply: gives out entries.
        rows: entries of a micro-batch to rows for the collator.
        collate: rows to a batch.
        dataset: what the trainer counts examples by.
        step: optimizer steps done so far.
        ended: called when the prompts have run out before the last step.
    """

    def __init__(
        self,
        supply: Supply,
        rows: Callable[[Sequence[Entry]], list[dict[str, Any]]],
        collate: Callable[[Sequence[dict[str, Any]]], Batch],
        dataset: Sequence[Any],
        step: Callable[[], int],
        ended: Callable[[], None],
    ) -> None:
        self.dataset = dataset
        self._supply = supply
        self._rows = rows
        self._collate = collate
        self._step = step
        self._ended = ended

    def __len__(self) -> int:
        return self._supply.plan.steps * self._supply.plan.accumulation

    def __iter__(self) -> Iterator[Batch]:
        clock, size = self._supply.clock, self._supply.plan.size
        while (portion := self._supply.take(self._step())) is not None:
            for entries in portion.batches:
                rows = self._rows([*entries, *[portion.filler] * (size - len(entries))])
                for row in rows[len(entries) :]:
                    row[FILLER] = True
                start, begun = time.time(), time.perf_counter()
                yield self._collate(rows)
                clock.add("train", start, time.perf_counter() - begun, len(entries))
        self._ended()
