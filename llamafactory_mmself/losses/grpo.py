# SPDX-License-Identifier: Apache-2.0
"""Group-relative policy optimisation (GRPO, arXiv 2402.03300) with scores of whole responses, and an image term.

Tensors are [p, k, t]: p prompts with k responses each, padded on the right to t tokens. A mask says which entries are
tokens; a response without any takes no part.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .types import LossOutput


EPSILON = 1e-6


def group_normalised(scores: Tensor, kept: Tensor) -> Tensor:
    """A = (s - mean) / (std + 1e-6) over a prompt's responses (arXiv 2402.03300, section 4.1.2), std by the count.

    Args:
        scores: [..., k].
        kept: [..., k], False for responses without a score, which take no part.

    Returns:
        [..., k]; 0 for those, and for groups whose scores are equal.
    """
    weights = kept.to(scores.dtype)
    scores = torch.where(kept, scores, 0.0)
    count = weights.sum(-1, keepdim=True).clamp(min=1)
    mean = (scores * weights).sum(-1, keepdim=True) / count
    variance = ((scores - mean) ** 2 * weights).sum(-1, keepdim=True) / count
    return (scores - mean) / (variance.sqrt() + EPSILON) * weights


def importance_weights(old_logps: Tensor, sampled_logps: Tensor, mask: Tensor, *, cap: float) -> Tensor:
    """How much likelier a token was under the policy that updates start from than under the one that sampled it.

        w_t = min(cap, exp(log pi_old - log pi_sampled))

    Truncated importance sampling: it corrects rollouts that are older than the policy, or from an engine whose
    log-probs are not the trainer's.

    Args:
        old_logps: [..., t].
        sampled_logps: [..., t].
        mask: [..., t].
        cap: largest weight.

    Returns:
        [..., t], 1 at padding.
    """
    ratio = ((old_logps - sampled_logps) * mask).exp()
    return ratio.clamp(max=cap)


def grpo_loss(
    logps: Tensor,
    old_logps: Tensor,
    ref_logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    beta: float,
    clip_range: float = 0.2,
    weights: Tensor | None = None,
    image_margins: Tensor | None = None,
    image_kept: Tensor | None = None,
    image_coef: float = 0.0,
    image_beta: float = 0.1,
    quirks: Literal["fixed", "published"] = "fixed",
) -> LossOutput:
    """The clipped loss of groups with a penalty for leaving the reference (arXiv 2402.03300, eq. 3 and 4).

        rho = exp(log pi - log pi_old),    k = exp(log ref - log pi) - (log ref - log pi) - 1
        J_i = 1/|y_i| sum_t [ w_t min(rho A, clip(rho, 1 - clip_range, 1 + clip_range) A) - beta k ]
        L = -mean_i J_i + image_coef mean_prompts sum_m -log sigma(image_beta margin_m)

    The mean is over responses: the loss comes as a sum with their number as its weight. A prompt's image term counts
    as often as it has responses.

    Args:
        logps: [p, k, t], with gradient.
        old_logps: [p, k, t], of the policy that the updates on these responses start from.
        ref_logps: [p, k, t], of the reference.
        advantages: [p, k], see `group_normalised`.
        mask: [p, k, t].
        beta: weight of the penalty.
        clip_range: epsilon.
        weights: [p, k, t], see `importance_weights`; None for 1.
        image_margins: [p, m], for one response of each prompt what the picture adds to it, over the reference: for
            OViP's image part D(cc) - D(cn) and D(cn) - D(rc), see `losses.mdpo`. With gradient.
        image_kept: [p], prompts that have an image term; None for all.
        image_coef: its weight.
        image_beta: its beta.
        quirks: `published` takes the policy itself for the old one, whatever has happened since, so that nothing is
            ever clipped, and logs the penalty as a mean over padding too.

    Raises:
        ValueError: an image term is asked for, and there are no margins.
    """
    if image_coef and image_margins is None:
        raise ValueError("An image term needs `image_margins`; set image_coef to 0, or hand them in.")
    tokens = mask.to(logps.dtype)
    lengths = tokens.sum(-1)
    published = quirks == "published"
    log_ratio = (logps - (logps.detach() if published else old_logps)) * tokens
    ratio = log_ratio.exp()
    gains = advantages.unsqueeze(-1) * ratio
    clipped = advantages.unsqueeze(-1) * ratio.clamp(1 - clip_range, 1 + clip_range)
    surrogate = gains if published else torch.minimum(gains, clipped)
    if weights is not None:
        surrogate = surrogate * weights
    distance = (ref_logps - logps) * tokens
    penalty = distance.exp() - distance - 1
    objective = _per_response((surrogate - beta * penalty) * tokens, lengths)
    taking_part = lengths > 0
    losses = -objective

    kl = (_per_token(penalty, lengths), tokens.new_tensor(tokens.numel()))
    if not published:
        kl = (_per_response(penalty, lengths), taking_part.sum())
    count = lengths.sum()
    metrics = {
        "policy_loss": (-_per_response(surrogate * tokens, lengths), taking_part.sum()),
        "KL_loss": kl,
        "clip_fraction": ((clipped < gains) * tokens, count),
        "approx_kl": ((ratio - 1 - log_ratio) * tokens, count),  # k3 of http://joschu.net/blog/kl-approx.html
        "ratio_deviation": ((ratio - 1).abs() * tokens, count),
    }
    if weights is not None:
        metrics["importance_weight"] = (weights * tokens, count)
    value = losses.sum()
    if image_coef and image_margins is not None:
        kept = torch.ones_like(taking_part[..., 0]) if image_kept is None else image_kept
        image = -F.logsigmoid(image_beta * image_margins).sum(-1) * kept
        value = value + image_coef * (image * taking_part.sum(-1)).sum()
        metrics["image_loss"] = (image, kept.sum())
        metrics["image_margins"] = (image_margins.sum(-1) * kept, kept.sum())
    return LossOutput(
        value=value,
        weight=taking_part.sum().to(logps.dtype),
        metrics={name: (found.detach().sum(), number.detach()) for name, (found, number) in metrics.items()},
    )


def _per_response(values: Tensor, lengths: Tensor) -> Tensor:
    """Means over the tokens of each response, [p, k]; 0 for those without any."""
    return values.sum(-1) / lengths.clamp(min=1)


def _per_token(values: Tensor, lengths: Tensor) -> Tensor:
    """Each token's share of its response's mean, [p, k, t]."""
    return values / lengths.clamp(min=1).unsqueeze(-1)
