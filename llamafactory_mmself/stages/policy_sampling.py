# SPDX-License-Identifier: Apache-2.0
"""Responses of the policy in training, for every stage that samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from torch import nn

from ..generate.decoding import Ending
from ..generate.encoding import EncodedPrompt, PromptEncoder
from ..generate.hf import sample_prompts
from ..generate.types import Completion, SamplingParams
from ..tree.batch import DenseCollator
from ..tree.unwrap import bare_model
from .forward import evaluating


class PolicySampler:
    """Samples with the weights that are being trained.

    Args:
        encoder: prompts to ids and ids to text.
        collate: collator of the model.
        params: how to sample.
        precision: gives the context that training's forward runs in (autocast).
    """

    def __init__(
        self,
        encoder: PromptEncoder,
        collate: DenseCollator,
        params: SamplingParams,
        precision: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._collate = collate
        self._params = params
        self._precision = precision
        self._ending = Ending(frozenset(encoder.stop_ids), (), encoder.decode)
        self._banned = sorted(encoder.rows.media_tokens)  # a response must not ask for pictures that are not there

    def __call__(self, model: nn.Module, prompts: Sequence[EncodedPrompt], seed: int) -> list[list[Completion]]:
        """`params.n` responses to each prompt, sampled together: they depend on the batch that they are in."""
        bare = bare_model(model)
        with evaluating(model), self._precision():
            return sample_prompts(bare, prompts, self._collate, self._params, seed, self._ending, self._banned)
