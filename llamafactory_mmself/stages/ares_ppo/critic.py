# SPDX-License-Identifier: Apache-2.0
"""The critic: a head on the policy's trunk, trained with it, saved beside it, and warmed up before it counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...generate.seeds import derived_seed
from ...tree.actor_critic import VALUE_HEAD, ValueHead
from ..checkpoints import CheckpointError


FILE = "value_head.safetensors"

#: States, returns and weights of a warm-up's batch.
Batch = tuple[Tensor, Tensor, Tensor]


def attach_critic(bare: Any, seed: int) -> None:
    """Makes a new critic's head part of the model.

    Args:
        bare: the bare transformers model.
        seed: of its weights, whatever chance did before.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "critic"))
        head = ValueHead(bare.config.get_text_config().hidden_size)
    bare.add_module(VALUE_HEAD, head.to(bare.get_output_embeddings().weight.device))


def critic_of(bare: Any) -> ValueHead | None:
    """The model's critic, or None."""
    head: ValueHead | None = bare._modules.get(VALUE_HEAD)
    return head


@contextmanager
def critic_apart(bare: Any) -> Iterator[None]:
    """The model without its critic's head, as it is saved and loaded."""
    head = bare._modules.pop(VALUE_HEAD, None)
    try:
        yield
    finally:
        if head is not None:
            bare._modules[VALUE_HEAD] = head


def without_critic(state: Mapping[str, Tensor] | None) -> dict[str, Tensor] | None:
    """Weights without those of the critic."""
    if state is None:
        return None
    return {name: tensor for name, tensor in state.items() if VALUE_HEAD not in name.split(".")}


def save_critic(bare: Any, folder: Path) -> None:
    """Writes the critic's weights, if there is one."""
    head = critic_of(bare)
    if head is not None:
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}
        save_file(weights, folder / FILE)


def load_critic(bare: Any, folder: Path) -> None:
    """Loads the critic's weights, if the model has one.

    Raises:
        CheckpointError: the folder has none.
    """
    head = critic_of(bare)
    if head is None:
        return
    if not (folder / FILE).exists():
        raise CheckpointError(f"The checkpoint {folder} lacks {FILE}, the critic's weights.")
    head.load_state_dict(load_file(folder / FILE))


def warm_up(
    head: ValueHead,
    steps: Callable[[], Iterator[Iterator[Batch]]],
    *,
    epochs: int,
    learning_rate: float,
    reduce: Callable[[Tensor], Tensor],
) -> list[float]:
    """Trains the head alone on states that stay as they are, by Adam on the squared error of returns.

    Args:
        head: of the critic.
        steps: gives an epoch's steps, each of some batches: states [s, hidden], returns [s] and weights [s]. All
            ranks give equally many.
        epochs: passes.
        learning_rate: of Adam.
        reduce: sums a tensor over ranks.

    Returns:
        the mean squared error of each epoch.
    """
    parameters = list(head.parameters())
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    losses = []
    for _ in range(epochs):
        total = count = 0.0
        for batches in steps():
            facts = torch.zeros(2, device=parameters[0].device)
            sums = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
            for states, returns, weights in batches:
                with torch.enable_grad():
                    error = ((head(states).float() - returns) ** 2 * weights).sum()
                    for gathered, gradient in zip(sums, torch.autograd.grad(error, parameters), strict=True):
                        gathered += gradient
                facts += torch.stack([error.detach(), weights.sum()])
            facts = reduce(facts)
            for parameter, gathered in zip(parameters, sums, strict=True):
                parameter.grad = (reduce(gathered) / facts[1].clamp(min=1)).to(parameter.dtype)
            optimizer.step()
            optimizer.zero_grad()
            total, count = total + facts[0].item(), count + facts[1].item()
        losses.append(total / max(count, 1.0))
    return losses
