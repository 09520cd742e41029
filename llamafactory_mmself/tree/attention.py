# SPDX-License-Identifier: Apache-2.0
"""Attention within a packed tree: a token sees its ancestors and what stands before it in its own node.

Nodes lie in preorder, so the subtree of a node is one run of tokens, and who sees a token is said by one number: the
place where the subtree of its node ends. Token k is seen by the tokens k <= q < end[k]. A padding token ends right
after itself: it sees itself alone, which keeps its softmax finite, and nothing else sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask


SDPA = "sdpa"
FLEX = "flex_attention"

#: Attention implementations of transformers that take a tree's mask.
TREE_ATTENTION = (SDPA, FLEX)


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
    return create_block_mask(tree_rule(ends), count, None, length, length, device=str(ends.device))


def attention_input(bare: Any, ends: Tensor) -> Tensor | BlockMask:
    """What the model takes as `attention_mask`, in the form that its attention reads.

    Raises:
        RuntimeError: if the model runs another attention, which would misread the mask.
    """
    implementation = text_attention(bare)
    if implementation not in TREE_ATTENTION:
        raise RuntimeError(f"Packed trees need one of {', '.join(TREE_ATTENTION)}; the model runs {implementation}.")
    return block_mask(ends) if implementation == FLEX else tree_mask(ends)


def text_attention(bare: Any) -> str:
    """The attention implementation of a model's decoder."""
    name: str = bare.get_decoder().config._attn_implementation
    return name


def set_text_attention(bare: Any, implementation: str) -> None:
    """Switches the decoder to another attention; the vision tower keeps its own."""
    if text_attention(bare) != implementation:
        bare.get_decoder().set_attn_implementation(implementation)


def fastest_attention(device: torch.device) -> str:
    """FlexAttention on GPUs that compile it, SDPA elsewhere."""
    ampere = (8, 0)
    return FLEX if device.type == "cuda" and torch.cuda.get_device_capability(device) >= ampere else SDPA
