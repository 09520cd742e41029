# SPDX-License-Identifier: Apache-2.0
"""PPO with rewards at any token (ARES, arXiv 2407.00087): rewards, advantages and the clipped loss.

Tensors are [n, t]: n responses, padded on the right to t tokens. A mask says which entries are tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .types import LossOutput


EPSILON = 1e-8


def kl_rewards(logps: Tensor, ref_logps: Tensor, mask: Tensor, *, coef: float) -> Tensor:
    """What each token pays for leaving the reference: r_t = -coef (log pi_t - log ref_t), [n, t].

    Args:
        logps: [n, t], log-probs under the policy that sampled.
        ref_logps: [n, t], under the reference.
        mask: [n, t].
        coef: constant weight of the penalty, `init_kl_coef` in the published code.
    """
    return -coef * (logps - ref_logps) * mask


def published_kl_mask(mask: Tensor) -> Tensor:
    """The mask of the published penalty, which leaves each response's first token out.

    There the column before it holds a start token that equals the padding.
    """
    first = torch.zeros_like(mask, dtype=torch.bool)
    first[..., 0] = True
    return mask.bool() & ~first


def token_rewards(kl: Tensor, ends: Sequence[int], scores: Sequence[float], *, neutral: float = 0.5) -> Tensor | None:
    """Rewards of one response: at the token that ends sentence i, its score minus the neutral one is added.

        r_t = r_t^KL + sum_i [t = ends_i] (scores_i - neutral)

    Args:
        kl: [t], rewards of the penalty.
        ends: for each sentence the place of the token that ends it; sentences that share one add up.
        scores: for each sentence, from 0 to 1.
        neutral: the score that is worth nothing.

    Returns:
        [t], or None if scores and sentences differ in number: such a response cannot be used.

    Raises:
        ValueError: a score is not a number from 0 to 1, or an end lies outside the response.
    """
    if len(ends) != len(scores):
        return None
    if not all(0 <= score <= 1 for score in scores):
        raise ValueError(f"Scores of sentences lie between 0 and 1, found {list(scores)}.")
    if not all(0 <= end < len(kl) for end in ends):
        raise ValueError(f"Sentences end at tokens 0 to {len(kl) - 1}, found {list(ends)}.")
    rewards = kl.clone()
    for end, score in zip(ends, scores, strict=True):
        rewards[end] += score - neutral
    return rewards


def gae(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (arXiv 1506.02438, eq. 16) and the returns that values are trained on.

        delta_t = r_t + gamma V_{t+1} - V_t,    A_t = delta_t + gamma lam A_{t+1},    R_t = A_t + V_t

    The value after a response's last token is 0.

    Args:
        rewards: [..., t].
        values: [..., t], V_t being the value before token t.
        mask: [..., t]; tokens come first, padding after them.
        gamma: discount.
        lam: lambda.

    Returns:
        advantages and returns, [..., t] each, 0 at padding.

    Raises:
        ValueError: the shapes differ.
    """
    if not rewards.shape == values.shape == mask.shape:
        raise ValueError(
            f"rewards {tuple(rewards.shape)}, values {tuple(values.shape)} and mask {tuple(mask.shape)} must agree."
        )
    mask = mask.to(rewards.dtype)
    rewards, values = rewards * mask, values * mask
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[..., 0])
    next_value = torch.zeros_like(following)
    for place in reversed(range(rewards.shape[-1])):
        delta = rewards[..., place] + gamma * next_value - values[..., place]
        following = (delta + gamma * lam * following) * mask[..., place]
        advantages[..., place] = following
        next_value = values[..., place]
    return advantages, (advantages + values) * mask


def whiten(values: Tensor, mask: Tensor | None = None, *, unbiased: bool = False) -> Tensor:
    """Zero mean and unit variance over the tokens: (x - mean) / sqrt(var + 1e-8), 0 at padding.

    Args:
        values: [n, t].
        mask: [n, t]; None counts padding in, as the published code does.
        unbiased: divide by the count minus one, as the published code does on a single rank.
    """
    weights = torch.ones_like(values) if mask is None else mask.to(values.dtype)
    count = weights.sum()
    mean = (values * weights).sum() / count.clamp(min=1)
    variance = ((values - mean) ** 2 * weights).sum() / (count - 1 if unbiased else count).clamp(min=1)
    return (values - mean) * torch.rsqrt(variance + EPSILON) * weights


def returns_to_go(rewards: Tensor, mask: Tensor, *, gamma: float) -> Tensor:
    """G_t = sum_{u >= t} gamma^(u-t) r_u, [..., t], 0 at padding."""
    return gae(rewards, torch.zeros_like(rewards), mask, gamma=gamma, lam=1.0)[0]


