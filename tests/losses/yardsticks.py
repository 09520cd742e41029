# SPDX-License-Identifier: Apache-2.0
"""Log-probs of whole rows from all of their logits, which the engines never compute."""

from __future__ import annotations

from torch import Tensor

from llamafactory_mmself.losses.logps import token_logps


IGNORE_INDEX = -100


def sequence_logps(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Summed log-probs of the labelled tokens of each row: log pi(row) = sum_t log softmax(logits_{t-1})[label_t].

    Args:
        logits: [n, t, vocab]; position t predicts token t + 1.
        labels: [n, t], unshifted; `IGNORE_INDEX` marks tokens that are not scored.

    Returns:
        The sums, [n], and the number of scored tokens, [n].

    Raises:
        ValueError: if the shapes do not belong together.
    """
    if logits.shape[:-1] != labels.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} must share [rows, tokens].")

    targets = labels[:, 1:]
    mask = targets != IGNORE_INDEX
    logps = token_logps(logits[:, :-1], targets.masked_fill(~mask, 0))
    return (logps * mask).sum(-1), mask.sum(-1)
