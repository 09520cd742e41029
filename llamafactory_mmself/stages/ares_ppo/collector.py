# SPDX-License-Identifier: Apache-2.0
"""Fills the buffer: rollout, feedback, annotation, advantages. Every rank takes part in each of these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...files import write_jsonl
from ...generate.seeds import derived_seed
from ...generate.types import EngineError
from ...plugin import lf
from ...tree.actor_critic import ActorCriticScorer
from ...tree.batch import Batch
from ...tree.scores import Scores, ScoreTable
from ...tree.unwrap import bare_model
from ..base import RunArguments
from ..forward import coarsest_dtype, evaluating
from ..ranks import from_first, gathered
from ..responses import role
from .advantages import longest, monte_carlo_returns, with_advantages
from .alarms import alarms, figures
from .critic import critic_of, critic_parameters, critic_speaks, fit
from .prompts import Asked
from .rewards import Rewarder
from .rollouts import Response, Rollout
from .sampling import Sampler
from .tree import build_tree


if TYPE_CHECKING:
    from .trainer import AresPPOTrainer

logger = lf.get_logger(__name__)

#: How far log-probs of sampling and of training may lie apart, by precision; rounding explains no more.
TOLERANCES = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}


@dataclass
class Collector:
    """Fills the buffer of a trainer.

    Attributes:
        run: arguments of the run.
        asked: its questions.
        sampler: where responses come from.
        rewarder: what they are worth; used by the first rank only.
        scorer: the trainer's engine.
    """

    run: RunArguments
    asked: Sequence[Asked]
    sampler: Sampler
    rewarder: Rewarder
    scorer: ActorCriticScorer

    def fill(self, trainer: AresPPOTrainer, number: int) -> None:
        """Fills the buffer for a round; see `docs/ares.md` for the order of things."""
        args = self.run.stage
        if number and self._own_adapter:
            returns = [rollout.returns for rollout in trainer.buffer.rollouts]
            self._fit_critic(trainer, trainer.buffer.rollouts, returns, args.critic_epochs)
        chosen = self.chosen(number, trainer.shape.prompts)
        rollouts = self._sampled(trainer, number, chosen)
        rollouts = self._rewarded(chosen, rollouts)
        rollouts = self._annotated(trainer, rollouts)
        if number == 0 and args.advantage == "gae" and args.critic_warmup_epochs:
            returns = monte_carlo_returns(rollouts, args)
            self._fit_critic(trainer, rollouts, returns, args.critic_warmup_epochs)
            rollouts = self._annotated(trainer, rollouts)
        rollouts = with_advantages(rollouts, args)
        found = {**figures(rollouts), **from_first(dict(self.rewarder.source.counts()))}
        buffer = trainer.buffer
        buffer.rollouts, buffer.figures = rollouts, found
        buffer.first = buffer.first or found
        self._tell(trainer, number)

    def chosen(self, number: int, size: int) -> list[Asked]:
        """The questions of a round: the next ones of an endless row of shuffled data sets; published: unshuffled."""
        found = []
        for place in range(number * size, (number + 1) * size):
            epoch, index = divmod(place, len(self.asked))
            found.append(self.asked[self._order(epoch)[index]])
        return found

    def _order(self, epoch: int) -> list[int]:
        count = len(self.asked)
        if self.run.stage.quirks == "published":
            return list(range(count))
        seed = derived_seed(self.run.training.seed, "prompts", epoch)
        order: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
        return order

    def _sampled(self, trainer: AresPPOTrainer, number: int, chosen: Sequence[Asked]) -> list[Rollout]:
        """Batches are the same for any number of ranks, and so is what is sampled in them."""
        size, ranks, rank = self.run.stage.rollout_batch_size, trainer.shape.ranks, trainer.args.process_index
        starts = list(range(0, len(chosen), size))
        mine: dict[int, list[Rollout]] = {}
        for place, start in enumerate(starts):
            if place % ranks == rank:
                seed = derived_seed(self.run.training.seed, "rollout", number, place)
                mine[place] = self.sampler(trainer.model_wrapped, chosen[start : start + size], seed)
        batches = {place: batch for part in gathered(mine) for place, batch in part.items()}
        return [rollout for place in range(len(starts)) for rollout in batches[place]]

    def _rewarded(self, chosen: Sequence[Asked], rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The first rank asks for rewards, so that there is one cache and one budget; the others wait."""
        found: list[list[Response]] = []
        failure: Exception | None = None
        if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            try:
                found = self._ask(chosen, rollouts)
            except (ValueError, OSError) as error:  # the others wait for it, too
                failure = error
        found, problem = from_first((found, None if failure is None else str(failure)))  # not every error pickles
        if problem is not None:
            raise failure or EngineError(problem)
        return [replace(rollout, responses=tuple(item)) for rollout, item in zip(rollouts, found, strict=True)]

    def _ask(self, chosen: Sequence[Asked], rollouts: Sequence[Rollout]) -> list[list[Response]]:
        pairs = [
            (self.rewarder.answered(item.question, number, response), response)
            for item, rollout in zip(chosen, rollouts, strict=True)
            for number, response in enumerate(rollout.responses)
        ]
        rewarded = iter(self.rewarder.reward([answer for answer, _ in pairs], [response for _, response in pairs]))
        return [[next(rewarded) for _ in rollout.responses] for rollout in rollouts]

    def _annotated(self, trainer: AresPPOTrainer, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """Log-probs of policy and reference, entropies and values, as training computes them."""
        mine: dict[int, tuple[Response, ...]] = {}
        with evaluating(trainer.model_wrapped), torch.no_grad():
            for places, batch in self._batches(trainer, rollouts):
                policy, reference = trainer.both(batch)
                valued = trainer.critic_scores(batch) if self._own_adapter else policy
                for place, number in enumerate(places):
                    if number >= len(rollouts):
                        continue
                    mine[number] = tuple(
                        _annotated(response, policy, reference, valued, role(k), place)
                        for k, response in enumerate(rollouts[number].responses)
                    )
        found = {number: item for part in gathered(mine) for number, item in part.items()}
        return [replace(rollout, responses=found[number]) for number, rollout in enumerate(rollouts)]

    def _batches(self, trainer: AresPPOTrainer, rollouts: Sequence[Rollout]) -> Iterator[tuple[list[int], Batch]]:
        """This rank's rollouts in batches, as training deals them out; numbers from `len(rollouts)` on are fillers."""
        shape, rank, width = trainer.shape, trainer.args.process_index, longest(rollouts)
        for batch in range(shape.batches):
            places = shape.share(range(shape.rows), batch, rank)
            trees = [build_tree(rollouts[place if place < len(rollouts) else 0], width) for place in places]
            yield places, trainer.prepared(trainer.data_collator.collate(trees, [True] * len(trees)))

    @property
    def _own_adapter(self) -> bool:
        return bool(self.run.stage.advantage == "gae" and self.run.stage.critic == "adapter")

    def _fit_critic(
        self,
        trainer: AresPPOTrainer,
        rollouts: Sequence[Rollout],
        returns: Sequence[Sequence[Sequence[float]]],
        epochs: int,
    ) -> None:
        """Trains the critic on a buffer's returns: its head alone on the trunk as it is, or head and adapter."""
        args, own = self.run.stage, self._own_adapter
        head = critic_of(bare_model(trainer.model))
        assert head is not None

        def step(group: Iterator[tuple[list[int], Batch]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
            for places, batch in group:
                with torch.set_grad_enabled(own):
                    (trainer.critic_scores if own else trainer.policy_scores)(batch)
                assert self.scorer.states is not None
                rows = [returns[place] if place < len(returns) else None for place in places]
                yield self.scorer.states, *_targets(batch, rows)

        def steps() -> Iterator[Iterator[tuple[Tensor, Tensor, Tensor]]]:
            batches = self._batches(trainer, rollouts)
            for _ in range(trainer.shape.batches // trainer.shape.accumulation):
                yield step(islice(batches, trainer.shape.accumulation))

        parameters = list(critic_parameters(trainer.model).values())
        self.scorer.keep_states = True
        # An adapter's passes may be checkpointed, and are computed again with the adapter that speaks then.
        with critic_speaks(trainer.model) if own else evaluating(trainer.model_wrapped):
            losses = fit(
                head,
                parameters,
                steps,
                epochs=epochs,
                learning_rate=args.critic_lr if own else args.critic_warmup_lr,
                reduce=trainer.sum_over_ranks,
            )
        self.scorer.keep_states, self.scorer.states = False, None
        if not own:  # in the first buffer, before the first step; an adapter is none of the optimizer's
            trainer.changed()
        logger.info_rank0(f"The critic's error while it was fitted: {', '.join(f'{loss:.4f}' for loss in losses)}.")

    def _tell(self, trainer: AresPPOTrainer, number: int) -> None:
        buffer = trainer.buffer
        shown = ", ".join(f"{name} {value:.4g}" for name, value in buffer.figures.items())
        logger.info_rank0(f"Buffer {number + 1} of {trainer.shape.rounds}: {shown}.")
        precision = coarsest_dtype(bare_model(trainer.model), self.run)
        for text in alarms(buffer.figures, buffer.first, TOLERANCES[precision]):
            logger.warning_rank0(f"Buffer {number + 1}: {text}")
        for reason, count in self.rewarder.failed.items():
            logger.warning_rank0(f"Responses without a reward so far: {count} ({reason}).")
        if self.run.stage.save_rollouts and trainer.is_world_process_zero():
            path = Path(self.run.training.output_dir, "rollouts", f"buffer-{number + 1:04d}.jsonl")
            write_jsonl(path, (rollout.readable() for rollout in buffer.rollouts))


def _annotated(
    response: Response, policy: ScoreTable, reference: ScoreTable | None, valued: ScoreTable, name: str, place: int
) -> Response:
    scores = policy[name]
    entropy = _floats(scores, "entropy", place)
    return replace(
        response,
        logps=_floats(scores, "logp", place),
        ref_logps=() if reference is None else _floats(reference[name], "logp", place),
        values=_floats(valued[name], "value", place),
        entropy=sum(entropy) / max(len(entropy), 1),
    )


def _floats(scores: Scores, name: str, place: int) -> tuple[float, ...]:
    values: Tensor | None = vars(scores)[name]
    return () if values is None else tuple(values[place][scores.mask[place]].float().tolist())


def _targets(batch: Batch, returns: Sequence[Sequence[Sequence[float]] | None]) -> tuple[Tensor, Tensor]:
    """Returns and weights of a batch's scored tokens, [s] each; responses that take no part weigh nothing."""
    count = len(batch["score"]["targets"])
    device = batch["score"]["targets"].device
    wanted, weights = torch.zeros(2, count, device=device).unbind()
    tokens = batch["side"]["tokens"]
    for name, where in batch["roles"].items():
        number = int(name.rpartition(".")[2])
        for place, row in enumerate(returns):
            if row is None:
                continue
            mask = where["mask"][place]
            index = where["index"][place][mask]
            wanted[index] = torch.tensor(row[number], device=device)
            weights[index] = tokens[place, number, : len(index)].to(weights.dtype)
    return wanted, weights
