# SPDX-License-Identifier: Apache-2.0
"""Minibatches of a buffer that is filled again and again: what the trainer takes for its one long epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ...generate.seeds import derived_seed
from ...tree.batch import Batch
from ..sampling import FILLER


@dataclass
class Place:
    """Where a run stands.

    Attributes:
        round: which buffer, from 0; -1 before the first.
        number: which pass over it.
        batch: micro-batches of this rank that the pass has given out.
        stopped: a guard has ended the passes over this buffer.
    """

    round: int = -1
    number: int = 0
    batch: int = 0
    stopped: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Shape:
    """How a run is cut up.

    Attributes:
        prompts: of a buffer.
        rounds: buffers of the run.
        passes: over each buffer.
        size: prompts of a micro-batch.
        ranks: processes.
        accumulation: micro-batches of a step.
    """

    prompts: int
    rounds: int
    passes: int
    size: int
    ranks: int
    accumulation: int

    @property
    def rows(self) -> int:
        """Rows of a pass, fillers included: whole steps, so that no step mixes two passes or two buffers."""
        step = self.size * self.ranks * self.accumulation
        return -(-self.prompts // step) * step

    @property
    def batches(self) -> int:
        """Micro-batches of a pass on each rank."""
        return self.rows // (self.size * self.ranks)

    def order(self, seed: int | None) -> list[int]:
        """Rows of a pass; those from `prompts` on are fillers. Without a seed in their own order, topped up.

        A short last step of the published code begins again with the first rows instead of fillers.
        """
        if seed is None:
            return [place % self.prompts for place in range(self.rows)]
        generator = torch.Generator().manual_seed(seed)
        shuffled: list[int] = torch.randperm(self.prompts, generator=generator).tolist()
        return [*shuffled, *range(self.prompts, self.rows)]

    def share(self, order: Sequence[int], batch: int, rank: int) -> list[int]:
        """The rows of a rank's micro-batch: n ranks take together what one rank would."""
        start = (batch * self.ranks + rank) * self.size
        return list(order[start : start + self.size])


class RolloutLoader:
    """Yields a rank's micro-batches, and has the buffer filled when a new round begins.

    Args:
        shape: of the run.
        rank: this process.
        seed: of the order, or None for the buffer's own.
        fill: fills the buffer for a round.
        rows: the buffer's rows, once it is filled.
        collate: rows to a batch.
        dataset: what the trainer counts examples by.

    Attributes:
        place: where the run stands; to be set before the first batch when a run is resumed.
    """

    def __init__(
        self,
        shape: Shape,
        rank: int,
        seed: int | None,
        fill: Callable[[int], None],
        rows: Callable[[], Sequence[dict[str, Any]]],
        collate: Callable[[Sequence[dict[str, Any]]], Batch],
        dataset: Sequence[Any],
    ) -> None:
        self.shape = shape
        self.dataset = dataset
        self.place = Place()
        self._rank = rank
        self._seed = seed
        self._fill = fill
        self._rows = rows
        self._collate = collate

    def __len__(self) -> int:
        shape = self.shape
        return shape.rounds * shape.passes * shape.batches

    def __iter__(self) -> Iterator[Batch]:
        place, shape = self.place, self.shape
        while True:
            if place.batch >= shape.batches:
                place.number, place.batch = place.number + 1, 0
            if place.round < 0 or place.number >= shape.passes or self._ended():
                if place.round + 1 >= shape.rounds:
                    return
                self._fill(place.round + 1)
                place.round, place.number, place.batch, place.stopped = place.round + 1, 0, 0, False
            chosen = shape.share(self._order(), place.batch, self._rank)
            place.batch += 1  # before the batch is out: what a checkpoint of this step has to say
            yield self._collate([self._row(number) for number in chosen])

    def _ended(self) -> bool:
        """Whether a guard has ended the passes; steps are finished first."""
        return self.place.stopped and self.place.batch % self.shape.accumulation == 0

    def _order(self) -> list[int]:
        if self._seed is None:
            return self.shape.order(None)
        return self.shape.order(derived_seed(self._seed, "order", self.place.round, self.place.number))

    def _row(self, number: int) -> dict[str, Any]:
        rows = self._rows()
        return rows[number] if number < len(rows) else {**rows[0], FILLER: True}
