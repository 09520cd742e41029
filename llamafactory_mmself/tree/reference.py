# SPDX-License-Identifier: Apache-2.0
"""The policy's reference: where it stood before training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from .batch import Batch
from .logp_store import LogpStore
from .scores import Scorer, Scores, ScoreTable, detach
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


class MissingLogpsError(ValueError):
    """A sample whose reference log-probs are not in the cache."""


@dataclass(frozen=True)
class SampleIds:
    """Which samples a batch holds.

    Attributes:
        digests: see `logp_store.sample_digest`.
        names: for messages.
    """

    digests: tuple[str, ...]
    names: tuple[str, ...]


class Policy:
    """The policy itself: right before its first step."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def __call__(self, model: nn.Module, batch: Batch) -> ScoreTable:
        """See `Reference`."""
        with torch.no_grad():
            return detach(self._scorer(model, batch))


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


class Cached:
    """What a reference said before the first step, read from disk; batches have to hold `samples`."""

    def __init__(self, store: LogpStore) -> None:
        self._store = store

    def __call__(self, model: nn.Module, batch: Batch) -> ScoreTable:
        """See `Reference`.

        Raises:
            MissingLogpsError: naming a sample that is not in the cache.
        """
        samples: SampleIds = batch["samples"]
        for digest, name in zip(samples.digests, samples.names, strict=True):
            if digest not in self._store:
                raise missing(name, self._store)
        known = [self._store.get(digest) for digest in samples.digests]
        device, table = batch["valid"].device, {}
        for role in dict.fromkeys(role for logps in known for role in logps):
            values = [logps.get(role, torch.empty(0)) for logps in known]
            lengths = torch.tensor([len(value) for value in values])
            padded = pad_sequence(values, batch_first=True)
            mask = torch.arange(padded.shape[1]) < lengths[:, None]
            table[role] = Scores(padded.to(device), mask.to(device))
        return table


def missing(name: str, store: LogpStore) -> MissingLogpsError:
    """The error for a sample that the cache lacks."""
    return MissingLogpsError(
        f"The reference log-probs of sample {name} are not in {store.folder}, although all of them were there before "
        "the first step: was a picture changed, or the folder emptied? Start again: what is missing is computed anew; "
        "or set `ref_logps: live`."
    )
