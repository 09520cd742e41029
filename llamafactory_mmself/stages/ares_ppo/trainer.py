# SPDX-License-Identifier: Apache-2.0
"""The trainer of stage `ares_ppo`: `TreeTrainer` on a buffer that it fills itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ...losses.types import LossOutput
from ...plugin import lf
from ...tree.batch import Batch
from ...tree.scores import ScoreTable
from ...tree.unwrap import bare_model
from ..forward import coarsest_dtype
from ..trainer import MetricSums, TreeTrainer, selected
from .buffer import Buffer
from .collector import TOLERANCES, Collector
from .critic import critic_apart, critic_speaks, load_critic, save_critic, without_critic
from .loader import Place, RolloutLoader, Shape


logger = lf.get_logger(__name__)


class AresPPOTrainer(TreeTrainer):
    """Rollout, annotation and passes over the buffer, round by round, in one epoch of the trainer's own counting.

    Args:
        collector: fills the buffer.
        shape: how the run is cut up.
        kwargs: see `TreeTrainer`.

    Attributes:
        buffer: the rollouts of the round.
        place: where the run stands; both are set before training when a run is resumed.
    """

    def __init__(self, *, collector: Collector, shape: Shape, **kwargs: Any) -> None:
        self.collector = collector
        self.shape = shape
        self.buffer = Buffer()
        self.place = Place()
        self._step = MetricSums()
        super().__init__(**kwargs)
        self.add_callback(_AfterStep(self))

    # Batches.

    def get_train_dataloader(self) -> Any:
        """One epoch with all rounds of the run; nothing is skipped when a run is resumed, it goes on where it was."""
        published = self._run.stage.quirks == "published"
        loader = RolloutLoader(
            shape=self.shape,
            rank=self.args.process_index,
            seed=None if published else self.args.seed,
            fill=lambda number: self.collector.fill(self, number),
            rows=self.buffer.rows,
            collate=self.data_collator,
            dataset=self.train_dataset,
        )
        loader.place = self.place
        return loader

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> Tensor:
        """Tokens of all ranks and micro-batches of a step."""
        counts = [batch["side"]["tokens"][batch["valid"]].sum() for batch in batch_samples]
        return self.sum_over_ranks(sum(counts, torch.zeros((), device=device)))

    def prepared(self, batch: Batch) -> Batch:
        """A batch on the device, with what is known about its pictures."""
        batch = self._prepare_inputs(batch)
        return self._features.lend(self.model_wrapped, batch)

    # Scores.

    def both(self, batch: Batch) -> tuple[ScoreTable, ScoreTable | None]:
        """Scores of policy and reference; a prepared batch."""
        with self.compute_loss_context_manager():
            reference = None if self._reference is None else self._reference(self.model_wrapped, batch)
        return self.policy_scores(batch), reference

    def policy_scores(self, batch: Batch) -> ScoreTable:
        """Scores of the policy; a prepared batch."""
        with self.compute_loss_context_manager():
            return self._scorer(self.model_wrapped, batch)

    def critic_scores(self, batch: Batch) -> ScoreTable:
        """Scores whose values are those of a critic with an adapter of its own; a prepared batch."""
        with self.compute_loss_context_manager(), critic_speaks(self.model), self.collector.scorer.critic_alone():
            return self._scorer(self.model, batch)

    def changed(self) -> None:
        """Tells an optimizer of DeepSpeed, which has a copy of all that it trains, that weights are other ones now.

        To be called before the first step only: later its copy is the more exact one.
        """
        optimizer = self.model_wrapped.optimizer if self.is_deepspeed_enabled else None
        if hasattr(optimizer, "refresh_fp32_params"):  # stage 0 in fp32 has no copy
            optimizer.refresh_fp32_params()

    def score(self, model: nn.Module, batch: Batch) -> tuple[ScoreTable, ScoreTable | None]:
        """The policy alone: the reference has had its say when the buffer was annotated."""
        batch = self._features.lend(model, batch)
        return selected(self._scorer(model, batch), batch["valid"]), None

    def batch_loss(self, model: nn.Module, batch: Batch) -> LossOutput:
        """See `TreeTrainer.batch_loss`; what the guards look at is added up."""
        output = super().batch_loss(model, batch)
        self._step.add({name: output.metrics[name] for name in ("approx_kl", "entropy", "ratio_deviation")})
        return output

    def after_step(self) -> None:
        """Ends the passes over the buffer if the policy has gone too far, or its entropy is too low."""
        means, args = self._step.pop(self.sum_over_ranks), self._run.stage
        if self.place.number == 0 and self.place.batch == self.shape.accumulation:
            self._check_first(means)
        reasons = []
        if args.target_kl and means["approx_kl"] > args.target_kl:
            reasons.append(f"its distance from the sampling policy, {means['approx_kl']:.4g}, is over target_kl")
        if args.min_entropy and means["entropy"] < args.min_entropy:
            reasons.append(f"its entropy, {means['entropy']:.4g}, is under min_entropy")
        if reasons and not self.place.stopped:
            self.place.stopped = True
            logger.info_rank0(f"Step {self.state.global_step} ends buffer {self.place.round + 1}: {reasons[0]}.")

    def _check_first(self, means: Mapping[str, float]) -> None:
        """Before the first step on a buffer, the policy is the one that sampled."""
        if means["ratio_deviation"] > TOLERANCES[coarsest_dtype(bare_model(self.model), self._run)]:
            logger.warning_rank0(
                f"In the first step on buffer {self.place.round + 1}, ratios differ from 1 by "
                f"{means['ratio_deviation']:.1e} in the mean: training and annotation compute different log-probs."
            )

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the buffer's figures to each logged loss."""
        if "loss" in logs:
            logs.update(self.buffer.figures)
            logs["buffer"] = float(self.place.round + 1)
        super().log(logs, *args, **kwargs)

    # Checkpoints: the critic's head lies beside the model, and the buffer with it.

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        if self.args.should_save:  # before the state, which marks a checkpoint as complete
            folder.mkdir(parents=True, exist_ok=True)
            self.buffer.save(folder, self.place)
        super()._save_checkpoint(model, trial)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        with critic_apart(self.model):
            super()._save(output_dir, without_critic(state_dict))
        save_critic(self.model, Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        loaded = self.model if model is None else model
        with critic_apart(loaded):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        load_critic(loaded, Path(resume_from_checkpoint))

    def resume(self, checkpoint: str) -> None:
        """Takes the buffer of a checkpoint, and the place in it."""
        found, place = Buffer.load(Path(checkpoint))
        vars(self.buffer).update(vars(found))
        vars(self.place).update(vars(place))


class _AfterStep(TrainerCallback):
    """Looks at each step before a checkpoint of it is written."""

    def __init__(self, trainer: AresPPOTrainer) -> None:
        self._trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """See `AresPPOTrainer.after_step`."""
        self._trainer.after_step()
