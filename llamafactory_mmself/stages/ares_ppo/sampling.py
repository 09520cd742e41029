# SPDX-License-Identifier: Apache-2.0
"""Responses of the policy in training, or ready-made ones from a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from ...generate.decoding import Ending
from ...generate.encoding import EncodedPrompt, PromptEncoder
from ...generate.hf import sample_prompts
from ...generate.jobs import read_samples
from ...generate.types import Completion, SamplingParams
from ...tree.batch import DenseCollator
from ...tree.unwrap import bare_model
from ..base import SettingError
from ..forward import evaluating
from .arguments import AresPPOArguments
from .prompts import Asked
from .rollouts import Response, Rollout


class Sampler(Protocol):
    """Where responses come from."""

    def __call__(self, model: nn.Module, asked: Sequence[Asked], seed: int) -> list[Rollout]:
        """K responses for each question."""
        ...


class PolicySampler:
    """Samples with the weights that are being trained.

    Args:
        encoder: prompts to ids and ids to text.
        collate: collator of the model.
        args: the stage's arguments.
        precision: gives the context that training's forward runs in (autocast).
    """

    def __init__(
        self,
        encoder: PromptEncoder,
        collate: DenseCollator,
        args: AresPPOArguments,
        precision: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._encoder = encoder
        self._collate = collate
        self._precision = precision
        self._ending = Ending(frozenset(encoder.stop_ids), (), encoder.decode)
        self._banned = sorted(encoder.rows.media_tokens)  # a response must not ask for pictures that are not there
        self._params = SamplingParams(
            n=args.rollout_n,
            temperature=args.rollout_temperature,
            top_p=args.rollout_top_p,
            top_k=args.rollout_top_k,
            max_new_tokens=args.rollout_max_new_tokens,
            logprobs=True,
        )

    def __call__(self, model: nn.Module, asked: Sequence[Asked], seed: int) -> list[Rollout]:
        """See `Sampler`. A question's responses depend on the batch that it is in."""
        bare = bare_model(model)
        encoded = [EncodedPrompt(item.prompt, item.request.images) for item in asked]
        with evaluating(model), self._precision():
            found = sample_prompts(bare, encoded, self._collate, self._params, seed, self._ending, self._banned)
        return [
            Rollout(item.question.id, item.prompt, item.request.images, tuple(map(_response, completions)))
            for item, completions in zip(asked, found, strict=True)
        ]


class FileSampler:
    """Responses of `mmself sample`, by question.

    Args:
        path: the samples file.
        count: responses for each question.
        media: tokens that stand for pictures and videos.

    Raises:
        SettingError: a sample has no token ids, or asks for a picture.
        FileError: the file cannot be read.
    """

    def __init__(self, path: Path, count: int, media: frozenset[int] = frozenset()) -> None:
        self._path = path
        self._count = count
        self._found: dict[str, list[Completion]] = {}
        for item in read_samples(path):
            if not item.completion.token_ids:
                raise SettingError(
                    f"{path}: sample {item.id} has no token ids, which endpoints do not tell; sample with hf or vllm."
                )
            if media & set(item.completion.token_ids):
                raise SettingError(f"{path}: sample {item.id} holds a picture's token; remove it.")
            self._found.setdefault(item.request, []).append(item.completion)

    def __call__(self, model: nn.Module, asked: Sequence[Asked], seed: int) -> list[Rollout]:
        """See `Sampler`.

        Raises:
            SettingError: a question has too few samples.
        """
        found = []
        for item in asked:
            completions = self._found.get(item.question.id, [])[: self._count]
            if len(completions) < self._count:
                raise SettingError(
                    f"{self._path} has {len(completions)} samples of question {item.question.id!r}, and rollout_n is "
                    f"{self._count}."
                )
            responses = tuple(map(_response, completions))
            found.append(Rollout(item.question.id, item.prompt, item.request.images, responses))
        return found


def _response(completion: Completion) -> Response:
    return Response(completion.token_ids, completion.text, completion.finish_reason, completion.logprobs or ())
