# SPDX-License-Identifier: Apache-2.0
"""What judges said of answers to benchmarks: asked once, kept, and read again by the metric."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..files import read_jsonl, write_jsonl
from ..generate.forms import Form
from ..generate.judge import Judge, JudgeItem, Judgement
from ..generate.types import Engine
from ..prompts import Prompt
from .metrics.base import Item
from .metrics.judged import Judged, joined
from .predictions import Prediction


VERDICTS, CACHE = "verdicts.jsonl", "judge_cache.jsonl"
TRIES = 3  # of a judge, until one of its answers can be read


class VerdictError(ValueError):
    """Answers that have to be judged first, with what to do."""


@dataclass(frozen=True)
class Judging:
    """Where verdicts are kept and who gives them.

    Attributes:
        folder: of the task's results.
        prompts: the user's rubrics, by the name of the packaged one.
        engine: who judges; None to do with the verdicts that are there.
        cache: file of all replies; turns of correction share one, so that an answer that stays is not judged again.
    """

    folder: Path
    prompts: Mapping[str, str]
    engine: Engine | None
    cache: Path

    def verdicts(
        self, metric: Judged, items: Sequence[Item], predictions: Sequence[Prediction]
    ) -> tuple[list[str | None], dict[str, Any] | None]:
        """The judge's words on each answer, None where it was not asked, and what is told about the judge.

        Raises:
            VerdictError: there is no judge, and a verdict is missing.
            EngineError: the judge cannot answer; what it said before is kept.
        """
        asked = [metric.questions(item, each.text) for item, each in zip(items, predictions, strict=True)]
        if not any(asked):
            return [None] * len(items), None
        rubric = metric.rubric(self.prompts.get(metric.prompt.removesuffix(".txt")))
        if self.engine is None:
            return self._known(rubric, items, predictions, asked)
        texts = self._asked(self.engine, rubric, metric.form, asked)
        rows = (
            {"id": item.id, "answer": _digest(each.text), "rubric": rubric.digest, "judge": self.engine.policy}
            | {"verdict": text}
            for item, each, text in zip(items, predictions, texts, strict=True)
            if text is not None
        )
        write_jsonl(self.folder / VERDICTS, rows)
        return texts, {"policy": self.engine.policy, "rubric": rubric.digest}

    def _asked(
        self, engine: Engine, rubric: Prompt, form: Form, asked: Sequence[tuple[JudgeItem, ...]]
    ) -> list[str | None]:
        judge = Judge(engine, rubric, form, tries=TRIES, cache=self.cache, progress=True)
        questions = [replace(question, id=f"{question.id}#{k}") for group in asked for k, question in enumerate(group)]
        replies = iter(judge.ask(questions))
        return [joined([_text(next(replies), form) for _ in group]) for group in asked]

    def _known(
        self,
        rubric: Prompt,
        items: Sequence[Item],
        predictions: Sequence[Prediction],
        asked: Sequence[tuple[JudgeItem, ...]],
    ) -> tuple[list[str | None], dict[str, Any]]:
        """Verdicts that are there already, on the same texts by the same rubric."""
        file = self.folder / VERDICTS
        rows = list(read_jsonl(file)) if file.is_file() else []
        found = {(row.get("id"), row.get("answer")): row for row in rows if row.get("rubric") == rubric.digest}
        texts: list[str | None] = []
        judges = set()
        for item, each, questions in zip(items, predictions, asked, strict=True):
            row = found.get((item.id, _digest(each.text))) if questions else None
            if questions and row is None:
                raise VerdictError(
                    f"{file} has no verdict on the answer to {item.id!r} by this rubric: give --judge judge.yaml, "
                    "with an engine's settings."
                )
            texts.append(None if row is None else str(row["verdict"]))
            judges |= set() if row is None else {str(row["judge"])}
        return texts, {"policy": ", ".join(sorted(judges)), "rubric": rubric.digest}


def _text(judgement: Judgement, form: Form) -> str:
    """The judge's text; nothing where it was cut, even if what is left of it could be read."""
    return "" if not judgement.parsed and form.parse(judgement.text) is not None else judgement.text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
