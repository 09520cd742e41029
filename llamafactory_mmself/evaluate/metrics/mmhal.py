# SPDX-License-Identifier: Apache-2.0
"""MMHal-Bench: a judge rates answers from 0 to 6."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...generate.forms import Form
from ...generate.judge import JudgeItem
from .base import PARSED, Answer, Columns, Figures, Item
from .columns import PART, Quirks, by_part, check_quirks, column, groups, mean, need, parts
from .judged import Judged, asked


# The types of the official file, whose questions go through them in this order, twelve times.
TYPES = ("attribute", "adversarial", "comparison", "counting", "relation", "environment", "holistic", "other")
HALLUCINATED = 3  # ratings below it tell of a hallucination


@dataclass(frozen=True)
class Rating:
    """A reply with exactly one rating: `Rating: 5`, in bold or not, followed by anything, however often it is told.

    Attributes:
        loose: take 1 out of "Rating: 10" and 3 out of "Rating: 3.5", as the published scripts do.
    """

    loose: bool = False

    @property
    def values(self) -> Mapping[str, str]:
        """None."""
        return {}

    def parse(self, text: str) -> int | None:
        """The rating, None for none or several."""
        end = "" if self.loose else r"(?!\d|\.\d)"
        found = set(re.findall(rf"rating[*_]*\s*:\s*[*_]*\s*([0-6]){end}", text.lower()))
        every = set(re.findall(r"rating[*_]*\s*:\s*[*_]*\s*(\d+(?:\.\d+)?)", text.lower()))
        one = len(found) == 1 and (self.loose or every == found)
        return int(found.pop()) if one else None


@dataclass(frozen=True)
class MMHal(Judged):
    """MMHal-Bench (arXiv 2309.14525), the judge of which sees the picture.

    Figures: `score`, the mean rating, from 0 (uninformative, with hallucination) to 6; `hallucination_rate`, the share
    of ratings below 3, and `informativeness`, the share of ratings other than 0 and 3, both in percent; each also by
    type of question, as `score/counting`.
    Truth: `answer`, the human's; `image_content`, a list of things (may be missing); `question_type`.

    Replies without exactly one rating are left out of all figures, and counted by the column `parsed`. With
    quirks="published" they are rated 0, "Rating: 10" is a 1, and types go by place (the n-th item is of type n mod 8)
    instead of `question_type`.

    Attributes:
        picture: whether the judge sees the picture; the original shows it a list of things only.
        quirks: what is done with unreadable replies.
    """

    picture: bool = True
    quirks: Quirks = "fixed"
    name: ClassVar[str] = "mmhal"
    headline: ClassVar[str] = "score"
    version: ClassVar[int] = 1
    prompt: ClassVar[str] = "eval_mmhal.txt"
    placeholders: ClassVar[tuple[str, ...]] = ("contents", "question", "reference", "answer")
    form: ClassVar[Form] = Rating()

    def __post_init__(self) -> None:
        check_quirks(self.quirks)

    def question(self, item: Item, text: str) -> JudgeItem:
        """What the judge is asked."""
        contents = item.truth.get("image_content") or ["not told"]
        values = {
            "contents": contents if isinstance(contents, str) else ", ".join(map(str, contents)),
            "question": asked(item),
            "reference": str(need(item, "answer", "the human's answer")),
            "answer": text,
        }
        return JudgeItem(item.id, values, item.images if self.picture else ())

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        self.need_verdicts(answers)
        form = Rating(loose=self.quirks == "published")
        ratings = [form.parse(answer.verdict or "") for answer in answers]
        types = (
            {
                PART + kind: column(n % len(TYPES) == place for n in range(len(answers)))
                for place, kind in enumerate(TYPES)
            }
            if self.quirks == "published"
            else parts(answers, "question_type")
        )
        return {
            "rating": column(rating or 0 for rating in ratings),
            PARSED: column(rating is not None for rating in ratings),
            **types,
            **groups(answers),
        }

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""

        def compute(part: Columns) -> dict[str, float]:
            rating, weight = part["rating"], None if self.quirks == "published" else part[PARSED]
            return {
                "score": mean(rating, weight),
                "hallucination_rate": 100 * mean(column(rating < HALLUCINATED), weight),
                "informativeness": 100 * mean(column((rating != 0) & (rating != HALLUCINATED)), weight),
            }

        return by_part(columns, compute)
