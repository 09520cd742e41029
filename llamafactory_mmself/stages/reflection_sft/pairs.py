# SPDX-License-Identifier: Apache-2.0
"""Orders of rows that keep the rows of a pair together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch.utils.data import Sampler


def groups_of(pairs: Sequence[str]) -> list[list[int]]:
    """Rows with the same pair, in the order of their first row; rows without a pair (empty) are alone."""
    groups: dict[str, list[int]] = {}
    alone = (f"\0{row}" for row in range(len(pairs)))
    for row, (pair, own) in enumerate(zip(pairs, alone, strict=True)):
        groups.setdefault(pair or own, []).append(row)
    return list(groups.values())


def packed_order(groups: Sequence[Sequence[int]], batch_size: int) -> Iterator[int]:
    """Indices, group after group, so that few groups lie across the border of two batches.

    Each place in a batch goes to the first group after which the rest of the batch can still be filled exactly; if
    there is none, to the first of all. So the order stays close to the given one.
    """
    waiting: dict[int, deque[int]] = {}
    for place, group in enumerate(groups):
        waiting.setdefault(len(group), deque()).append(place)
    room = batch_size
    for _ in groups:
        counts = {size: len(places) for size, places in waiting.items() if places}
        by_place = sorted(counts, key=lambda size: waiting[size][0])
        size = next(
            (size for size in by_place if _fills(room - size, {**counts, size: counts[size] - 1})), by_place[0]
        )
        yield from groups[waiting[size].popleft()]
        room = (room - size) % batch_size or batch_size


def _fills(room: int, counts: Mapping[int, int]) -> bool:
    """Whether groups of these sizes can fill a room exactly."""
    if room < 0:
        return False
    sums = 1  # bit n: n rows can be filled
    for size, count in counts.items():
        for _ in range(min(count, room // size)):
            sums |= sums << size
    return bool(sums >> room & 1)


def torn_groups(groups: Sequence[Sequence[int]], order: Sequence[int], batch_size: int) -> int:
    """How many groups an order spreads over several batches."""
    batch = {row: place // batch_size for place, row in enumerate(order)}
    return sum(len({batch[row] for row in group}) > 1 for group in groups)


class PairSampler(Sampler[int]):
    """Indices of an epoch with the rows of a pair together.

    Args:
        groups: rows that belong together.
        batch_size: rows of one batch of one rank.
        seed: seed of the order, or None for the groups' own order.
    """

    def __init__(self, groups: Sequence[Sequence[int]], batch_size: int, seed: int | None) -> None:
        self._groups = groups
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of an epoch; the same epoch gives the same order, also after a resume."""
        self._epoch = epoch

    def __len__(self) -> int:
        return sum(map(len, self._groups))

    def __iter__(self) -> Iterator[int]:
        groups = self._groups
        if self._seed is not None:
            generator = torch.Generator().manual_seed(self._seed + self._epoch)
            groups = [groups[place] for place in torch.randperm(len(groups), generator=generator).tolist()]
        yield from packed_order(groups, self._batch_size)
