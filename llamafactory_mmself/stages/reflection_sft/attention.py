# SPDX-License-Identifier: Apache-2.0
"""Memory-efficient attention of xformers, as an attention implementation of transformers.

xformers has operators for CUDA devices only. On other devices this module can be tested with another function in the
place of `xformers.ops.memory_efficient_attention`; the operator itself is tested where a GPU is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask


NAME = "xformers"

#: xformers reads biases in rows that start at multiples of this many elements.
_ALIGNMENT = 8

#: Arguments by which some models change the scores; the operator cannot.
_UNSUPPORTED = ("softcap", "s_aux", "position_bias")


class AttentionError(ValueError):
    """A model whose attention xformers cannot compute."""


def register() -> None:
    """Makes `xformers` a name that `set_attn_implementation` takes; masks are made as for sdpa."""
    AttentionInterface.register(NAME, xformers_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def use_xformers(model: PreTrainedModel) -> None:
    """Switches all parts of a transformers model, towers included, to xformers.

    Raises:
        AttentionError: if a part of the model cannot be switched.
    """
    register()
    model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:
        raise AttentionError(
            f"attn: xformers: models of type `{model.config.model_type}` do not let their attention be chosen; "
            "remove `attn`."
        )


def xformers_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attention in the form that transformers calls.

    Args:
        module: the attention layer; `num_key_value_groups` and `is_causal` are read from it.
        query: [batch, heads, queries, head size].
        key: [batch, key heads, keys, head size]; key heads divide heads.
        value: as `key`.
        attention_mask: [batch, 1 or heads, queries, keys], True (or 0) where a query may look, False (or a very small
            number) where not; None for causal or unmasked attention.
        dropout: probability.
        scaling: of the scores; None is the head size to the power of -1/2.
        is_causal: whether queries look back only, where there is no mask; None asks the module.
        kwargs: of other implementations.

    Returns:
        [batch, queries, heads, head size], and None for the weights, which are never there.

    Raises:
        AttentionError: for models that change the scores in a way that the operator cannot.
    """
    from xformers.ops import LowerTriangularMask, memory_efficient_attention

    for name in _UNSUPPORTED:
        if kwargs.get(name) is not None:
            raise AttentionError(f"attn: xformers cannot compute attention with `{name}`, which this model has.")
    causal = vars(module).get("is_causal", True) if is_causal is None else is_causal
    groups = query.shape[1] // key.shape[1]
    bias: object = None
    if attention_mask is not None:
        bias = additive_bias(attention_mask, query, key.shape[2])
    elif causal and query.shape[2] > 1:
        bias = LowerTriangularMask()
    output = memory_efficient_attention(
        query.transpose(1, 2),
        key.repeat_interleave(groups, dim=1).transpose(1, 2).to(query.dtype),
        value.repeat_interleave(groups, dim=1).transpose(1, 2).to(query.dtype),
        attn_bias=bias,
        p=dropout,
        scale=scaling,
    )
    return output.contiguous(), None


def additive_bias(mask: Tensor, query: Tensor, keys: int) -> Tensor:
    """What is added to the scores for a mask.

    Args:
        mask: see `xformers_attention`; longer than `keys` where the cache is.
        query: [batch, heads, queries, head size], for shape and type.
        keys: number of keys.

    Returns:
        [batch, heads, queries, keys], with rows in memory at the multiples that the operator needs. Padding queries,
        which may look nowhere, get the same finite number everywhere, so that no NaN arises.
    """
    mask = mask[..., :keys]
    smallest = torch.finfo(query.dtype).min
    room = -(-keys // _ALIGNMENT) * _ALIGNMENT
    bias = torch.zeros((*mask.shape[:-1], room), dtype=query.dtype, device=query.device)[..., :keys]
    if mask.dtype == torch.bool:
        bias.masked_fill_(~mask, smallest)
    else:
        bias.copy_(mask.clamp(min=smallest))
    return bias.expand(query.shape[0], query.shape[1], query.shape[2], keys)
