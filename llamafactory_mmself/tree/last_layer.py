# SPDX-License-Identifier: Apache-2.0
"""What the last decoder layers need not compute, once or twice.

Behind its attention nothing of the last layer looks at another token, and only the states before scored tokens are
read. So its MLP leaves out all others: prompt, picture and padding. And it is not checkpointed, like other layers for
whose activations there is room (`keeping`): they are the first that backward needs, so that throwing them away would
have them computed again at once. They are held through the head, beside a chunk of logits, until backward has gone
through the layers: time is spared for that much memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel


#: Decoders whose layers end with `x + mlp(norm(x))`, token by token.
KNOWN = frozenset({"llama", "mistral", "qwen2", "qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text"})
#: Where such layers and MLPs are defined. Others may be computed again in backward, or mix tokens.
OWN = ("transformers.models.",)
POINTWISE = (*OWN, "liger_kernel.")


@contextmanager
def thrifty_last_layers(bare: Any, rows: Tensor, positions: Tensor, kept: int = 1) -> Iterator[None]:
    """Spares the last layers what the head will not read, and a second forward, while the context is open.

    Other decoders stay as they are.

    Args:
        bare: the bare transformers model.
        rows: [s], rows of the states that the head reads.
        positions: [s], their positions.
        kept: layers, from the last one up, that are not checkpointed; with 0 nothing is spared.
    """
    layer = last_layer(bare)
    if layer is None or kept < 1:  # a layer that is computed again has to be the same then
        yield
        return
    mlp: nn.Module = layer.mlp
    dense: Callable[[Tensor], Tensor] = mlp.forward
    own = "forward" in vars(mlp)
    last = [_unwrapped(one) for one in bare.get_decoder().layers[-kept:]]
    checkpointed = [one.gradient_checkpointing for one in last]

    def forward(states: Tensor) -> Tensor:
        flat = states.flatten(0, 1)
        # Each state once: two answers that begin after the same token are predicted from one state.
        places = torch.unique(rows * states.shape[1] + positions)
        read = dense(flat[places].unsqueeze(0)).squeeze(0)
        return read.new_zeros(flat.shape).index_copy(0, places, read).view_as(states)

    mlp.forward = forward
    for one in last:
        one.gradient_checkpointing = False
    try:
        yield
    finally:
        for one, before in zip(last, checkpointed, strict=True):
            one.gradient_checkpointing = before
        if own:
            mlp.forward = dense
        else:
            del mlp.forward


def last_layer(bare: Any) -> Any | None:
    """The last layer of a known decoder with transformers' own code, else None."""
    if bare.config.get_text_config().model_type not in KNOWN:
        return None
    layer = _unwrapped(bare.get_decoder().layers[-1])
    return layer if _is_one_of(layer, OWN) and _is_one_of(layer.mlp, POINTWISE) else None


def _unwrapped(layer: Any) -> Any:
    return layer.module if isinstance(layer, FullyShardedDataParallel) else layer


def _is_one_of(module: nn.Module, packages: tuple[str, ...]) -> bool:
    """Whether a module, or what FSDP made it from, is defined in one of some packages."""
    return any(kind.__module__.startswith(packages) for kind in type(module).__mro__)
