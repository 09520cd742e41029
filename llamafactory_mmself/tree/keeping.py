# SPDX-License-Identifier: Apache-2.0
"""How many layers keep their activations although the others are checkpointed.

Gradient checkpointing buys memory with a second forward. A step of LLaMA-Factory's own stages holds, at its peak, the
states between the layers, the activations of one layer, and logits and log-probs at all positions of all rows. Packed
rows have fewer tokens, and the head here computes the scored positions only, a chunk at a time: what that spares keeps
activations of as many layers, from the last one up, and they are not computed again. On a GPU no more than half of
what is free is taken for it, so that a run that fits without goes on to fit.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from .head import LOGITS_BUDGET


#: Bytes that logits and their log-softmax take for each entry, in fp32.
_LOGITS = 8
#: Bytes that training may still take for each trainable parameter: a gradient and Adam's two moments, in fp32.
_TRAINED = 12


def layers_to_keep(
    config: Any, dtype: torch.dtype, *, tokens: int, dense_tokens: int, scored: int, room: float = math.inf
) -> int:
    """The number of layers, at least the last one, whose activations fit into what a stock stage would take.

    Args:
        config: of the decoder.
        dtype: of the activations.
        tokens: of the rows, padding included.
        dense_tokens: of the rows that have each answer behind its prompt, padding included.
        scored: positions whose logits are computed.
        room: bytes that activations may take.
    """
    layers, hidden, inner = config.num_hidden_layers, config.hidden_size, config.intermediate_size
    size = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    queries, keys = config.num_attention_heads * size, config.num_key_value_heads * size
    element = torch.finfo(dtype).bits // 8
    between = layers * hidden * element
    # Inputs of both norms, of the projections and of the MLP; queries, keys, values and what they attend to; gate, its
    # activation, the other branch, and their product.
    inside = (6 * hidden + 2 * queries + 2 * keys + 4 * inner) * element
    vocab = _LOGITS * config.vocab_size
    budget = dense_tokens * (between + inside + vocab)
    needed = tokens * between + min(scored * vocab, _LOGITS * LOGITS_BUDGET)
    return max(1, min(layers, int(min(budget - needed, room) // (tokens * inside))))


def room_on(device: torch.device, model: nn.Module) -> float:
    """Half of the bytes that are free on a GPU once gradients and optimizer are there; no limit elsewhere."""
    if device.type != "cuda":
        return math.inf
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return (torch.cuda.mem_get_info(device)[0] + unused - _TRAINED * trained) / 2
