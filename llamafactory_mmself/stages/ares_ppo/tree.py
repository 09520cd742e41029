# SPDX-License-Identifier: Apache-2.0
"""A rollout as a tree: one prompt with its pictures, K responses; and the loss of a batch of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ...losses.ppo import ppo_loss, whiten
from ...losses.types import LossOutput
from ...tree.sample import Media, SampleTree, TreeBuilder
from ...tree.scores import ScoreTable
from ..responses import padded_table, role, stacked
from .arguments import AresPPOArguments
from .rollouts import Rollout


def build_tree(rollout: Rollout, width: int) -> SampleTree:
    """The tree of a rollout, roles `sample.0` to `sample.<K - 1>`.

    Side tensors are [K, width]: `tokens` (which entries are tokens of responses that take part), `old_logps`,
    `advantages`, `returns`, zero until they are known.

    Args:
        rollout: prompt and responses.
        width: length of the buffer's longest response.
    """
    builder = TreeBuilder(rollout.key)
    context = builder.add(rollout.prompt, media=[Media("image", path) for path in rollout.images])
    for number, response in enumerate(rollout.responses):
        builder.score(role(number), response.ids, context)
    responses = rollout.responses
    none: list[Sequence[float]] = [() for _ in responses]
    side = {
        "tokens": padded_table([[1.0] * len(item.ids) if item.kept else [] for item in responses], width).bool(),
        "old_logps": padded_table([item.logps for item in responses], width),
        "advantages": padded_table(rollout.advantages or none, width),
        "returns": padded_table(rollout.returns or none, width),
    }
    return builder.build(side)


def rollout_loss(policy: ScoreTable, side: Mapping[str, Tensor], args: AresPPOArguments) -> LossOutput:
    """The clipped loss of a batch; see `losses.ppo.ppo_loss`.

    Args:
        policy: scores of the roles, with entropies and, for advantage gae, values.
        side: see `build_tree`, each [n, K, width].
        args: the stage's arguments.
    """
    tokens, width = side["tokens"], side["tokens"].shape[-1]
    logps, entropy, values = (stacked(policy, name, width) for name in ("logp", "entropy", "value"))
    assert logps is not None
    advantages = side["advantages"]
    if args.quirks == "published" and args.whiten_advantages:
        advantages = whiten(advantages.flatten(0, 1), unbiased=True).view_as(advantages)
    critic = values is not None and args.advantage == "gae"
    return ppo_loss(
        logps,
        side["old_logps"],
        advantages,
        values if critic else None,
        side["returns"] if critic else None,
        tokens,
        clip_range=args.clip_range,
        value_coef=args.value_coef,
        entropy=entropy,
        entropy_coef=args.entropy_coef,
    )
