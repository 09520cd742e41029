# SPDX-License-Identifier: Apache-2.0
"""What the last layer leaves out is read by nobody: log-probs and gradients are those of the whole layer."""

import copy
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from llamafactory_mmself.tree import dense
from llamafactory_mmself.tree.dense import DenseScorer
from llamafactory_mmself.tree.keeping import layers_to_keep
from llamafactory_mmself.tree.last_layer import last_layer, thrifty_last_layers
from tests.tree.conftest import cast
from tests.tree.test_packed import PACKED_FAMILIES, checkpointing, gradients


@pytest.fixture(params=PACKED_FAMILIES)
def known(request, make_lab):
    """Every family whose decoder is known."""
    return make_lab(request.param)


def whole(*args):
    return nullcontext()


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
@pytest.mark.parametrize("reentrant", [None, True, False])
def test_nothing_changes(known, reentrant, monkeypatch):
    model = copy.deepcopy(known.model)
    batch = known.batch(known.trees("orm", "sameBatch"))
    with nullcontext() if reentrant is None else checkpointing(model, reentrant):
        table = DenseScorer()(model, batch)
        found = gradients(model, table)
        monkeypatch.setattr(dense, "thrifty_last_layers", whole)
        expected_table = DenseScorer()(model, batch)
        expected = gradients(model, expected_table)
    for role, scores in expected_table.items():
        assert torch.allclose(scores.logp, table[role].logp, rtol=0, atol=1e-12), role
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-10 * gradient.norm() + 1e-14, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_under_autocast(known, dtype):
    model = copy.deepcopy(known.model).float()
    batch = cast(known.batch(known.trees("dpo")), torch.float32)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        table = DenseScorer()(model, batch)
    assert all(torch.isfinite(scores.logp).all() for scores in table.values())
    assert gradients(model, table)


def test_the_mlp_sees_each_state_that_is_read_once(known):
    """The two answers of a pair start from one state in a packed row; it counts once."""
    model = copy.deepcopy(known.model)
    batch = known.packed(known.trees("dpo"))
    seen = []
    layer = last_layer(model)
    layer.mlp.down_proj.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[:-1].numel()))
    from llamafactory_mmself.tree.packed import PackedScorer

    PackedScorer()(model, batch)
    score = batch["score"]
    pairs = set(zip(score["rows"].tolist(), score["positions"].tolist(), strict=True))
    assert seen == [len(pairs)]
    assert len(pairs) < len(score["rows"]) < batch["input_ids"].numel() / 2


def test_the_last_layer_is_not_computed_again(known):
    model = copy.deepcopy(known.model)
    calls = []
    layers = model.get_decoder().layers
    for number in (0, len(layers) - 1):
        layers[number].self_attn.register_forward_pre_hook(lambda module, inputs, number=number: calls.append(number))
    with checkpointing(model, False):
        gradients(model, DenseScorer(1)(model, known.batch(known.trees("dpo"))))
        assert layers[-1].gradient_checkpointing
        assert calls == [0, len(layers) - 1, 0]
        calls.clear()
        gradients(model, DenseScorer(0)(model, known.batch(known.trees("dpo"))))
        assert sorted(calls) == [0, 0, len(layers) - 1, len(layers) - 1]
        calls.clear()
        gradients(model, DenseScorer(99)(model, known.batch(known.trees("dpo"))))
        assert calls == [0, len(layers) - 1]


def test_what_is_spared_is_what_is_kept():
    """By hand: 10 tokens instead of 20, 4 layers of 8 states and 16 inner ones, 100 words, in fp32."""
    config = SimpleNamespace(
        num_hidden_layers=4,
        hidden_size=8,
        intermediate_size=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=100,
        head_dim=None,
    )
    inside, between, words = 4 * (6 * 8 + 2 * 8 + 2 * 4 + 4 * 16), 4 * 4 * 8, 8 * 100
    room = 20 * (inside + between + words) - 10 * between - 5 * words
    found = layers_to_keep(config, torch.float32, tokens=10, dense_tokens=20, scored=5)
    assert found == min(4, room // (10 * inside)) == 4
    # without words to spare: two layers of half the tokens
    config.vocab_size = 0
    assert layers_to_keep(config, torch.float32, tokens=10, dense_tokens=20, scored=5) == 2
    assert layers_to_keep(config, torch.float32, tokens=20, dense_tokens=20, scored=5) == 1
    # and where there is little room, what fits; the last layer's is always kept
    config.vocab_size = 100
    for layers, room in ((3, 3 * 10 * inside), (1, 0), (1, -1)):
        assert layers_to_keep(config, torch.float32, tokens=10, dense_tokens=20, scored=5, room=room) == layers


def test_everything_is_put_back(known):
    layer = last_layer(known.model)
    rows = positions = torch.zeros(1, dtype=torch.long)
    with pytest.raises(KeyError), thrifty_last_layers(known.model, rows, positions):
        assert "forward" in vars(layer.mlp)
        raise KeyError
    assert "forward" not in vars(layer.mlp)
    layer.mlp.forward = patched = layer.mlp.forward
    with thrifty_last_layers(known.model, rows, positions):
        assert layer.mlp.forward is not patched
    assert layer.mlp.forward is patched
    del layer.mlp.forward


def test_other_decoders_stay_as_they_are(make_lab):
    assert last_layer(make_lab("mllama").model) is None
    model = copy.deepcopy(make_lab("llava").model)

    class Mixing(torch.nn.Module):
        """An MLP of somebody else's, which may look at other tokens."""

    model.get_decoder().layers[-1].mlp = Mixing()
    assert last_layer(model) is None
