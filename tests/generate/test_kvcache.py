# SPDX-License-Identifier: Apache-2.0
"""The cache with room holds what the cache without holds, whatever happens to its rows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, MistralConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from llamafactory_mmself.generate.kvcache import ROOM, RoomyLayer, roomy_cache


def states(rows: int, tokens: int) -> torch.Tensor:
    return torch.randn(rows, 2, tokens, 4)


actions = st.one_of(
    st.tuples(st.just("read"), st.sampled_from([1, 1, 1, 2, 70, ROOM + 3])),
    st.tuples(st.just("repeat"), st.integers(1, 2)),
    st.tuples(st.just("drop"), st.just(0)),
    st.tuples(st.just("crop"), st.integers(1, 3)),
)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.lists(actions, max_size=12))
def test_it_holds_what_the_plain_layer_holds(prompt, steps):
    torch.manual_seed(0)
    plain, roomy, rows = DynamicLayer(), RoomyLayer(), 3
    for action, number in [("read", prompt), *steps]:
        if action == "read":
            keys, values = states(rows, number), states(rows, number)
            for one, other in zip(roomy.update(keys, values), plain.update(keys, values), strict=True):
                assert torch.equal(one, other)
        elif action == "crop":
            for layer in (plain, roomy):
                layer.crop(max(1, layer.get_seq_length() - number))
        elif action == "repeat":
            for layer in (plain, roomy):
                layer.batch_repeat_interleave(number)
            rows *= number
        elif rows > 1:
            rows -= 1
            for layer in (plain, roomy):
                layer.batch_select_indices(torch.arange(rows) + 1)
        assert torch.equal(plain.keys, roomy.keys)
        assert torch.equal(plain.values, roomy.values)
        assert plain.get_mask_sizes(1) == roomy.get_mask_sizes(1)


def test_new_tokens_are_written_into_the_room():
    layer = RoomyLayer()
    layer.update(states(2, 5), states(2, 5))
    first, _ = layer.update(states(2, 1), states(2, 1))
    for _ in range(ROOM):
        keys, _ = layer.update(states(2, 1), states(2, 1))
        assert keys.data_ptr() == first.data_ptr()
    keys, _ = layer.update(states(2, 1), states(2, 1))
    assert keys.data_ptr() != first.data_ptr()
    assert torch.equal(keys[..., :5, :], first[..., :5, :])


@pytest.mark.parametrize(
    ("config", "kinds"),
    [
        (LlamaConfig(num_hidden_layers=2), {RoomyLayer}),
        (MistralConfig(num_hidden_layers=2, sliding_window=8), {DynamicSlidingWindowLayer}),
    ],
)
def test_layers_that_hold_less_than_all_tokens_stay_as_they_are(config, kinds):
    assert {type(layer) for layer in roomy_cache(config).layers} == kinds
