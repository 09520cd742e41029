# SPDX-License-Identifier: Apache-2.0
"""Every row once an epoch, whatever the ranks."""

import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler

from llamafactory_mmself.stages.sampling import FILLER, EpochSampler, PaddedRows


@pytest.mark.parametrize(("rows", "multiple"), [(7, 4), (8, 4), (1, 6), (5, 1)])
def test_every_row_once_then_fillers(rows, multiple):
    order = list(EpochSampler(rows, multiple, seed=1))
    assert len(order) % multiple == 0 and len(order) < rows + multiple
    assert sorted(order[:rows]) == list(range(rows))
    assert all(index >= rows for index in order[rows:])


def test_the_order_follows_from_seed_and_epoch():
    sampler = EpochSampler(20, 1, seed=1)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    sampler.set_epoch(0)
    assert list(sampler) == first != second
    assert list(EpochSampler(20, 1, seed=2)) != first
    assert list(EpochSampler(3, 2, seed=None)) == [0, 1, 2, 3]


@pytest.mark.parametrize(("ranks", "batch"), [(1, 4), (2, 2), (4, 1)])
def test_more_ranks_see_the_same_global_batches(ranks, batch):
    """As accelerate deals them out: four rows a step, none twice, the last step with three and a filler."""
    shards = [
        list(BatchSamplerShard(BatchSampler(EpochSampler(7, 4, seed=5), batch, drop_last=False), ranks, rank))
        for rank in range(ranks)
    ]
    steps = [{index for shard in shards for index in shard[step]} for step in range(2)]
    order = list(EpochSampler(7, 4, seed=5))
    assert steps == [set(order[:4]), set(order[4:])]
    assert {len(shard) for shard in shards} == {2}


def test_fillers_are_marked_copies():
    rows = [{"key": "a"}, {"key": "b"}]
    padded = PaddedRows(rows, EpochSampler(2, 4, seed=None))
    assert len(padded) == 2
    assert padded[1] == {"key": "b"}
    assert padded[3] == {"key": "a", FILLER: True}
