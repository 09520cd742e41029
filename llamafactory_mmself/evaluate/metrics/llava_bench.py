# SPDX-License-Identifier: Apache-2.0
"""LLaVA-Bench (in the wild): a judge scores the answer beside a reference answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...generate.forms import Form
from ...generate.judge import JudgeItem
from .base import PARSED, Answer, Columns, Figures, Item
from .columns import Keys, Quirks, by_part, check_quirks, column, groups, mean, need, parts
from .judged import Judged, asked


UNREAD = -1.0  # both scores of a reply that the published script cannot read


@dataclass(frozen=True)
class Pair:
    """A reply whose first line is two scores: `8 7`, `8, 7` or `Scores: 8 7`.

    Attributes:
        low: the lowest score.
        high: the highest one.
    """

    low: float = 1
    high: float = 10

    @property
    def values(self) -> Mapping[str, str]:
        """The range, for `{low}` and `{high}`."""
        return {"low": f"{self.low:g}", "high": f"{self.high:g}"}

    def parse(self, text: str) -> tuple[float, float] | None:
        """The scores of the reference and of the answer, None if they are not clear or out of range."""
        line = text.strip().split("\n")[0].strip().strip("*_` ")
        found = re.fullmatch(r"(?:scores?\W*)?(\d+(?:\.\d+)?)(?:\s*[,;/&]\s*|\s+)(\d+(?:\.\d+)?)", line, re.IGNORECASE)
        if found is None:
            return None
        first, second = float(found[1]), float(found[2])
        return (first, second) if self.low <= min(first, second) and max(first, second) <= self.high else None


def published_pair(text: str) -> tuple[float, float]:
    """The published reading: two numbers with one blank or comma between them, else -1 and -1."""
    words = text.split("\n")[0].replace(",", " ").split(" ")
    try:
        first, second = (float(word) for word in words)
    except ValueError:
        return UNREAD, UNREAD
    return first, second


@dataclass(frozen=True)
class LlavaBench(Judged):
    """LLaVA-Bench (in the wild) (arXiv 2304.08485).

    Figures: `relative` = 100 * mean score of the answers / mean score of the reference answers, which may go above
    100; `answer` and `reference`, the two means, from 1 to 10; each also by category, as `relative/complex`.
    Truth: `reference`, GPT-4's answer; `context`, the picture's description (a text or list); `category` (conv,
    detail, complex).

    Replies whose first line is not two scores from 1 to 10 are left out and counted by the column `parsed`. With
    quirks="published" they count as -1 and -1 in the means, "8, 7" is one of them, scores may have any size, means are
    rounded to three decimals and `relative` to one.

    Attributes:
        category: keys of the truth to report by.
        quirks: what is done with unreadable replies.
    """

    category: Keys = "category"
    quirks: Quirks = "fixed"
    name: ClassVar[str] = "llava_bench"
    headline: ClassVar[str] = "relative"
    version: ClassVar[int] = 1
    prompt: ClassVar[str] = "eval_llava_bench.txt"
    placeholders: ClassVar[tuple[str, ...]] = ("context", "question", "reference", "answer")
    form: ClassVar[Form] = Pair()

    def __post_init__(self) -> None:
        check_quirks(self.quirks)

    def question(self, item: Item, text: str) -> JudgeItem:
        """What the judge is asked; like the original, it reads the picture's description and sees no picture."""
        context = need(item, "context", "the picture's description")
        values = {
            "context": context if isinstance(context, str) else "\n".join(map(str, context)),
            "question": asked(item),
            "reference": str(need(item, "reference", "the reference answer")),
            "answer": text,
        }
        return JudgeItem(item.id, values)

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        self.need_verdicts(answers)
        published = self.quirks == "published"
        pairs = [
            published_pair(answer.verdict or "") if published else self.form.parse(answer.verdict or "")
            for answer in answers
        ]
        return {
            "reference": column(0 if pair is None else pair[0] for pair in pairs),
            "answer": column(0 if pair is None else pair[1] for pair in pairs),
            PARSED: column(pair not in (None, (UNREAD, UNREAD)) for pair in pairs),
            **parts(answers, self.category),
            **groups(answers),
        }

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        published = self.quirks == "published"

        def compute(part: Columns) -> dict[str, float]:
            weight = None if published else part[PARSED]
            reference, answer = mean(part["reference"], weight), mean(part["answer"], weight)
            if published:
                reference, answer = round(reference, 3), round(answer, 3)
            relative = 100 * answer / reference if reference else float("nan")
            return {
                "relative": round(relative, 1) if published else relative,
                "answer": answer,
                "reference": reference,
            }

        return by_part(columns, compute)
