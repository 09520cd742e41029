# SPDX-License-Identifier: Apache-2.0
"""A group of responses as a tree, and the loss of a batch of groups (strategy grpo).

head -- real picture and question --+-- response 0    sample.0
     |                              +-- response 1    sample.1 ...
     +- question, no picture -------+-- best response image.cn
     +- painted picture ... --------+-- best response image.rc
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...losses.grpo import grpo_loss, importance_weights
from ...losses.types import LossOutput
from ...tree.sample import SampleTree, TreeBuilder
from ...tree.scores import ScoreTable
from ..responses import padded_table, role, stacked
from .arguments import MDPOArguments
from .tree import NEGATIVE, NONE, REAL, context


WITHOUT, PAINTED = "image.cn", "image.rc"


def build_group_tree(segments: Mapping[str, Any], args: MDPOArguments) -> SampleTree:
    """The tree of a group.

    Side tensors, for K = `count` responses of up to `width` tokens: `tokens` (which entries are tokens),
    `old_logps`, `ref_logps`, `sampled_logps` [K, width], `advantages` [K], `best` (place of the response that the
    image term is about), `image` (whether there is one). What is not known is 0; a response that no engine has sampled
    has its old log-probs for sampled ones.

    Args:
        segments: of the prompt, with `entry`, `width` and `count`.
        args: arguments of the stage.
    """
    entry, width, count = segments["entry"], segments["width"], segments["count"]
    answers = entry.answers
    builder = TreeBuilder(segments["key"])
    real = context(builder, dict(segments), REAL)
    for number, answer in enumerate(answers):
        builder.score(role(number), answer.ids, real)
    if entry.best is not None:
        best = answers[entry.best].ids
        builder.score(WITHOUT, best, context(builder, dict(segments), NONE))
        if args.grpo_image_term == "negative":
            builder.score(PAINTED, best, context(builder, dict(segments), NEGATIVE))

    def table(rows: Iterable[Sequence[float]]) -> Tensor:
        known = list(rows)
        return padded_table([*known, *[()] * (count - len(known))], width)

    side = {
        "tokens": table([1.0] * len(answer.ids) for answer in answers).bool(),
        "old_logps": table(answer.old_logps for answer in answers),
        "ref_logps": table(answer.ref_logps for answer in answers),
        "sampled_logps": table(answer.sampled_logps or answer.old_logps for answer in answers),
        "advantages": torch.tensor([*entry.advantages, *[0.0] * (count - len(answers))]),
        "best": torch.tensor(entry.best or 0),
        "image": torch.tensor(entry.best is not None),
    }
    return builder.build(side)


def group_loss(
    policy: ScoreTable,
    reference: ScoreTable | None,
    side: Mapping[str, Tensor],
    args: MDPOArguments,
    beta: float,
) -> LossOutput:
    """The loss of a batch of groups; see `losses.grpo.grpo_loss`.

    Args:
        policy: scores of the roles.
        reference: the same, with an image term; otherwise the reference has scored each group when it was sampled.
        side: see `build_group_tree`, with n samples before.
        args: the stage's arguments.
        beta: weight of the penalty for leaving the reference.
    """
    tokens = side["tokens"]
    count, width = tokens.shape[1:]
    logps = stacked(policy, "logp", width, count)
    assert logps is not None
    ref_logps = side["ref_logps"] if beta else logps.detach()
    if reference is not None:
        found = stacked(reference, "logp", width, count)
        assert found is not None
        ref_logps = found
    weights = None
    if args.grpo_importance_cap and args.quirks == "fixed":
        weights = importance_weights(side["old_logps"], side["sampled_logps"], tokens, cap=args.grpo_importance_cap)
    image = args.grpo_image_term != "none"
    return grpo_loss(
        logps,
        side["old_logps"],
        ref_logps,
        side["advantages"],
        tokens,
        beta=beta,
        clip_range=args.grpo_clip_range,
        weights=weights,
        image_margins=_margins(policy, reference, side, logps - ref_logps, args) if image else None,
        image_kept=side["image"] if image else None,
        image_coef=args.grpo_image_coef if image else 0.0,
        quirks=args.quirks,
    )


def _margins(
    policy: ScoreTable,
    reference: ScoreTable | None,
    side: Mapping[str, Tensor],
    gains: Tensor,
    args: MDPOArguments,
) -> Tensor:
    """D(cc) - D(cn) and, with a painted picture, D(cn) - D(rc) of each group's best response, [n, m].

    `gains` are the responses' log-probs minus those of the reference, [n, K, t].
    """
    best = gains.sum(-1).gather(1, side["best"].unsqueeze(1)).squeeze(1)

    def delta(name: str) -> Tensor:
        if name not in policy or reference is None:  # no group of this batch has an image term
            return torch.zeros_like(best)
        return policy[name].sums - reference[name].sums

    margins = [best - delta(WITHOUT)]
    if args.grpo_image_term == "negative":
        margins.append(delta(WITHOUT) - delta(PAINTED))
    return torch.stack(margins, 1)
