# SPDX-License-Identifier: Apache-2.0
"""The toy world's judge and describer as a chat model: it knows OViP's prompts, and answers nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..generate.services import DescribeItem, ScoreItem
from ..generate.types import Completion, Request, SamplingParams
from ..prompts import load_prompt
from .services import ExactDescriber, ExactJudge


class ToyChat:
    """An engine that reads the package's prompts of OViP back and answers them exactly; see `generate.types.Engine`.

    Attributes:
        name: `toy`.
        policy: one word; it never changes.
    """

    name = "toy"
    policy = "toy world"

    def __init__(self) -> None:
        self._judge, self._describer = ExactJudge(), ExactDescriber()
        answers: Mapping[str, tuple[tuple[str, ...], Callable[[Mapping[str, str], tuple[str, ...]], str | None]]] = {
            "ovip_score.txt": (("picture", "question", "reference", "response", "reply"), self._score),
            "ovip_describe.txt": (("question", "chosen", "rejected", "reply"), self._describe),
        }
        self._known = [(load_prompt(None, file, names), answer) for file, (names, answer) in answers.items()]

    def generate(self, requests: Sequence[Request], params: SamplingParams, seed: int) -> list[list[Completion]]:
        """See `Engine.generate`; nothing is left to chance."""
        return [[Completion(self._answer(request), (), "stop")] * params.n for request in requests]

    def close(self) -> None:
        """Nothing is open."""

    def _answer(self, request: Request) -> str:
        text = request.messages[-1].content
        for prompt, answer in self._known:
            values = prompt.values(text.replace("<image>", "").strip())
            if values is not None:
                return answer(values, request.images) or "I cannot tell."
        return "I know nothing but the toy world."

    def _score(self, values: Mapping[str, str], images: tuple[str, ...]) -> str | None:
        item = ScoreItem("", values["question"], values["reference"], values["response"], images)
        (score,) = self._judge.score([item])
        return None if score is None else f"Score: [{score:g}]"

    def _describe(self, values: Mapping[str, str], images: tuple[str, ...]) -> str | None:
        item = DescribeItem("", values["question"], values["chosen"], values["rejected"], "", images)
        (description,) = self._describer.describe([item])
        return None if description is None else f"Description: {description}"
