# SPDX-License-Identifier: Apache-2.0
"""Weights of checkpoints, under whatever names they were saved."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedModel, Trainer


class CheckpointError(ValueError):
    """A checkpoint that does not hold all weights of its model."""


def load_weights(model: PreTrainedModel, folder: str) -> None:
    """Loads the weights of a checkpoint of a whole model.

    `save_pretrained` writes the names that a family's published weights have (`model.layers`), and for some families,
    Qwen2-VL among them, these are not the model's own (`model.language_model.layers`). The stock trainer loads by own
    names, passes over all others with a warning, and would go on with weights of the start.

    Args:
        model: the bare model; its precision stays what it is.
        folder: the checkpoint.

    Raises:
        CheckpointError: a weight is missing.
    """
    exact = torch.promote_types(model.dtype, torch.float32)  # weights of several precisions are rounded in neither way
    loaded, found = type(model).from_pretrained(
        folder, config=copy.deepcopy(model.config), dtype=exact, output_loading_info=True
    )
    if found["missing_keys"]:
        names = sorted(found["missing_keys"])
        raise CheckpointError(f"The checkpoint {folder} lacks {len(names)} weights, {names[0]} among them.")
    model.load_state_dict(loaded.state_dict())


if TYPE_CHECKING:
    _Trainer = Trainer
else:
    _Trainer = object


class LoadsByName(_Trainer):
    """A trainer that resumes from whole models, and ends with the best one, by `load_weights`.

    It stands before `Trainer` among the bases. Adapters, DeepSpeed and FSDP load as they do in the stock trainer.
    """

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        target = self.model if model is None else model
        if self._is_whole(target):
            load_weights(target, resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if self._is_whole(self.model):
            load_weights(self.model, str(self.state.best_model_checkpoint))
        else:
            super()._load_best_model()

    def _is_whole(self, model: Any) -> bool:
        sharded = self.is_deepspeed_enabled or self.is_fsdp_enabled
        return isinstance(model, PreTrainedModel) and not sharded
