# SPDX-License-Identifier: Apache-2.0
"""The critic: a head, on the policy's trunk or on an adapter of its own; saved beside the policy, never inside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...generate.seeds import derived_seed
from ...tree.actor_critic import VALUE_HEAD, ValueHead
from ...tree.unwrap import bare_model
from ..checkpoints import CheckpointError


FILE = "value_head.safetensors"

#: Name of the critic's own adapter.
ADAPTER = "critic"

#: States, returns and weights of a batch that a critic is trained on.
Batch = tuple[Tensor, Tensor, Tensor]


def attach_critic(model: nn.Module, seed: int, *, adapter: bool = False) -> None:
    """Makes a new critic part of the model.

    Args:
        model: the policy, not wrapped yet.
        seed: of the critic's weights, whatever chance did before.
        adapter: whether it gets an adapter of its own, made like the policy's. Nothing of such a critic learns from
            the policy's loss, see `critic_speaks`.
    """
    bare = bare_model(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "critic"))
        head = ValueHead(bare.config.get_text_config().hidden_size)
        bare.add_module(VALUE_HEAD, head.to(bare.get_output_embeddings().weight.device))
        if not adapter:
            return
        assert isinstance(model, PeftModel)
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        config = replace(model.active_peft_config, init_lora_weights=True, modules_to_save=None)
        model.add_adapter(ADAPTER, config)
    for parameter in learning:
        parameter.requires_grad_(True)
    for parameter in critic_parameters(model).values():
        parameter.requires_grad_(False)


def critic_of(bare: Any) -> ValueHead | None:
    """The model's critic, or None."""
    head: ValueHead | None = bare._modules.get(VALUE_HEAD)
    return head


def critic_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> parameter of the critic's head and, if it has one, of its adapter; the head's names are its own."""
    head = critic_of(bare_model(model))
    named = {} if head is None else dict(head.named_parameters())
    parts = {name: tensor for name, tensor in model.named_parameters() if ADAPTER in name.split(".")}
    return {**named, **parts}


@contextmanager
def critic_speaks(model: nn.Module) -> Iterator[None]:
    """The model with the critic's adapter in the place of the policy's; nothing but the critic can learn meanwhile.

    Args:
        model: the adapter model, without what wraps it: its parameters are none of those that ranks reduce.
    """
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    spoke = [list(layer.active_adapters) for layer in layers]
    learnt = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    for parameter, _ in learnt:
        parameter.requires_grad_(False)
    for layer in layers:
        layer.set_adapter(ADAPTER)
    for parameter in critic_parameters(model).values():
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for layer, names in zip(layers, spoke, strict=True):
            layer.set_adapter(names)
        for parameter, before in learnt:
            parameter.requires_grad_(before)


@contextmanager
def critic_apart(model: nn.Module) -> Iterator[None]:
    """The model without its critic, as it is saved and loaded."""
    bare = bare_model(model)
    head = bare._modules.pop(VALUE_HEAD, None)
    adapter = model.peft_config.pop(ADAPTER, None) if isinstance(model, PeftModel) else None
    try:
        yield
    finally:
        if head is not None:
            bare._modules[VALUE_HEAD] = head
        if adapter is not None:
            model.peft_config[ADAPTER] = adapter


def without_critic(state: Mapping[str, Tensor] | None) -> dict[str, Tensor] | None:
    """Weights without those of the critic."""
    if state is None:
        return None
    own = {VALUE_HEAD, ADAPTER}
    return {name: tensor for name, tensor in state.items() if not own & set(name.split("."))}


def save_critic(model: nn.Module, folder: Path) -> None:
    """Writes the critic's weights, if there is one."""
    found = critic_parameters(model)
    if found:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}, folder / FILE)


def load_critic(model: nn.Module, folder: Path) -> None:
    """Loads the critic's weights, if the model has one.

    Raises:
        CheckpointError: the folder has none, or those of another kind of critic.
    """
    wanted = critic_parameters(model)
    if not wanted:
        return
    if not (folder / FILE).exists():
        raise CheckpointError(f"The checkpoint {folder} lacks {FILE}, the critic's weights.")
    found = load_file(folder / FILE)
    if found.keys() != wanted.keys():
        raise CheckpointError(f"{folder / FILE} holds another kind of critic: `critic` has to be what it was.")
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(found[name])


def fit(
    head: ValueHead,
    parameters: list[nn.Parameter],
    steps: Callable[[], Iterator[Iterator[Batch]]],
    *,
    epochs: int,
    learning_rate: float,
    reduce: Callable[[Tensor], Tensor],
) -> list[float]:
    """Trains a critic by a new Adam on the squared error of returns.

    Args:
        head: of the critic.
        parameters: what learns: the head's, and those of what made the states where these have a graph.
        steps: gives an epoch's steps, each of some batches: states [s, hidden], returns [s] and weights [s]. All
            ranks give equally many.
        epochs: passes.
        learning_rate: of Adam.
        reduce: sums a tensor over ranks.

    Returns:
        the mean squared error of each epoch.
    """
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    losses = []
    for _ in range(epochs):
        total = count = 0.0
        for batches in steps():
            facts = torch.zeros(2, device=parameters[0].device)
            for states, returns, weights in batches:
                with torch.enable_grad():
                    error = ((head(states).float() - returns) ** 2 * weights).sum()
                _add_gradients(error, parameters, through=states.requires_grad)
                facts += torch.stack([error.detach(), weights.sum()])
            facts = reduce(facts)
            for parameter in parameters:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = (reduce(gradient.float()) / facts[1].clamp(min=1)).to(parameter.dtype)
            optimizer.step()
            optimizer.zero_grad()
            total, count = total + facts[0].item(), count + facts[1].item()
        losses.append(total / max(count, 1.0))
    return losses


def _add_gradients(error: Tensor, parameters: list[nn.Parameter], *, through: bool) -> None:
    """Adds to each `grad`; `backward` where the graph may have reentrant checkpoints, which know nothing else."""
    if through:
        error.backward()  # type: ignore[no-untyped-call]
        return
    for parameter, gradient in zip(parameters, torch.autograd.grad(error, parameters), strict=True):
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
