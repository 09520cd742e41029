# SPDX-License-Identifier: Apache-2.0
"""`attn: xformers` gives what sdpa gives.

xformers has no operator for the CPU. There, a plain softmax stands in for the operator, which tests masks, biases and
heads; the operator itself is tested where CUDA and xformers are.
"""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from llamafactory_mmself.stages.reflection_sft.attention import (
    AttentionError,
    additive_bias,
    use_xformers,
    xformers_attention,
)


class LowerTriangularMask:
    """As in xformers: the first query sees the first key only."""


def plain_attention(query, key, value, attn_bias=None, p=0.0, scale=None):
    """What xformers documents: [batch, tokens, heads, head size]; strict about shapes, types and strides."""
    assert query.dtype == key.dtype == value.dtype and query.shape[2:] == key.shape[2:] == value.shape[2:]
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if isinstance(attn_bias, LowerTriangularMask):
        scores = scores + torch.full_like(scores, float("-inf")).triu(1)
    elif attn_bias is not None:
        assert attn_bias.shape == scores.shape and attn_bias.dtype == query.dtype
        assert attn_bias.stride(-1) == 1 and attn_bias.stride(-2) % 8 == 0
        scores = scores + attn_bias
    return torch.einsum("bhqk,bkhd->bqhd", torch.nn.functional.dropout(scores.softmax(-1), p), value)


@pytest.fixture
def stand_in(monkeypatch):
    """A module in the place of xformers."""
    package, ops = ModuleType("xformers"), ModuleType("xformers.ops")
    ops.memory_efficient_attention, ops.LowerTriangularMask = plain_attention, LowerTriangularMask
    package.ops = ops
    monkeypatch.setitem(sys.modules, "xformers", package)
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)


class Layer(nn.Module):
    """What an attention function reads of its layer."""

    def __init__(self, causal: bool, groups: int) -> None:
        super().__init__()
        self.is_causal, self.num_key_value_groups = causal, groups


def inputs(queries=7, keys=7, heads=4, key_heads=2, dtype=torch.float32, device="cpu"):
    torch.manual_seed(0)
    query = torch.randn(2, heads, queries, 16, dtype=dtype, device=device, requires_grad=True)
    key, value = (
        torch.randn(2, key_heads, keys, 16, dtype=dtype, device=device, requires_grad=True) for _ in range(2)
    )
    return query, key, value


def masks(tokens=7):
    """Name -> mask [2, 1, tokens, tokens], True where a query may look; every query sees something."""
    causal = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    padded = causal.repeat(2, 1, 1, 1)
    padded[1, :, :, 5:] = False
    document = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    packed = (causal & (document[:, None] == document[None])).repeat(2, 1, 1, 1)
    return {"none": None, "padding": padded, "packed": packed}


def same(first, second, tensors, atol=1e-6):
    """Outputs and gradients."""
    assert torch.allclose(first, second, atol=atol)
    for one, other in zip(
        torch.autograd.grad(first.float().square().sum(), tensors),
        torch.autograd.grad(second.float().square().sum(), tensors),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=10 * atol)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", ["none", "padding", "packed"])
@pytest.mark.parametrize("additive", [False, True])
def test_masks_and_grouped_heads(stand_in, causal, groups, kind, additive):
    tensors = inputs(key_heads=4 // groups)
    mask = masks()[kind]
    if additive and mask is not None:  # as LLaMA-Factory's neat packing makes them
        mask = torch.where(mask, 0.0, torch.finfo(torch.float32).min)
    layer = Layer(causal, groups)
    same(xformers_attention(layer, *tensors, mask)[0], sdpa_attention_forward(layer, *tensors, mask)[0], tensors)


def test_decoding_with_a_cache(stand_in):
    layer = Layer(True, 2)
    tensors = inputs(queries=1, keys=9)
    same(xformers_attention(layer, *tensors, None)[0], sdpa_attention_forward(layer, *tensors, None)[0], tensors)


def test_rows_that_may_look_nowhere_give_numbers():
    mask = torch.zeros(2, 1, 7, 7, dtype=torch.bool)
    bias = additive_bias(mask, inputs()[0].to(torch.bfloat16), 7)
    assert bias.shape == (2, 4, 7, 7) and torch.isfinite(bias).all()
    assert bias.stride(-2) == 8


def test_scores_that_the_operator_cannot_make_are_refused(stand_in):
    with pytest.raises(AttentionError, match="softcap"):
        xformers_attention(Layer(True, 2), *inputs(), None, softcap=30.0)


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "qwen2_5_vl", "mllama"])
def test_whole_models(stand_in, tiny_models, family):
    """Two rows, one padded, towers included: the logits are sdpa's."""
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = tiny_models(family)
    processor = AutoProcessor.from_pretrained(folder)
    content = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
    long = [{"type": "image"}, {"type": "text", "text": "What is in the picture, row by row?"}]
    texts = [
        processor.apply_chat_template([{"role": "user", "content": part}], tokenize=False) for part in (content, long)
    ]
    pictures = [[Image.new("RGB", (56, 56), colour)] for colour in ("red", "blue")]
    batch = processor(images=pictures, text=texts, padding=True, return_tensors="pt")
    model = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="sdpa").eval()
    with torch.no_grad():
        expected = model(**batch).logits
        use_xformers(model)
        counted = SimpleNamespace(calls=0)
        found = AttentionInterface()["xformers"]

        def counting(*args, **kwargs):
            counted.calls += 1
            return found(*args, **kwargs)

        AttentionInterface.register("xformers", counting)
        actual = model(**batch).logits
    kept = batch["attention_mask"].bool()
    assert counted.calls > 0
    assert torch.allclose(actual[kept], expected[kept], atol=1e-4)


@pytest.mark.parametrize("dtype, atol", [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", ["none", "padding", "packed"])
def test_the_operator_on_a_gpu(dtype, atol, groups, kind):
    if not torch.cuda.is_available():
        pytest.skip("xformers has operators for CUDA devices only, and there is none here")
    pytest.importorskip("xformers", reason="needs the extra `xformers`")
    tensors = inputs(key_heads=4 // groups, dtype=dtype, device="cuda")
    mask = masks()[kind]
    mask = None if mask is None else mask.cuda()
    layer = Layer(True, groups)
    ours, theirs = xformers_attention(layer, *tensors, mask)[0], sdpa_attention_forward(layer, *tensors, mask)[0]
    same(ours, theirs, tensors, atol=atol)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("kind", ["none", "padding", "packed"])
def test_the_operator_would_take_our_inputs(monkeypatch, kind, dtype):
    """xformers checks shapes and biases itself; on the CPU the device is all that its operator objects to."""
    fmha = pytest.importorskip("xformers.ops.fmha", reason="needs the extra `xformers`")
    import xformers.ops

    reasons = []

    def checked(query, key, value, attn_bias=None, p=0.0, scale=None):
        given = fmha.Inputs(query=query, key=key, value=value, attn_bias=attn_bias, p=p, scale=scale)
        given.validate_inputs()
        reasons.extend(fmha.cutlass.FwOp.not_supported_reasons(given))
        reasons.extend(fmha.cutlass.BwOp.not_supported_reasons(given))
        return query

    monkeypatch.setattr(xformers.ops, "memory_efficient_attention", checked)
    xformers_attention(Layer(True, 2), *inputs(dtype=dtype), masks()[kind])
    assert {reason.split("=")[0] for reason in reasons} == {"device"}
