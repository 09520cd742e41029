# SPDX-License-Identifier: Apache-2.0
"""From logits to log-probs of given tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-prob of each target token, computed in fp32 or better.

    Args:
        logits: [..., vocab].
        targets: [...], ids within the vocabulary.

    Returns:
        [...], in fp32 for half-precision logits, else in the logits' own precision.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    chosen = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return chosen - logits.logsumexp(-1)
