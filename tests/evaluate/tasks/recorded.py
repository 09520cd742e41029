# SPDX-License-Identifier: Apache-2.0
"""Models and judges that say what they were told to say."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.jobs import SampleJob, run_job
from llamafactory_mmself.generate.types import Completion, EngineError, Request, SamplingParams


CONFIG = EngineConfig(name="openai", api_base="http://localhost:1/v1", api_model="recorded", batch_size=2)


class Recorded:
    """Answers by request id; answers to ids in `cut` reach the limit of tokens.

    Args:
        answers: id -> text.
        cut: ids.
        fails_after: calls after which the engine breaks down.
        policy: which weights it claims to have.
    """

    name = "openai"

    def __init__(
        self,
        answers: Mapping[str, str],
        cut: Sequence[str] = (),
        fails_after: int | None = None,
        policy: str = "recorded",
    ) -> None:
        self.policy = policy
        self.answers, self.cut, self.fails_after = answers, cut, fails_after
        self.asked: list[Request] = []
        self.params: SamplingParams | None = None
        self.calls = 0

    def generate(self, requests: Sequence[Request], params: SamplingParams, seed: int) -> list[list[Completion]]:
        if self.fails_after is not None and self.calls >= self.fails_after:
            raise EngineError("out of memory")
        self.calls += 1
        self.asked += requests
        self.params = params
        return [
            [Completion(self.answers[request.id], (1, 2), "length" if request.id in self.cut else "stop", None, 10)]
            for request in requests
        ]

    def close(self) -> None:
        """Nothing to free."""


class RecordedJudge(Recorded):
    """Answers by what its prompt holds: the first marker that occurs decides."""

    def __init__(self, verdicts: Mapping[str, str]) -> None:
        super().__init__({}, policy="judge")
        self.verdicts = verdicts

    def generate(self, requests: Sequence[Request], params: SamplingParams, seed: int) -> list[list[Completion]]:
        self.calls += 1
        self.asked += requests
        texts = [request.messages[-1].content for request in requests]
        found = [next(verdict for marker, verdict in self.verdicts.items() if marker in text) for text in texts]
        return [[Completion(verdict, (1,), "stop", None, 10)] for verdict in found]


def runner(model: Recorded) -> Callable[[SampleJob], Path]:
    """Samples jobs with a recorded model."""
    return lambda job: run_job(job, CONFIG, engine=model, progress=False)
