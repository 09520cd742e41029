# SPDX-License-Identifier: Apache-2.0
"""What an engine returns: log-probs per role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from .batch import Batch


@dataclass(frozen=True)
class Scores:
    """Scores of one role.

    Attributes:
        logp: log-prob of each scored token, [n, t], 0 where `mask` is False.
        mask: which entries are tokens, [n, t].
        entropy: entropy of the policy before each token, [n, t]; None unless the engine was asked for it.
        value: a critic's value before each token, [n, t]; None without a critic.
    """

    logp: Tensor
    mask: Tensor
    entropy: Tensor | None = None
    value: Tensor | None = None

    @property
    def sums(self) -> Tensor:
        """Summed log-probs, [n]."""
        return self.logp.sum(-1)

    @property
    def lengths(self) -> Tensor:
        """Number of scored tokens, [n]."""
        return self.mask.sum(-1)

    def select(self, samples: Tensor) -> Scores:
        """The rows of some samples; `samples` is a boolean [n]."""
        entropy, value = (None if found is None else found[samples] for found in (self.entropy, self.value))
        return Scores(self.logp[samples], self.mask[samples], entropy, value)


ScoreTable = Mapping[str, Scores]


class Scorer(Protocol):
    """An engine: one forward of the wrapped model, log-probs of every role."""

    def __call__(self, model: nn.Module, batch: Batch) -> ScoreTable:
        """Scores a batch; gradients flow if they are enabled."""
        ...


def detach(table: ScoreTable) -> dict[str, Any]:
    """The table without its graph."""
    return {
        role: Scores(
            scores.logp.detach(),
            scores.mask,
            None if scores.entropy is None else scores.entropy.detach(),
            None if scores.value is None else scores.value.detach(),
        )
        for role, scores in table.items()
    }
