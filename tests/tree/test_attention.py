# SPDX-License-Identifier: Apache-2.0
"""The tree's mask in the forms that attention kernels take."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llamafactory_mmself.tree import attention
from llamafactory_mmself.tree.attention import FLEX, SDPA, flex_failure, set_text_attention, tree_mask, tree_rule
from llamafactory_mmself.tree.packed import PackedCollator, PackedScorer


@given(st.lists(st.lists(st.integers(1, 12), min_size=12, max_size=12), min_size=1, max_size=3))
def test_the_rule_of_flex_attention_is_the_mask(ends):
    ends = torch.tensor(ends)
    samples, places = torch.arange(len(ends)), torch.arange(ends.shape[1])
    rule = tree_rule(ends)(samples[:, None, None], torch.tensor(0), places[None, :, None], places[None, None, :])
    assert torch.equal(rule, tree_mask(ends)[:, 0])


def test_a_mask_is_refused_by_attention_that_would_misread_it(make_lab):
    model = copy.deepcopy(make_lab("llava").model)
    set_text_attention(model, "eager")
    with pytest.raises(RuntimeError, match="the model runs eager"):
        attention.attention_input(model, torch.tensor([[2, 2]]))


def test_a_device_without_a_kernel_says_so():
    """FlexAttention has no backward on CPUs; the check finds out by trying."""
    assert "does not support backward on CPU" in flex_failure(torch.device("cpu"))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava"])
def test_flex_attention_scores_like_sdpa(make_lab, family, monkeypatch):
    """Forward only, and not compiled: what torch 2.11 generates for CPUs mixes up the names of ten sizes and more.

    No run attends so on a CPU; on a GPU `flex_failure` tries the compiled kernel. Dense batches go through SDPA.
    """
    monkeypatch.setattr(attention, "_compiled_flex", lambda: attention.flex_attention)
    lab = make_lab(family)
    model = copy.deepcopy(lab.model).float()
    for trees in (lab.trees("orm"), lab.trees("dpo"), lab.trees("svco-ref", "sameBatch")):
        for collate in (PackedCollator(lab.collate), lab.collate):
            found = {}
            for name in (SDPA, FLEX):
                set_text_attention(model, name)
                with torch.no_grad():
                    found[name] = PackedScorer()(model, collate(trees))
            for role, scores in found[SDPA].items():
                assert torch.allclose(scores.logp, found[FLEX][role].logp, rtol=0, atol=1e-4), role
    assert FLEX not in model.config.to_json_string()
