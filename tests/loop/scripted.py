# SPDX-License-Identifier: Apache-2.0
"""A model by script for Sherlock's loop: whole responses about the toy world, right or wrong by the seed.

Training is real; only sampling is replaced, because a model that answers in sections takes minutes to train.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from llamafactory_mmself.data.questions import Question, read_questions
from llamafactory_mmself.data.tagged import read_tagged
from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.jobs import SampleJob, run_job
from llamafactory_mmself.generate.policy import policy_of
from llamafactory_mmself.generate.types import Completion, Request, SamplingParams
from llamafactory_mmself.toyworld import forms
from llamafactory_mmself.toyworld.choices import scene_of
from llamafactory_mmself.toyworld.start import wrong_answer


class ScriptedEngine:
    """Answers two questions of three rightly; goes on from beginnings to a wrong end."""

    name = "hf"

    def __init__(self, policy: str, questions: dict[str, Question]) -> None:
        self.policy = policy
        self.questions = questions

    def generate(self, requests: Sequence[Request], params: SamplingParams, seed: int) -> list[list[Completion]]:
        return [[self._answer(request, seed, k) for k in range(params.n)] for request in requests]

    def _answer(self, request: Request, seed: int, k: int) -> Completion:
        id, _, purpose = request.id.partition("@")
        row, dice = self.questions[id], Random(f"{id} {k}")
        right, wrong = forms.tagged(row, scene_of(row)), wrong_answer(row, scene_of(row), dice, forms.tagged)
        if purpose == "tail":
            text = _rest(wrong, request.prefix)
        else:
            text = str(wrong if dice.random() < 0.3 and purpose in ("", "0") else right)
        return Completion(text, (1, 2, 3), "stop", None, 7)

    def close(self) -> None:
        """Nothing to free."""


def _rest(whole: str, prefix: str) -> str:
    """The sections of a response that a beginning leaves."""
    closed = prefix.count("</")
    if prefix.count("<") > 2 * closed:  # within the reasoning
        return f" so it is. </REASONING>\n\n{whole[read_tagged(whole).sections[-1].start :]}"
    return whole[read_tagged(whole).sections[closed].start :]


class ScriptedSampler:
    """Stands in for the loop's sampler."""

    def __init__(self, *files: Path) -> None:
        self.questions = {question.id: question for file in files for question in read_questions(file)}

    def run(self, job: SampleJob, config: EngineConfig) -> Path:
        """Samples a job as the loop's sampler does, in batches that survive a kill."""
        engine = ScriptedEngine(policy_of(config), self.questions)
        return run_job(job, config, engine=engine, progress=False)

    def __enter__(self) -> ScriptedSampler:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to free."""
