# SPDX-License-Identifier: Apache-2.0
"""A-OKVQA (Schwenk et al. 2022), read by `data.sources.aokvqa`."""

from __future__ import annotations

from collections.abc import Iterator

from ...metrics.base import Item
from .common import LayoutError, Place, choice_item
from .questions import benchmark_questions


def read(place: Place, split: str = "val", direct: bool = False) -> Iterator[Item]:
    """Yields the questions. Truth: `answer` (a letter), `choices`, `direct_answers` (ten),
    `difficult_direct_answer` (whether an answer without options is hard to tell), `rationales`.

    Args:
        place: where the annotations are, with COCO's pictures of 2017 below.
        split: `val`, or `train` and `dev`, which share the training questions; the test set's answers are not
            published.
        direct: ask without the options.
    """
    for question in benchmark_questions(place, "aokvqa", split):
        people = question.extra.get("direct_answers")
        if not isinstance(people, list):
            raise LayoutError(
                f"{place.folder}, question {question.id}, field `direct_answers`: a list of texts is expected."
            )
        item = choice_item(
            question.id,
            question.text,
            question.images,
            question.choices or (),
            answer=question.answer,
            direct_answers=[str(text).strip() for text in people],
            difficult_direct_answer=bool(question.extra.get("difficult_direct_answer")),
            rationales=[text.strip() for text in question.extra.get("rationales", ())],
        )
        yield Item(item.id, item.truth["question"], item.images, item.truth) if direct else item
