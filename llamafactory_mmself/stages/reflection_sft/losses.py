# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy of each token, and its sums by kind."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


IGNORED = -100

#: Logits of this many tokens are in fp32 at a time where no gradient is needed.
_CHUNK = 1024


@dataclass(frozen=True)
class TokenLosses:
    """Losses of the n tokens that are trained on.

    Attributes:
        values: cross-entropy, [n].
        rows: row of the batch, [n].
        kinds: id of the kind, [n].
    """

    values: Tensor
    rows: Tensor
    kinds: Tensor

    def by_kind(self, rows: int, kinds: int) -> Tensor:
        """Sums of losses and numbers of tokens, [rows, 2, kinds], detached."""
        place = self.rows * kinds + self.kinds
        values = self.values.detach().float()
        table = torch.zeros((2, rows * kinds), device=values.device)
        table[0].index_add_(0, place, values)
        table[1].index_add_(0, place, torch.ones_like(values))
        return table.view(2, rows, kinds).transpose(0, 1)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Sum of the losses times the weight of their kind, []; `weights` [kinds]."""
        return (self.values * weights[self.kinds]).sum()


def token_losses(logits: Tensor, labels: Tensor, kinds: Tensor) -> TokenLosses:
    """Losses of predicting each label from the position before it.

    Args:
        logits: [batch, tokens, vocabulary].
        labels: [batch, tokens], -100 where nothing is trained.
        kinds: [batch, tokens], ids.
    """
    targets = labels[:, 1:]
    scored = targets != IGNORED
    chosen, targets = logits[:, :-1][scored], targets[scored]
    size = max(len(targets), 1) if chosen.requires_grad else _CHUNK
    parts = zip(chosen.split(size), targets.split(size), strict=True)
    values = [F.cross_entropy(part.float(), target, reduction="none") for part, target in parts]
    return TokenLosses(torch.cat(values), scored.nonzero()[:, 0], kinds[:, 1:][scored])


def summed_weights(labels: Tensor, kinds: Tensor, weights: Tensor) -> Tensor:
    """The weights of all tokens that `token_losses` gives a loss for, []."""
    return weights[kinds[:, 1:]][labels[:, 1:] != IGNORED].sum()
