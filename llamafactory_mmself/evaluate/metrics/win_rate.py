# SPDX-License-Identifier: Apache-2.0
"""Win rate of rationales against another model's, by a judge that sees them in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...generate.forms import Choice, Form
from ...generate.judge import JudgeItem
from .base import PARSED, Answer, Columns, Figures, Item
from .columns import Keys, by_part, column, groups, mean, need, parts
from .judged import Judged, asked, separated


ORDERS = 2


@dataclass(frozen=True)
class WinRate(Judged):
    """Which of two rationales a judge finds better (ARES, arXiv 2407.00087, appendix A.3, has no code for it).

    Each pair is judged twice, with the answers in either order. An answer wins if it is chosen both times, loses if
    the other one is, and ties otherwise: where the orders disagree, or the judge says that they are equally good.
    Figures, in percent: `win`, `tie`, `lose`; `win_rate` = win + tie / 2; each also as `win_rate/CATEGORY`.
    Truth: `baseline`, the other model's answer to the same question; `reference`, the true answer (may be missing);
    the keys of `category`. An answer's verdict holds two replies, see `judged.joined`.

    Pairs of which a reply cannot be read are left out, and counted by the column `parsed`.

    Attributes:
        picture: whether the judge sees the pictures.
        category: keys of the truth to report by.
    """

    picture: bool = True
    category: Keys = "category"
    name: ClassVar[str] = "win_rate"
    headline: ClassVar[str] = "win_rate"
    version: ClassVar[int] = 1
    prompt: ClassVar[str] = "eval_win_rate.txt"
    placeholders: ClassVar[tuple[str, ...]] = ("question", "reference", "first", "second")
    form: ClassVar[Form] = Choice(("A", "B", "tie"))

    def question(self, item: Item, text: str) -> JudgeItem:
        """What the judge is asked first, with the model's answer as A."""
        return self._ask(item, text, str(need(item, "baseline", "the other model's answer")))

    def questions(self, item: Item, text: str) -> tuple[JudgeItem, ...]:
        """Both orders: the model's answer as A, then as B."""
        return self.question(item, text), self._ask(item, str(item.truth["baseline"]), text)

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        self.need_verdicts(answers)
        results = [self._result(answer.verdict) for answer in answers]
        return {
            **{name: column(result == name for result in results) for name in ("win", "tie", "lose")},
            PARSED: column(result is not None for result in results),
            **parts(answers, self.category),
            **groups(answers),
        }

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""

        def compute(part: Columns) -> dict[str, float]:
            found = {name: 100 * mean(part[name], part[PARSED]) for name in ("win", "tie", "lose")}
            return {"win_rate": found["win"] + found["tie"] / 2, **found}

        return by_part(columns, compute)

    def _ask(self, item: Item, first: str, second: str) -> JudgeItem:
        reference = str(item.truth.get("reference") or "not told")
        values = {"question": asked(item), "reference": reference, "first": first, "second": second}
        return JudgeItem(item.id, values, item.images if self.picture else ())

    def _result(self, verdict: str | None) -> str | None:
        replies = separated(verdict, ORDERS)
        chosen = [str(value) for value in map(self.form.parse, replies or ()) if value is not None]
        if len(chosen) < ORDERS:
            return None
        return {("A", "B"): "win", ("B", "A"): "lose"}.get((chosen[0], chosen[1]), "tie")
