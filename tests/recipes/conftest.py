# SPDX-License-Identifier: Apache-2.0
"""Questions and samples made by hand, and the published code's cases, which lie beside the project."""

from collections.abc import Callable, Sequence

import pytest

from llamafactory_mmself.data.questions import Question
from llamafactory_mmself.generate.types import Completion, Sample
from llamafactory_mmself.recipes.prompts import Prompts
from llamafactory_mmself.recipes.records import Checked
from llamafactory_mmself.verify import Verdict


@pytest.fixture(scope="session")
def prompts() -> Prompts:
    return Prompts.load()


@pytest.fixture
def sample() -> Callable[..., Sample]:
    def make(request: str, text: str, k: int = 0, policy: str = "p0", finish: str = "stop") -> Sample:
        return Sample(f"{request}#{k}", request, k, policy, Completion(text, (), finish))

    return make


@pytest.fixture
def checked(sample) -> Callable[..., Checked]:
    """A checked sample; `answer` None is an unparsed text."""

    def make(
        question: str,
        text: str,
        correct: bool,
        iteration: int = 0,
        k: int = 0,
        parsed: bool = True,
        finish: str = "stop",
    ) -> Checked:
        verdict = Verdict(correct, parsed, "A" if parsed else None, "test")
        return Checked(sample(question, text, k, f"p{iteration}", finish), question, iteration, verdict)

    return make


@pytest.fixture
def questions(tmp_path) -> Sequence[Question]:
    """Three questions with pictures, four options each."""
    made = []
    for number, answer in enumerate("BCA"):
        image = tmp_path / f"{number}.png"
        image.write_bytes(b"")
        choices = ("red", "green", "blue", "grey")
        made.append(Question(f"q{number}", f"Which colour has shape {number}?", answer, (str(image),), choices))
    return made
