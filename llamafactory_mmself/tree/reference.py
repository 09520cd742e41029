# SPDX-License-Identifier: Apache-2.0
"""The policy's reference: where it stood before training."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from .batch import Batch
from .scores import Scorer, ScoreTable, detach
from .unwrap import unwrap


class Reference(Protocol):
    """Scores a batch as the policy did before the first step."""

    def __call__(self, model: nn.Module, batch: Batch) -> ScoreTable:
        """Log-probs of all roles, without gradient.

        Args:
            model: the wrapped policy.
            batch: a batch of the same engine.
        """
        ...


class AdapterOff:
    """The policy with its adapter switched off: right for a new adapter on the model that training starts from."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def __call__(self, model: nn.Module, batch: Batch) -> ScoreTable:
        """See `Reference`."""
        with torch.no_grad(), unwrap(model).disable_adapter():
            return detach(self._scorer(model, batch))


class FrozenModel:
    """A second model that never learns: a copy of the start, or what the user names as `ref_model`."""

    def __init__(self, scorer: Scorer, model: nn.Module) -> None:
        self._scorer = scorer
        self._model = model

    def __call__(self, model: nn.Module, batch: Batch) -> ScoreTable:
        """See `Reference`."""
        with torch.no_grad():
            return detach(self._scorer(self._model, batch))
