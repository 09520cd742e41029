# SPDX-License-Identifier: Apache-2.0
"""Orders of rows that make n ranks equal to one, on ragged epochs too."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any, Protocol

import torch
from torch.utils.data import Dataset, Sampler


#: Key that marks a filler row.
FILLER = "_filler"


class Rows(Sized, Protocol):
    """A data set with rows by index."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One row."""
        ...


class OrderOfEpochs(Protocol):
    """A sampler whose order is chosen by the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of an epoch."""
        ...


class EpochSampler(Sampler[int]):
    """Indices of an epoch, padded with fillers to a multiple of all ranks' micro-batches.

    Without the padding, accelerate repeats rows from the beginning, which changes the last step's loss with the number
    of ranks. Indices at or above `rows` are fillers: they keep ranks in step and count for nothing.

    Args:
        rows: number of rows.
        multiple: rows that all ranks consume in one micro-step.
        seed: seed of the order, or None for the rows' own order.
    """

    def __init__(self, rows: int, multiple: int, seed: int | None) -> None:
        self._rows = rows
        self._length = -(-rows // multiple) * multiple
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of an epoch; the same epoch gives the same order, also after a resume."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        if self._seed is None:
            yield from range(self._length)
            return
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        yield from torch.randperm(self._rows, generator=generator).tolist()
        yield from range(self._rows, self._length)


class PaddedRows(Dataset[dict[str, Any]]):
    """A data set that answers filler indices with a copy of its first row, marked as a filler.

    It hands the epoch on to its sampler: on several ranks, accelerate's loader of a resumed epoch does not find the
    sampler, which it wraps once more.
    """

    def __init__(self, rows: Rows, sampler: OrderOfEpochs) -> None:
        self._rows = rows
        self._sampler = sampler

    def set_epoch(self, epoch: int) -> None:
        """See `OrderOfEpochs.set_epoch`."""
        self._sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index < len(self._rows):
            return self._rows[index]
        return {**self._rows[0], FILLER: True}
