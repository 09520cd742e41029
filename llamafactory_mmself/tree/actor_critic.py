# SPDX-License-Identifier: Apache-2.0
"""Log-probs, entropies and values of the scored tokens, from one forward of the wrapped model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..losses.logps import token_logps
from .head import Readout, in_chunks
from .packed import PackedScorer
from .scores import Scores


#: Name under which a critic's head is part of the model, so that whatever wraps the model sees its weights.
VALUE_HEAD = "value_head"


class ValueHead(nn.Module):
    """A critic on the states that enter the language-model head: Linear, ReLU, Linear, in fp32 (arXiv 2407.00087).

    Args:
        hidden: size of the states.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(hidden, 2 * hidden)
        self.outer = nn.Linear(2 * hidden, 1)

    def forward(self, states: Tensor) -> Tensor:
        """Values, [s], of states [s, hidden]."""
        weight: Tensor = self.inner.weight
        with torch.autocast(states.device.type, enabled=False):
            values: Tensor = self.outer(torch.relu(self.inner(states.to(weight.dtype)))).squeeze(-1)
        return values


class ActorCriticScorer(PackedScorer):
    """Scores with entropies and, where the model has a `value_head`, with values.

    Args:
        entropy_gradient: whether gradients flow through entropies; otherwise they are there to be looked at.
        detach_critic: whether the critic leaves the trunk alone.
        critic_apart: whether the critic has a pass of its own, see `critic_alone`; others give no values then.
        kept_layers: see `DenseScorer`.

    Attributes:
        keep_states: while True, states of the scored tokens are kept in `states`, for the training of a critic: with
            their graph if it has a pass of its own.
    """

    def __init__(
        self,
        *,
        entropy_gradient: bool = False,
        detach_critic: bool = False,
        critic_apart: bool = False,
        kept_layers: int | None = None,
    ) -> None:
        super().__init__(kept_layers)
        self._entropy_gradient = entropy_gradient
        self._detach_critic = detach_critic
        self._critic_apart = critic_apart
        self._critic_alone = False
        self.keep_states = False
        self.states: Tensor | None = None

    @contextmanager
    def critic_alone(self) -> Iterator[None]:
        """Passes that give values; their log-probs and entropies are zero, and are not computed."""
        self._critic_alone = True
        try:
            yield
        finally:
            self._critic_alone = False

    def readout(self, bare: nn.Module) -> Readout:
        """See `DenseScorer.readout`: columns are log-prob, entropy and, with a critic, value."""
        silent = self._critic_apart and not self._critic_alone
        critic: nn.Module | None = None if silent else bare._modules.get(VALUE_HEAD)

        def read(head: Callable[..., Tensor], states: Tensor, targets: Tensor, chunk: int) -> Tensor:
            def compute(part: Tensor, wanted: Tensor) -> Tensor:
                logits = head(part)
                return torch.stack([token_logps(logits, wanted), self._entropy(logits)], -1)

            if self._critic_alone:
                found = states.new_zeros(len(states), 2, dtype=torch.float32)
            else:
                found = in_chunks(compute, states, targets, chunk)
            if self.keep_states:
                self.states = states if self._critic_apart else states.detach()
            if critic is None:
                return found
            values = critic(states.detach() if self._detach_critic else states)
            return torch.cat([found, values.to(found.dtype).unsqueeze(-1)], -1)

        return read

    def scores(self, found: Tensor, where: dict[str, Any]) -> Scores:
        """See `DenseScorer.scores`."""
        mask = where["mask"]
        columns = (found[where["index"]] * mask.unsqueeze(-1)).unbind(-1)
        logp, entropy = columns[:2]
        return Scores(logp, mask, entropy, columns[2] if len(columns) > 2 else None)

    def _entropy(self, logits: Tensor) -> Tensor:
        """H = -sum p log p, [s], in fp32 or better."""
        with torch.set_grad_enabled(self._entropy_gradient and torch.is_grad_enabled()):
            logps = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
            return -(logps.exp() * logps).sum(-1)
