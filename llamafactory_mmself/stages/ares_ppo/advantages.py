# SPDX-License-Identifier: Apache-2.0
"""From rewards to the advantages of a whole buffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...losses.ppo import (
    gae,
    group_advantages,
    kl_rewards,
    published_kl_mask,
    returns_to_go,
    rloo_advantages,
    whiten,
)
from .arguments import AresPPOArguments
from .rollouts import Rollout


def with_advantages(rollouts: Sequence[Rollout], args: AresPPOArguments) -> list[Rollout]:
    """The rollouts with advantages and, for gae, returns; those of responses that take no part are 0.

    Args:
        rollouts: N prompts with K annotated responses each.
        args: the stage's arguments.
    """
    mask = _mask(rollouts)
    rewards = token_rewards(rollouts, args, mask)
    returns: Tensor | None = None
    if args.advantage == "gae":
        values = _table(rollouts, "values")
        advantages, returns = gae(rewards, values, mask, gamma=args.gamma, lam=args.gae_lambda)
    elif args.advantage == "rloo":
        advantages = rloo_advantages(rewards, mask, gamma=args.gamma)
    else:
        advantages = group_advantages(_paid(rollouts, mask.shape[-1]), _ends(rollouts, mask.shape[-1]), mask)
    if args.whiten_advantages and args.quirks == "fixed":
        advantages = whiten(advantages, mask)
    return [
        replace(
            rollout,
            advantages=_rows(rollout, advantages[number]),
            returns=() if returns is None else _rows(rollout, returns[number]),
        )
        for number, rollout in enumerate(rollouts)
    ]


def token_rewards(rollouts: Sequence[Rollout], args: AresPPOArguments, mask: Tensor) -> Tensor:
    """Rewards with the penalty for leaving the reference, [N, K, t]."""
    rewards = _paid(rollouts, mask.shape[-1])
    if not args.kl_coef:
        return rewards * mask
    paying = published_kl_mask(mask) if args.quirks == "published" else mask
    return (
        rewards + kl_rewards(_table(rollouts, "logps"), _table(rollouts, "ref_logps"), paying, coef=args.kl_coef)
    ) * mask


def monte_carlo_returns(rollouts: Sequence[Rollout], args: AresPPOArguments) -> list[list[list[float]]]:
    """Discounted sums of rewards to the end of each response: what an untrained critic learns first."""
    mask = _mask(rollouts)
    found = returns_to_go(token_rewards(rollouts, args, mask), mask, gamma=args.gamma)
    return [[list(row) for row in _rows(rollout, found[number])] for number, rollout in enumerate(rollouts)]


def longest(rollouts: Sequence[Rollout]) -> int:
    """Tokens of the longest response."""
    return max(len(response.ids) for rollout in rollouts for response in rollout.responses)


def _mask(rollouts: Sequence[Rollout]) -> Tensor:
    width = longest(rollouts)
    lengths = torch.tensor([[len(item.ids) if item.kept else 0 for item in r.responses] for r in rollouts])
    return torch.arange(width) < lengths.unsqueeze(-1)


def _table(rollouts: Sequence[Rollout], name: str) -> Tensor:
    width = longest(rollouts)
    table = torch.zeros(len(rollouts), len(rollouts[0].responses), width)
    for number, rollout in enumerate(rollouts):
        for place, response in enumerate(rollout.responses):
            values = vars(response)[name]
            table[number, place, : len(values)] = torch.tensor(values)
    return table


def _paid(rollouts: Sequence[Rollout], width: int) -> Tensor:
    table = torch.zeros(len(rollouts), len(rollouts[0].responses), width)
    for number, rollout in enumerate(rollouts):
        for place, response in enumerate(rollout.responses):
            for token, reward in (response.rewards or {}).items():
                table[number, place, token] += reward
    return table


def _ends(rollouts: Sequence[Rollout], width: int) -> Tensor:
    table = torch.zeros(len(rollouts), len(rollouts[0].responses), width, dtype=torch.bool)
    for number, rollout in enumerate(rollouts):
        for place, response in enumerate(rollout.responses):
            for token in response.rewards or {}:
                table[number, place, token] = True
    return table


def _rows(rollout: Rollout, table: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(
        tuple(row[: len(response.ids)].tolist()) for row, response in zip(table, rollout.responses, strict=True)
    )
