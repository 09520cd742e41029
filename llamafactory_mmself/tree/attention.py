# SPDX-License-Identifier: Apache-2.0
"""Attention within a packed tree: a token sees its ancestors and what stands before it in its own node.

Nodes lie in preorder, so the subtree of a node is one run of tokens, and who sees a token is said by one number: the
place where the subtree of its node ends. Token k is seen by the tokens k <= q < end[k]. A padding token ends right
after itself: it sees itself alone, which keeps its softmax finite, and nothing else sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .node_attention import TreeNodes, node_forward


SDPA = "sdpa"
#: Our own implementation: FlexAttention for packed batches, SDPA for dense ones.
FLEX = "flex_tree"
#: Our own: SDPA node by node for packed batches, SDPA for dense ones.
NODES = "node_tree"

#: Attention implementations that take a tree.
TREE_ATTENTION = (SDPA, FLEX, NODES)
#: Those of them that leave out what the tree hides.
SKIPPING = (FLEX, NODES)


def tree_mask(ends: Tensor) -> Tensor:
    """Which key each query sees, as a boolean mask [n, 1, t, t] for SDPA.

    Args:
        ends: [n, t], where the subtree of each token's node ends.
    """
    places = torch.arange(ends.shape[-1], device=ends.device)
    query, key = places[:, None], places[None, :]
    return ((key <= query) & (query < ends[:, None, :])).unsqueeze(1)


def tree_rule(ends: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The same mask as a rule for FlexAttention: (sample, head, query, key) -> whether the query sees the key."""

    def sees(sample: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < ends[sample, key])

    return sees


def block_mask(ends: Tensor) -> BlockMask:
    """The mask for FlexAttention, which leaves out blocks of tokens that do not see each other."""
    count, length = ends.shape
    return create_block_mask(tree_rule(ends), count, None, length, length, device=ends.device)


@cache
def _compiled_flex() -> Callable[..., Tensor]:
    """Compiled once, for all lengths; without compilation it would be as large as a whole square of scores."""
    function: Callable[..., Any] = flex_attention
    return torch.compile(function, dynamic=True)


def flex_tree_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | BlockMask | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """An attention function for transformers; see `transformers.AttentionInterface`."""
    if not isinstance(attention_mask, BlockMask):
        output: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return output
    shared = query.shape[1] // key.shape[1]
    if shared & (shared - 1):  # the kernel shares keys among a power of two of queries
        key, value = repeat_kv(key, shared), repeat_kv(value, shared)
    states = _compiled_flex()(
        query.to(value.dtype),  # under autocast, rotating has made them fp32
        key.to(value.dtype),
        value,
        block_mask=attention_mask,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return states.transpose(1, 2).contiguous(), None


AttentionInterface.register(FLEX, flex_tree_forward)
AttentionMaskInterface.register(FLEX, sdpa_mask)
AttentionInterface.register(NODES, node_forward)
AttentionMaskInterface.register(NODES, sdpa_mask)


def attention_input(bare: Any, ends: Tensor) -> Tensor | BlockMask:
    """What the model takes as `attention_mask`, in the form that its attention reads.

    Raises:
        RuntimeError: if the model runs another attention, which would misread the mask.
    """
    implementation = text_attention(bare)
    if implementation not in TREE_ATTENTION:
        raise RuntimeError(f"Packed trees need one of {', '.join(TREE_ATTENTION)}; the model runs {implementation}.")
    if implementation == NODES:
        return TreeNodes.of(ends)
    return block_mask(ends) if implementation == FLEX else tree_mask(ends)


def text_attention(bare: Any) -> str:
    """The attention implementation of a model's decoder."""
    name: str = bare.get_decoder().config._attn_implementation
    return name


def set_text_attention(bare: Any, implementation: str) -> None:
    """Switches the decoder to another attention; the vision tower keeps its own."""
    if text_attention(bare) != implementation:
        bare.get_decoder().set_attn_implementation(implementation)


def flex_failure(device: torch.device) -> str | None:
    """Why FlexAttention is no choice on a device, or None: it is compiled, run, and compared with SDPA.

    Outputs and gradients count, on a small tree in bf16.
    """
    length = 160
    ends = torch.full((1, length), length, device=device)
    ends[0, 20:60] = 60
    *inputs, gradient = (torch.randn(1, heads, length, 64, device=device).bfloat16() for heads in (4, 2, 2, 4))
    module = nn.Module()
    module.num_key_value_groups = 2  # type: ignore[assignment]

    def run(mask: Tensor | BlockMask) -> list[Tensor]:
        leaves = [item.clone().requires_grad_() for item in inputs]
        query, key, value = leaves
        output, _ = flex_tree_forward(module, query, key, value, mask)
        output.backward(gradient.transpose(1, 2))
        return [output, *(item.grad for item in leaves if item.grad is not None)]

    try:
        pairs = zip(run(tree_mask(ends)), run(block_mask(ends)), strict=True)
    except Exception as error:  # a missing compiler or kernel shows itself in many ways
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    far = [not torch.allclose(one.float(), other.float(), atol=0.05, rtol=0.05) for one, other in pairs]
    return "its results differ from those of SDPA" if any(far) else None
