# SPDX-License-Identifier: Apache-2.0
"""LoRA with less memory traffic: scaled where it is `r` wide, and added in place.

PEFT computes `W x + (B A x) s`: behind two products that cost next to nothing it goes three times over tensors as wide
as the layer, for each layer in forward, in the recomputation of checkpoints and in backward. `W x += B (s A x)` in one
product that adds is the same, to rounding, and goes over them once.
"""

from __future__ import annotations

from typing import Any

from peft.tuners.lora.layer import Linear, LoraLayer, LoraVariant
from torch import Tensor, nn


class NarrowScaling(LoraVariant):
    """Plain LoRA of a linear layer as PEFT's own variants are written."""

    @staticmethod
    def init(module: LoraLayer, adapter_name: str, **kwargs: Any) -> None:
        """Nothing has to be made."""

    @staticmethod
    def merge_safe(module: LoraLayer, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """The merged weight; the old one stays."""
        return orig_weight + _delta(module, active_adapter, orig_weight)

    @staticmethod
    def merge_unsafe(module: LoraLayer, active_adapter: str, orig_weight: Tensor) -> None:
        """Merges into the weight."""
        orig_weight.data += _delta(module, active_adapter, orig_weight)

    @staticmethod
    def unmerge(module: LoraLayer, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """The weight without the adapter."""
        return orig_weight - _delta(module, active_adapter, orig_weight)

    @staticmethod
    def forward(module: LoraLayer, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any) -> Tensor:
        """Adds the adapter's part to what the layer gives, in place: backward of a product does not need it.

        Args:
            module: the layer.
            active_adapter: its adapter.
            x: [..., in].
            result: [..., out], the frozen layer's output.
            kwargs: nothing that concerns plain LoRA.
        """
        narrow = module.lora_A[active_adapter](x) * module.scaling[active_adapter]
        widen: Any = module.lora_B[active_adapter]
        if not result.dtype == narrow.dtype == widen.weight.dtype:  # autocast, which casts modules' inputs
            wide: Tensor = widen(narrow)
            return result.add_(wide)
        if result.dim() == 2:
            return result.addmm_(narrow, widen.weight.t())
        if result.dim() == 3:  # no view of the output: adding in place to a view copies gradients
            return result.baddbmm_(narrow, widen.weight.t().expand(len(result), -1, -1))
        return result.add_(widen(narrow))


def scale_narrowly(model: nn.Module) -> int:
    """Lets all plain LoRA adapters on plain linear layers compute this way; others stay as they are.

    Left alone are quantised and other special layers, adapters with dropout or biases, and variants such as DoRA. Not
    for models that are sharded layer by layer (ZeRO-3, FSDP): what hooks around layers return takes no adding to.

    Returns:
        the number of adapters concerned.
    """
    found = 0
    for layer in model.modules():
        if type(layer) is not Linear or type(layer.base_layer) is not nn.Linear:
            continue
        for name in layer.lora_A:
            dropout = layer.lora_dropout[name]
            idle = isinstance(dropout, nn.Identity) or (isinstance(dropout, nn.Dropout) and dropout.p == 0)
            if idle and layer.lora_B[name].bias is None and name not in layer.lora_variant:
                layer.lora_variant[name] = NarrowScaling()
                found += 1
    return found


def _delta(module: Any, adapter: str, like: Tensor) -> Tensor:
    delta: Tensor = module.get_delta_weight(adapter).to(like.dtype)
    return delta
