# SPDX-License-Identifier: Apache-2.0
"""From positions to groups of answers of the policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import nn

from ....data.encode import RowEncoder
from ....generate.seeds import derived_seed
from ....generate.types import Completion, SamplingParams
from ....recipes.ovip_pairs import distinct
from ....tree.scores import Scores, ScoreTable
from ...responses import role
from ..arguments import GRPO, MDPOArguments
from .engines import Rollouts
from .entries import Answer, Group
from .prompts import OnlinePrompt, PromptOrder


#: Scores a group with policy and reference as they are now: (policy, reference or None), for one sample.
Annotate = Callable[[Group], tuple[ScoreTable, ScoreTable | None]]


def sampling_params(args: MDPOArguments) -> SamplingParams:
    """How the stage samples."""
    return SamplingParams(
        n=args.rollout_n,
        temperature=args.rollout_temperature,
        top_p=args.rollout_top_p,
        top_k=args.rollout_top_k,
        max_new_tokens=args.rollout_max_new_tokens,
        logprobs=args.strategy == GRPO,
    )


class GroupSampler:
    """Samples batches of positions.

    Args:
        rollouts: where answers come from.
        model: gives the wrapped model.
        order: prompts by position.
        encoder: for answers of engines that do not tell token ids.
        args: the stage's arguments.
        seed: of the run.
        rank: this process.
        annotate: for grpo, gives the log-probs that updates start from.
    """

    def __init__(
        self,
        *,
        rollouts: Rollouts,
        model: Callable[[], nn.Module],
        order: PromptOrder,
        encoder: RowEncoder,
        args: MDPOArguments,
        seed: int,
        rank: int,
        annotate: Annotate,
    ) -> None:
        self._rollouts = rollouts
        self._model = model
        self._order = order
        self._encoder = encoder
        self._args = args
        self._seed = seed
        self._rank = rank
        self._annotate = annotate

    def __call__(self, positions: Sequence[int], step: int) -> list[Group]:
        """Groups for positions, sampled together; what is sampled depends on the batch and the seed."""
        prompts = [self._order[position] for position in positions]
        seed = derived_seed(self._seed, "rollout", positions[0])
        found = self._rollouts(self._model(), prompts, seed)
        groups = [
            self._group(position, step, prompt, completions)
            for position, prompt, completions in zip(positions, prompts, found, strict=True)
        ]
        return [self._annotated(group) for group in groups] if self._args.strategy == GRPO else groups

    def refresh(self, step: int) -> None:
        """Hands the weights over to the engine; called on all ranks before they sample."""
        self._rollouts.refresh(self._model(), step)

    def close(self) -> None:
        """Frees the engine."""
        self._rollouts.close()

    def _group(self, position: int, step: int, prompt: OnlinePrompt, completions: Sequence[Completion]) -> Group:
        kept = distinct([completion.text.strip() for completion in completions])
        answers = [self._answer(prompt, completions[place]) for place in kept]
        if self._args.strategy == GRPO and self._args.grpo_ground_truth:
            answers.append(Answer(prompt.row.chosen, prompt.reference_ids, sampled=False))
        return Group(position, step, self._rank, tuple(answers), len(completions) - len(kept))

    def _answer(self, prompt: OnlinePrompt, completion: Completion) -> Answer:
        ids, logps = completion.token_ids, completion.logprobs or ()
        if not ids:  # endpoints tell none; where their log-probs are of other tokens, they are of no use
            ids = tuple(self._encoder.response(prompt.row, completion.text))[: self._args.rollout_max_new_tokens]
            logps = logps if len(logps) == len(ids) else ()
        return Answer(completion.text.strip(), ids, logps)

    def _annotated(self, group: Group) -> Group:
        policy, reference = self._annotate(group)
        answers = [
            replace(
                answer,
                old_logps=_floats(policy[role(number)]),
                ref_logps=() if reference is None else _floats(reference[role(number)]),
            )
            for number, answer in enumerate(group.answers)
        ]
        return replace(group, answers=tuple(answers))


def _floats(scores: Scores) -> tuple[float, ...]:
    """The log-probs of a batch of one sample, with the nine digits that a float32 needs."""
    return tuple(float(f"{value:.9g}") for value in scores.logp[0][scores.mask[0]].tolist())
