# SPDX-License-Identifier: Apache-2.0
"""The pair loss "prefer w over l" in all its published forms."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor


LossType = Literal["sigmoid", "hinge", "ipo", "orpo", "simpo"]
LOSS_TYPES: tuple[str, ...] = get_args(LossType)
REFERENCE_FREE = frozenset({"orpo", "simpo"})
#: These compare sequences per token: the caller hands in mean log-probs, for policy and reference alike.
MEAN_LOGPS = frozenset({"ipo", "orpo", "simpo"})


def margin_loss(margin: Tensor, *, beta: float, loss_type: str, label_smoothing: float = 0.0) -> Tensor:
    """Loss of a reference-corrected margin m = (log pi_w - log ref_w) - (log pi_l - log ref_l), elementwise.

    sigmoid is DPO (arXiv 2305.18290, eq. 7), with `label_smoothing` cDPO's noise rate; hinge is SLiC's
    (arXiv 2309.06657); ipo is arXiv 2310.12036, eq. 17.

    Raises:
        ValueError: for a loss type that has no margin form.
    """
    if loss_type == "sigmoid":
        smoothed = F.logsigmoid(-beta * margin) * label_smoothing
        return -F.logsigmoid(beta * margin) * (1 - label_smoothing) - smoothed
    if loss_type == "hinge":
        return torch.relu(1 - beta * margin)
    if loss_type == "ipo":
        return (margin - 1 / (2 * beta)) ** 2
    raise ValueError(f"`{loss_type}` is not a loss of a reference margin; use one of sigmoid, hinge, ipo.")


def reference_free_loss(
    winner: Tensor, loser: Tensor, *, beta: float, loss_type: str, simpo_gamma: float, sft: bool = True
) -> Tensor:
    """ORPO (arXiv 2403.07691, eq. 6-7) and SimPO (arXiv 2405.14734, eq. 6) of mean log-probs, elementwise.

    Args:
        winner: [n], mean log-prob per token.
        loser: [n], the same for the sequence to be avoided.
        beta: ORPO's lambda, SimPO's beta.
        loss_type: orpo or simpo.
        simpo_gamma: SimPO's target margin.
        sft: whether ORPO's likelihood term on the winner belongs to this pair. A sample with several pairs has one.
    """
    if loss_type == "simpo":
        return -F.logsigmoid(beta * (winner - loser) - simpo_gamma)

    log_odds = (winner - loser) - (_log1mexp(winner) - _log1mexp(loser))
    odds_ratio = -beta * F.logsigmoid(log_odds)
    return odds_ratio - winner if sft else odds_ratio


def _log1mexp(logp: Tensor) -> Tensor:
    """log(1 - exp(logp)) for logp < 0, stable at both ends."""
    return torch.where(logp > -0.6931, torch.log(-torch.expm1(logp)), torch.log1p(-torch.exp(logp)))
