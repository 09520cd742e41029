# SPDX-License-Identifier: Apache-2.0
"""Checked samples, and what all builders need around them: order of age, chance from a seed, errors."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .. import verify
from ..data.questions import Question
from ..generate.seeds import seed_digest
from ..generate.types import Sample
from ..verify import Verdict


# LLaMA-Factory reads these anywhere in a turn as the place of a picture, video or sound.
MEDIA = re.compile(r"<(?:image|video|audio)>")


class RecipeError(ValueError):
    """Records or options that no data set can be built from, with the reason and what to do."""


@dataclass(frozen=True)
class Checked:
    """A sampled answer and what the verifier says about it.

    Attributes:
        sample: the answer.
        question: id of its question.
        iteration: round of the policy that gave it; 0 is the start.
        verdict: right or wrong, or unparsed.
    """

    sample: Sample
    question: str
    iteration: int
    verdict: Verdict

    @property
    def age(self) -> tuple[int, int, str]:
        """Sorts samples from the oldest to the newest: by iteration, then by k."""
        return self.iteration, self.sample.k, self.sample.id

    @property
    def text(self) -> str:
        """The answer without blanks around it."""
        return self.sample.text.strip()

    @property
    def cut(self) -> bool:
        """Whether the answer ran into the token limit."""
        return self.sample.completion.finish_reason == "length"

    def reference(self) -> dict[str, Any]:
        """How provenance names the sample; sample ids alone are unique within an iteration only."""
        return reference(self.sample, self.iteration)

    def to_row(self) -> dict[str, Any]:
        """The line of a checked-samples JSONL file."""
        return {
            "question": self.question,
            "iteration": self.iteration,
            "verdict": asdict(self.verdict),
            "sample": self.sample.to_row(),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Checked:
        """Reads what `to_row` wrote."""
        return cls(Sample.from_row(row["sample"]), row["question"], row["iteration"], Verdict(**row["verdict"]))


def reference(sample: Sample, iteration: int) -> dict[str, Any]:
    """How provenance names a sample."""
    return {"iteration": iteration, "id": sample.id, "policy": sample.policy}


def verify_samples(
    questions: Sequence[Question], samples: Iterable[Sample], profile: str, iteration: int
) -> list[Checked]:
    """Checks samples whose request id is the id of their question.

    Args:
        questions: the questions that were asked.
        samples: the answers.
        profile: name of a verifier profile.
        iteration: round of the policy that gave the answers.

    Raises:
        RecipeError: a sample belongs to none of the questions.
        VerifyError: there is no such profile.
    """
    asked = by_id(questions)
    checked = []
    for sample in samples:
        question = asked.get(sample.request)
        if question is None:
            raise RecipeError(
                f"Sample {sample.id!r} answers {sample.request!r}, which is not among the {len(asked)} questions. "
                "Give the file of questions that the samples were drawn for."
            )
        verdict = verify.check(
            profile, sample.text, question.answer, choices=question.choices, question=question.block
        )
        checked.append(Checked(sample, question.id, iteration, verdict))
    return checked


def by_id(questions: Iterable[Question]) -> dict[str, Question]:
    """Questions by their id.

    Raises:
        RecipeError: an id comes twice.
    """
    found: dict[str, Question] = {}
    for question in questions:
        if question.id in found:
            raise RecipeError(f"Two questions have the id {question.id!r}; each needs its own.")
        found[question.id] = question
    return found


def by_question(pool: Iterable[Checked]) -> dict[str, list[Checked]]:
    """Samples by question, the oldest first, whatever the order of the pool.

    Raises:
        RecipeError: the pool has a sample twice.
    """
    groups: dict[str, list[Checked]] = {}
    seen = set()
    for item in pool:
        key = (item.iteration, item.sample.id)
        if key in seen:
            raise RecipeError(
                f"Sample {item.sample.id!r} of iteration {item.iteration} is in the pool twice. "
                "Give each samples file once, in the order of the iterations."
            )
        seen.add(key)
        groups.setdefault(item.question, []).append(item)
    for group in groups.values():
        group.sort(key=lambda item: item.age)
    return groups


def chance(seed: int, *names: object) -> random.Random:
    """A random generator of its own for one use, so that no result depends on the order of rows."""
    return random.Random(seed_digest(seed, *names))


def rank(seed: int, *names: object) -> int:
    """A number to sort by: an order that looks random and depends on the names alone."""
    return int.from_bytes(seed_digest(seed, *names)[:8], "big")


def shown(text: str) -> str:
    """A sampled text as a prompt shows it: media placeholders that a model wrote stand for no picture."""
    return MEDIA.sub("", text).strip()