def leave_one_out_mean(totals: Tensor, kept: Tensor) -> Tensor:
    """The mean total of the others of a response's prompt, its baseline in RLOO (arXiv 2402.14740, eq. 7).

    Args:
        totals: [..., k], the summed rewards of a prompt's k responses.
        kept: [..., k], False for responses without a reward, which take no part.

    Returns:
        [..., k]; a response that is alone gets its own total.
    """
    weights = kept.to(totals.dtype)
    others = weights.sum(-1, keepdim=True) - weights
    sums = (totals * weights).sum(-1, keepdim=True) - totals * weights
    return torch.where(others > 0, sums / others.clamp(min=1), totals)


def rloo_advantages(rewards: Tensor, mask: Tensor, *, gamma: float) -> Tensor:
    """A_t = G_t minus the mean of the other responses' G_0: sentence REINFORCE without a critic.

    Args:
        rewards: [..., k, t], of a prompt's k responses.
        mask: [..., k, t], all False for a response that takes no part.
        gamma: discount.

    Returns:
        [..., k, t], 0 at padding.
    """
    togo = returns_to_go(rewards, mask, gamma=gamma)
    kept = mask.any(-1)
    baseline = leave_one_out_mean(togo[..., 0], kept)
    return (togo - baseline.unsqueeze(-1)) * mask


def group_advantages(rewards: Tensor, ends: Tensor, mask: Tensor) -> Tensor:
    """Sentence rewards of a prompt's responses standardised together, then summed to the end of each response.

    GRPO with process supervision (arXiv 2402.03300, section 4.1.3): r' = (r - mean) / std over all sentences of all k
    responses, and A_t is the sum of r' of the sentences that end at or after t.

    Args:
        rewards: [..., k, t], of a prompt's k responses.
        ends: [..., k, t], True at tokens that end a sentence.
        mask: [..., k, t], all False for a response that takes no part.

    Returns:
        [..., k, t], 0 at padding.
    """
    ends = (ends.bool() & mask.bool()).to(rewards.dtype)
    count = ends.sum((-2, -1), keepdim=True).clamp(min=1)
    mean = (rewards * ends).sum((-2, -1), keepdim=True) / count
    variance = ((rewards - mean) ** 2 * ends).sum((-2, -1), keepdim=True) / count
    standard = (rewards - mean) * torch.rsqrt(variance + EPSILON) * ends
    return returns_to_go(standard, mask, gamma=1.0)


def ppo_loss(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    values: Tensor | None,
    returns: Tensor | None,
    mask: Tensor,
    *,
    clip_range: float,
    value_coef: float,
    entropy: Tensor | None = None,
    entropy_coef: float = 0.0,
) -> LossOutput:
    """The clipped loss (arXiv 1707.06347, eq. 7) with squared error of values and, if wanted, an entropy bonus.

        rho = exp(log pi - log pi_old)
        L = mean max(-A rho, -A clip(rho, 1 - clip_range, 1 + clip_range)) + value_coef mean (V - R)^2
            - entropy_coef mean H

    Means are over all tokens of the batch: the loss comes as a sum with the number of tokens as its weight.

    Args:
        logps: [n, t], with gradient.
        old_logps: [n, t], of the policy that sampled.
        advantages: [n, t].
        values: [n, t], with gradient; None without a critic.
        returns: [n, t]; None without a critic.
        mask: [n, t].
        clip_range: epsilon.
        value_coef: weight of the error of values.
        entropy: [n, t], entropy of the policy before each token; None if it is not known.
        entropy_coef: weight of the bonus.
    """
    tokens = mask.to(logps.dtype)
    log_ratio = (logps - old_logps) * tokens
    ratio = log_ratio.exp()
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
    policy = torch.maximum(unclipped, clipped) * tokens
    errors = torch.zeros_like(policy) if values is None or returns is None else (values - returns) ** 2 * tokens
    total = policy + value_coef * errors
    if entropy is not None and entropy_coef:
        total = total - entropy_coef * entropy * tokens
    count = tokens.sum()
    metrics = {
        "policy_loss": policy,
        "clip_fraction": (clipped > unclipped) * tokens,
        "approx_kl": (ratio - 1 - log_ratio) * tokens,  # k3 of http://joschu.net/blog/kl-approx.html
        "ratio_deviation": (ratio - 1).abs() * tokens,
    }
    if values is not None:
        metrics["value_loss"] = errors
    if entropy is not None:
        metrics["entropy"] = entropy * tokens
    return LossOutput(
        value=total.sum(),
        weight=count.detach(),
        metrics={name: (found.detach().sum(), count.detach()) for name, found in metrics.items()},
    )
