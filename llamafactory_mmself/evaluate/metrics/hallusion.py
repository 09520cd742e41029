# SPDX-License-Identifier: Apache-2.0
"""HallusionBench: accuracy by question, by figure, and by question over all its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...generate.forms import Choice, Form
from ...generate.judge import JudgeItem
from .accuracy import RIGHT
from .base import PARSED, Answer, Columns, Figures, Item
from .columns import Quirks, by_part, check_quirks, column, groups, mean, need, parts, together
from .judged import Judged, asked
from .reading import hallusion_published, read_yes_no, yes_or_no


CORRECT, INCORRECT, UNCLEAR = "correct", "incorrect", "unclear"


@dataclass(frozen=True)
class Hallusion(Judged):
    """HallusionBench (arXiv 2310.14566).

    Figures, in percent: `aAcc`, right answers; `fAcc`, figures all of whose questions are right; `qAcc`, questions
    that are right with all their figures; `mean` of the three; each also as `aAcc/VD` and `aAcc/VS`. Figures are told
    apart by category, subcategory, set and figure id, questions by category, subcategory, set and question id.
    Questions of category VS without a figure (figure id 0) are in no figure.
    Truth: `answer` (yes or no), `category` (VD or VS), `subcategory`, `set_id`, `figure_id`, `question_id`; for the
    judge `details`, the reference answer in a sentence.

    Answers are read as yes or no. With `judge`, a judge compares them with the reference instead, as the paper does;
    "unclear" is then right for VS questions without a figure, wrong elsewhere. What cannot be read is wrong, with
    either, and counted.

    With quirks="published" texts are read as VLMEvalKit does (the one of the two words that occurs), and a judge's
    text by the first of "incorrect", "correct" that occurs in it, otherwise as unclear.

    Attributes:
        judge: whether a judge decides.
        quirks: how texts are read.
    """

    judge: bool = False
    quirks: Quirks = "fixed"
    name: ClassVar[str] = "hallusion"
    headline: ClassVar[str] = "mean"
    version: ClassVar[int] = 1
    prompt: ClassVar[str] = "eval_hallusion.txt"
    placeholders: ClassVar[tuple[str, ...]] = ("question", "reference", "answer")
    form: ClassVar[Form] = Choice((CORRECT, INCORRECT, UNCLEAR), label="Verdict")

    def __post_init__(self) -> None:
        check_quirks(self.quirks)

    def question(self, item: Item, text: str) -> JudgeItem | None:
        """What the judge is asked; None where a rule decides."""
        if not self.judge:
            return None
        reference = need(item, "details", "the reference answer in a sentence")
        return JudgeItem(item.id, {"question": asked(item), "reference": str(reference), "answer": text})

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        if self.judge:
            self.need_verdicts(answers)
        figure_keys, question_keys = (
            [_key(answer.item, last) for answer in answers] for last in ("figure_id", "question_id")
        )
        reads = [self._judged(answer) if self.judge else self._ruled(answer) for answer in answers]
        right = column(one for one, _ in reads)
        figures, figure_share = together(right, figure_keys)
        questions, question_share = together(right, question_keys)
        return {
            RIGHT: right,
            PARSED: column(parsed for _, parsed in reads),
            "figure": figures,
            "figure_share": figure_share * column(not _bare(answer.item) for answer in answers),
            "question": questions,
            "question_share": question_share,
            **parts(answers, "category"),
            **groups(answers, lambda item: _key(item)),
        }

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        return by_part(columns, _accuracies)

    def _ruled(self, answer: Answer) -> tuple[bool, bool]:
        said = hallusion_published(answer.text) if self.quirks == "published" else read_yes_no(answer.text)
        return said is not None and said == yes_or_no(answer.item), said is not None

    def _judged(self, answer: Answer) -> tuple[bool, bool]:
        text = answer.verdict or ""
        if self.quirks == "published":
            verdict: str | None = next((word for word in (INCORRECT, CORRECT) if word in text.lower()), UNCLEAR)
        else:
            verdict = self.form.parse(text)
        return verdict == CORRECT or (verdict == UNCLEAR and _bare(answer.item)), verdict is not None


def _accuracies(columns: Columns) -> dict[str, float]:
    found = {
        "aAcc": 100 * mean(columns[RIGHT]),
        "fAcc": 100 * mean(columns["figure"], columns["figure_share"]),
        "qAcc": 100 * mean(columns["question"], columns["question_share"]),
    }
    return {"mean": sum(found.values()) / 3, **found}


def _bare(item: Item) -> bool:
    """Whether a question that a figure only helps with is asked without one."""
    return item.truth["category"] == "VS" and str(item.truth["figure_id"]) == "0"


def _key(item: Item, *last: str) -> tuple[str, ...]:
    return tuple(
        str(need(item, key, f"HallusionBench's {key}")) for key in ("category", "subcategory", "set_id", *last)
    )
