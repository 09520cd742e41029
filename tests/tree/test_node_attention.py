# SPDX-License-Identifier: Apache-2.0
"""Attention node by node is attention under the tree's mask: outputs, gradients, and whole models."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from peft import LoraConfig, get_peft_model
from torch import nn

from llamafactory_mmself.tree.attention import NODES, SDPA, set_text_attention, tree_mask
from llamafactory_mmself.tree.node_attention import Run, TreeNodes, node_forward, runs_of
from llamafactory_mmself.tree.packed import PackedCollator, PackedScorer, PackedTree
from tests.tree.conftest import cast
from tests.tree.test_packed import FORESTS, PACKED_FAMILIES, checkpointing, gradients, tree_of


def padded_ends(segments, padding):
    """Where subtrees end in a drawn tree with padding behind it."""
    ends = PackedTree.of(tree_of(segments)).ends
    return [*ends, *range(len(ends) + 1, len(ends) + padding + 1)]


def test_runs_of_a_small_tree():
    """A prompt, two answers of which the first has two ends, and padding."""
    ends = [10, 10, 8, 5, 5, 8, 8, 8, 10, 10, 11, 12]
    # 0-1 prompt | 2 first answer | 3-4 an end | 5-7 another | 8-9 second answer, the prompt's last child | padding
    assert runs_of(ends) == (
        Run(2),
        Run(1, (0,)),
        Run(2, (0, 1)),
        Run(3, (0, 1)),
        Run(2, (0,)),
        Run(2, alone=True),
    )


@settings(deadline=None, max_examples=50)
@given(FORESTS)
def test_outputs_and_gradients_are_those_of_the_mask(forest):
    rows = [padded_ends(segments, 0) for segments in forest]
    length = max(map(len, rows)) + 2
    ends = torch.tensor([padded_ends(segments, length - len(row)) for segments, row in zip(forest, rows, strict=True)])
    torch.manual_seed(0)
    query, gradient = (torch.randn(len(rows), 4, length, 8, dtype=torch.float64) for _ in range(2))
    key, value = (torch.randn(len(rows), 2, length, 8, dtype=torch.float64) for _ in range(2))

    def run(nodes):
        leaves = [states.clone().requires_grad_() for states in (query, key, value)]
        if nodes:
            output = node_forward(nn.Module(), *leaves, TreeNodes.of(ends), 0.3)[0].transpose(1, 2)
        else:
            output = F.scaled_dot_product_attention(*leaves, tree_mask(ends), scale=0.3, enable_gqa=True)
        output.backward(gradient)
        return [output.detach(), *(leaf.grad for leaf in leaves)]

    for found, expected in zip(run(True), run(False), strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("family", PACKED_FAMILIES)
def test_models_score_alike(make_lab, family, reentrant):
    lab = make_lab(family)
    model = copy.deepcopy(lab.model)
    targets = r".*language_model.*(q_proj|v_proj|up_proj)"
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules=targets, init_lora_weights=False))
    batches = [lab.packed(lab.trees("orm", "sameBatch")), lab.batch(lab.trees("dpo"))]
    found = {}
    with checkpointing(tuned, reentrant):
        for name in (SDPA, NODES):
            set_text_attention(model, name)
            tables = [PackedScorer()(tuned, batch) for batch in batches]
            found[name] = [(table, gradients(tuned, table)) for table in tables]
    for (table, grads), (other, others) in zip(found[SDPA], found[NODES], strict=True):
        for role, scores in table.items():
            assert torch.allclose(scores.logp, other[role].logp, rtol=0, atol=1e-9), role
        assert grads.keys() == others.keys()
        for name, gradient in grads.items():
            assert (others[name] - gradient).norm() <= 1e-6 * gradient.norm() + 1e-12, name
    assert NODES not in model.config.to_json_string()


def test_under_autocast(make_lab):
    lab = make_lab("qwen2_vl")
    model = copy.deepcopy(lab.model).float()
    set_text_attention(model, NODES)
    with torch.autocast("cpu", torch.bfloat16):
        table = PackedScorer()(model, cast(PackedCollator(lab.collate)(lab.trees("orm")), torch.float32))
    assert all(torch.isfinite(scores.logp).all() for scores in table.values())


def test_a_tree_that_was_lost_is_no_mask():
    states = torch.randn(1, 2, 3, 4)
    lost = TreeNodes.of(torch.tensor([[3, 3, 3]])).as_subclass(torch.Tensor).clone()
    with pytest.raises(RuntimeError, match="tree_forward: dense"):
        node_forward(nn.Module(), states, states, states, lost)
