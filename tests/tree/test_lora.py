# SPDX-License-Identifier: Apache-2.0
"""LoRA that scales narrowly is LoRA."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils.checkpoint import checkpoint

from llamafactory_mmself.tree.lora import scale_narrowly


class Two(nn.Module):
    """Two layers, checkpointed or not."""

    def __init__(self, how=None):
        super().__init__()
        self.one, self.two = nn.Linear(6, 10), nn.Linear(10, 4)
        self.how = how

    def forward(self, x):
        def run(states):
            return self.two(torch.relu(self.one(states)))

        return run(x) if self.how is None else checkpoint(run, x, use_reentrant=self.how == "reentrant")


def adapted(how=None, **config):
    """A model with an adapter that does something, in float64."""
    torch.manual_seed(0)
    model = get_peft_model(Two(how), LoraConfig(r=2, lora_alpha=6, target_modules=["one", "two"], **config)).double()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)], ids=str)
@pytest.mark.parametrize("how", [None, "reentrant", "plain"])
def test_outputs_and_gradients_stay(how, shape):
    plain = adapted(how)
    narrow = copy.deepcopy(plain)
    assert scale_narrowly(narrow) == 2
    x = torch.randn(*shape, 6, dtype=torch.float64, requires_grad=True)
    outputs, gradients = [], []
    for model in (plain, narrow):
        output = model(x)
        gradients.append(torch.autograd.grad((output**2).sum(), x) if how != "reentrant" else ())
        (model(x) ** 2).sum().backward()
        outputs.append(output)
        gradients[-1] += tuple(p.grad for p in model.parameters() if p.grad is not None)
    torch.testing.assert_close(outputs[0], outputs[1])
    assert len(gradients[0]) == len(gradients[1]) > 3
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_switched_off_and_merged():
    plain = adapted()
    narrow = copy.deepcopy(plain)
    scale_narrowly(narrow)
    x = torch.randn(5, 6, dtype=torch.float64)
    with plain.disable_adapter(), narrow.disable_adapter():
        assert torch.equal(plain(x), narrow(x))
    before = narrow(x)
    for safe in (False, True):
        narrow.merge_adapter(safe_merge=safe)
        torch.testing.assert_close(narrow(x), before)
        narrow.unmerge_adapter()
        torch.testing.assert_close(narrow(x), before)
    torch.testing.assert_close(narrow.merge_and_unload()(x), plain.merge_and_unload()(x))


@pytest.mark.parametrize("config", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_others_are_left_alone(config):
    assert scale_narrowly(adapted(**config)) == 0


def test_mixed_precision():
    model = adapted().float()
    wanted = copy.deepcopy(model)
    scale_narrowly(model)
    x = torch.randn(5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(x), wanted(x), atol=0.05, rtol=0.02)
    half = copy.deepcopy(wanted)
    for layer in (half.base_model.model.one, half.base_model.model.two):
        layer.base_layer.to(torch.bfloat16)
    same = copy.deepcopy(half)
    scale_narrowly(half)
    assert half(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(half(x.bfloat16()), same(x.bfloat16()), atol=0.05, rtol=0.02)
