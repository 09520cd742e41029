# SPDX-License-Identifier: Apache-2.0
"""The trainer of online strategies: `TreeTrainer` on what a `Supply` gives out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ....files import FileError
from ....generate.types import EngineError
from ....plugin import lf
from ....tree.batch import Batch
from ....tree.scores import ScoreTable
from ....tree.unwrap import unwrap
from ...forward import evaluating
from ...trainer import TreeTrainer, selected
from ..arguments import GRPO
from .entries import Entry, Group
from .loader import OnlineLoader
from .rows import RowMaker
from .supply import Supply


logger = lf.get_logger(__name__)


class OnlineTrainer(TreeTrainer):
    """Samples and trains in one epoch of the trainer's own counting.

    Args:
        rows: makes rows of entries.
        supply: makes the supply, for the trainer: it samples with its model.
        kwargs: see `TreeTrainer`.

    Attributes:
        supply: of the run.
    """

    def __init__(self, *, rows: RowMaker, supply: Callable[[OnlineTrainer], Supply], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._rows = rows
        self.supply = supply(self)

    # Batches.

    def get_train_dataloader(self) -> Any:
        """One epoch with all steps of the run; nothing is skipped when a run is resumed, it goes on where it was."""
        return OnlineLoader(
            supply=self.supply,
            rows=self._rows,
            collate=self.data_collator,
            dataset=self.train_dataset,
            step=lambda: self.state.global_step,
            ended=self._ended,
        )

    def _ended(self) -> None:
        """The prompts have run out before the last step."""
        logger.warning_rank0(
            f"The prompts have run out: training ends after step {self.state.global_step} of {self.state.max_steps}."
        )
        self.control.should_training_stop = True

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> Tensor:
        """Pairs of all ranks and micro-batches of a step; for grpo responses."""
        if not self._grpo:
            return super()._get_num_items_in_batch(batch_samples, device)
        counts = [batch["side"]["tokens"][batch["valid"]].any(-1).sum() for batch in batch_samples]
        return self.sum_over_ranks(sum(counts, torch.zeros((), device=device)))

    # Scores.

    @property
    def _grpo(self) -> bool:
        return bool(self._run.stage.strategy == GRPO)

    def score(self, model: nn.Module, batch: Batch) -> tuple[ScoreTable, ScoreTable | None]:
        """See `TreeTrainer.score`; without an image term the reference has scored groups when they were sampled."""
        if not self._grpo or self._run.stage.grpo_image_term != "none":
            return super().score(model, batch)
        batch = self._features.lend(model, batch)
        return selected(self._scorer(model, batch), batch["valid"]), None

    def annotate(self, group: Group) -> tuple[ScoreTable, ScoreTable | None]:
        """Scores of a group's responses with policy and reference as they are, without gradient.

        The model is not called through its data-parallel wrapper: ranks have different numbers of groups.
        """
        entry = Entry("", group.position, group.step, group.answers, "group", advantages=(0.0,) * len(group.answers))
        batch = self._prepare_inputs(self.data_collator(self._rows([entry])))
        model = unwrap(self.model_wrapped)
        with evaluating(self.model_wrapped), torch.no_grad(), self.compute_loss_context_manager():
            reference = None if self._reference is None else self._reference(model, batch)
            return self._scorer(model, batch), reference

    # Figures.

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the figures of sampling and the times of phases to each logged loss."""
        if "loss" in logs:
            logs.update(self.supply.figures())
            logs.update(self.supply.clock.figures())
        super().log(logs, *args, **kwargs)

    # Checkpoints.

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """See `Trainer.train`.

        Raises:
            ServiceDead, EngineError, FileError: what has stopped sampling, on all ranks, after a checkpoint.
        """
        try:
            return super().train(*args, **kwargs)
        except (EngineError, FileError) as error:
            self._stopped(error)
            raise
        finally:
            self.supply.close()

    def _stopped(self, error: Exception) -> None:
        folder = Path(self._folder)
        logger.error(f"Sampling has stopped on rank {self.args.process_index}: {error}")
        if not (folder / TRAINER_STATE_NAME).exists():
            self._save_checkpoint(self.model, trial=None)
        logger.warning_rank0(f"The run can be resumed from {folder}.")

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self.supply.save(self._folder, self.args.should_save)  # before the state, which marks a checkpoint as complete
        super()._save_checkpoint(model, trial)

    @property
    def _folder(self) -> Path:
        return Path(self._get_output_dir(trial=None), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
