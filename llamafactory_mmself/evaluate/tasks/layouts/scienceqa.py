# SPDX-License-Identifier: Apache-2.0
"""ScienceQA (Lu et al. 2022), read by `data.sources.scienceqa`."""

from __future__ import annotations

from collections.abc import Iterator

from ...metrics.base import Item
from .common import LayoutError, Place, choice_item
from .questions import benchmark_questions


def read(place: Place, split: str = "test") -> Iterator[Item]:
    """Yields the questions of a split, hint first; about half of them have a picture.

    Truth: `answer` (a letter), `choices`, `subject`, `grade`, `hint` ("" without), `image` (whether there is one),
    `category` (the topic), `lecture`, `solution`.
    """
    for question in benchmark_questions(place, "scienceqa", split):
        facts = {name: str(value).strip() for name, value in question.extra.items()}
        for name in ("subject", "grade"):
            if not facts.get(name):
                raise LayoutError(f"{place.folder}, question {question.id}, field `{name}`: a text is expected.")
        hint = facts.get("hint", "")
        yield choice_item(
            question.id,
            f"Context: {hint}\n{question.text}" if hint else question.text,
            question.images,
            question.choices or (),
            answer=question.answer,
            subject=facts["subject"],
            grade=facts["grade"],
            hint=hint,
            image=bool(question.images),
            category=facts.get("topic", ""),
            lecture=facts.get("lecture", ""),
            solution=facts.get("solution", ""),
        )
