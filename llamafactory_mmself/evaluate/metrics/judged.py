# SPDX-License-Identifier: Apache-2.0
"""Metrics that ask a judge: what they ask, with which rubric, and how its texts come back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from ...generate.forms import Form
from ...generate.judge import JudgeItem
from ...prompts import Prompt, load_prompt
from .base import Answer, Item, MetricError


class Judged:
    """What a metric with a judge has beside `Metric`.

    Attributes:
        prompt: file name of its rubric in `prompts/`.
        placeholders: those of the rubric that `question` fills in; the form fills in the others.
        form: what a reply looks like.
    """

    name: ClassVar[str]
    prompt: ClassVar[str]
    placeholders: ClassVar[tuple[str, ...]]
    form: ClassVar[Form]

    def question(self, item: Item, text: str) -> JudgeItem | None:
        """What the judge is asked about an answer; None if it needs no judge.

        Raises:
            MetricError: the item lacks what the rubric shows.
        """
        raise NotImplementedError

    def questions(self, item: Item, text: str) -> tuple[JudgeItem, ...]:
        """All that the judge is asked about an answer: nothing, one question, or two in different orders."""
        one = self.question(item, text)
        return () if one is None else (one,)

    def rubric(self, file: str | Path | None = None) -> Prompt:
        """The rubric that comes with the package, or a user's own with the same placeholders.

        Raises:
            PromptError: the file cannot be used.
        """
        return load_prompt(file, self.prompt, (*self.placeholders, *self.form.values))

    def need_verdicts(self, answers: Sequence[Answer]) -> None:
        """Refuses answers that no judge has looked at, so that they do not pass for unreadable ones.

        Raises:
            MetricError: judges should have been asked, and none of their replies is there.
        """
        looked_at = [answer for answer in answers if self.questions(answer.item, answer.text)]
        if looked_at and all(answer.verdict is None for answer in looked_at):
            raise MetricError(
                f"{self.name} needs a judge, and none of the {len(looked_at)} answers that it has to look at has a "
                f"verdict (the first is item {looked_at[0].item.id!r}). Judge the answers first."
            )


def asked(item: Item) -> str:
    """The question as a judge reads it: the truth has it without instructions to the model."""
    return str(item.truth.get("question") or item.prompt)


def joined(replies: Sequence[str]) -> str | None:
    """The judge's replies about one answer as an `Answer.verdict`: None, the reply, or a JSON list of them."""
    if len(replies) < 2:
        return replies[0] if replies else None
    return json.dumps(list(replies), ensure_ascii=False)


def separated(verdict: str | None, count: int) -> tuple[str, ...] | None:
    """The replies in a verdict of `joined`; None if there are not as many as were asked for."""
    if verdict is None:
        return None
    if count == 1:
        return (verdict,)
    try:
        replies = json.loads(verdict)
    except json.JSONDecodeError:
        return None
    valid = isinstance(replies, list) and len(replies) == count and all(isinstance(one, str) for one in replies)
    return tuple(replies) if valid else None
