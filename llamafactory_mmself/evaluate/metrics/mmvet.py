# SPDX-License-Identifier: Apache-2.0
"""MM-Vet: a judge says how right an answer is, by capability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ...generate.forms import Form, Score
from ...generate.judge import JudgeItem
from .base import PARSED, Answer, Columns, Figures, Item, MetricError
from .columns import Quirks, by_part, check_quirks, column, groups, mean, need, parts
from .judged import Judged, asked


@dataclass(frozen=True)
class MMVet(Judged):
    """MM-Vet (arXiv 2308.02490).

    Figures, from 0 to 100: `score`, 100 * the mean correctness; `score/CAPABILITY` for rec, ocr, know, gen, spat and
    math, over the questions that need it; `score/ocr+math` for each combination of several.
    Truth: `answer`, in which `<AND>` joins parts that are all needed and `<OR>` parts of which one is enough;
    `capabilities`, a list.

    Replies without a number from 0 to 1 are left out and counted by the column `parsed`. With quirks="published" the
    reply's first word is the number, what cannot be read is 0, and figures have one decimal.

    Attributes:
        quirks: what is done with unreadable replies.
    """

    quirks: Quirks = "fixed"
    name: ClassVar[str] = "mmvet"
    headline: ClassVar[str] = "score"
    version: ClassVar[int] = 1
    prompt: ClassVar[str] = "eval_mmvet.txt"
    placeholders: ClassVar[tuple[str, ...]] = ("question", "reference", "answer")
    form: ClassVar[Form] = Score(0, 1, label="Correctness")

    def __post_init__(self) -> None:
        check_quirks(self.quirks)

    def question(self, item: Item, text: str) -> JudgeItem:
        """What the judge is asked; like the original, it sees no picture."""
        reference = str(need(item, "answer", "the true answer"))
        for word in ("<AND>", "<OR>"):
            reference = reference.replace(word, f" {word} ")
        values = {"question": asked(item), "reference": " ".join(reference.split()), "answer": text}
        return JudgeItem(item.id, values)

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        self.need_verdicts(answers)
        read = _published if self.quirks == "published" else self.form.parse
        scores = [read(answer.verdict or "") for answer in answers]
        filed = [replace(answer, item=replace(answer.item, truth={"in": _kinds(answer.item)})) for answer in answers]
        return {
            "correctness": column(score or 0 for score in scores),
            PARSED: column(score is not None for score in scores),
            **parts(filed, "in"),
            **groups(answers),
        }

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        published = self.quirks == "published"

        def compute(part: Columns) -> dict[str, float]:
            score = 100 * mean(part["correctness"], None if published else part[PARSED])
            return {"score": round(score, 1) if published else score}

        return by_part(columns, compute)


def _published(text: str) -> float | None:
    try:
        score = float(text.split(" ")[0].strip())
    except ValueError:
        return None
    return score if 0 <= score <= 1 else None


def _kinds(item: Item) -> list[str]:
    needed = need(item, "capabilities", "the list of capabilities")
    if isinstance(needed, str) or not needed:
        raise MetricError(f"Item {item.id!r}: 'capabilities' is a list such as ['ocr', 'math'], not {needed!r}.")
    kinds = sorted({str(one) for one in needed})
    return kinds if len(kinds) == 1 else [*kinds, "+".join(kinds)]
