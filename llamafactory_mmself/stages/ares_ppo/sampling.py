# SPDX-License-Identifier: Apache-2.0
"""Responses of the policy in training, or ready-made ones from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch import nn

from ...generate.encoding import EncodedPrompt
from ...generate.jobs import read_samples
from ...generate.types import Completion, SamplingParams
from ..base import SettingError
from ..policy_sampling import PolicySampler
from .arguments import AresPPOArguments
from .prompts import Asked
from .rollouts import Response, Rollout


class Sampler(Protocol):
    """Where responses come from."""

    def __call__(self, model: nn.Module, asked: Sequence[Asked], seed: int) -> list[Rollout]:
        """K responses for each question."""
        ...


class QuestionSampler:
    """Samples with the weights that are being trained.

    Args:
        sampler: of the policy.
    """

    def __init__(self, sampler: PolicySampler) -> None:
        self._sampler = sampler

    def __call__(self, model: nn.Module, asked: Sequence[Asked], seed: int) -> list[Rollout]:
        """See `Sampler`. A question's responses depend on the batch that it is in."""
        found = self._sampler(model, [EncodedPrompt(item.prompt, item.request.images) for item in asked], seed)
        return [
            Rollout(item.question.id, item.prompt, item.request.images, tuple(map(_response, completions)))
            for item, completions in zip(asked, found, strict=True)
        ]


def sampling_params(args: AresPPOArguments) -> SamplingParams:
    """How the stage samples."""
    return SamplingParams(
        n=args.rollout_n,
        temperature=args.rollout_temperature,
        top_p=args.rollout_top_p,
        top_k=args.rollout_top_k,
        max_new_tokens=args.rollout_max_new_tokens,
        logprobs=True,
    )


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
