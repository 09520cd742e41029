# SPDX-License-Identifier: Apache-2.0
"""What judges said of answers to benchmarks: asked once, kept, and read again by the metric."""

from __future__ import annotations

import hashlib
import json
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
            return self._known(rubric, items, asked)
        texts = replies(self.engine, rubric, metric.form, asked, self.cache)
        rows = (
            {"id": item.id, "asked": _digest(questions), "rubric": rubric.digest, "judge": self.engine.policy}
            | {"verdict": text}
            for item, questions, text in zip(items, asked, texts, strict=True)
            if text is not None
        )
        write_jsonl(self.folder / VERDICTS, rows)
        return texts, {"policy": self.engine.policy, "rubric": rubric.digest}

    def _known(
        self,
        rubric: Prompt,
        items: Sequence[Item],
        asked: Sequence[tuple[JudgeItem, ...]],
    ) -> tuple[list[str | None], dict[str, Any]]:
        """Verdicts that are there already, on the same answers and references by the same rubric."""
        file = self.folder / VERDICTS
        rows = list(read_jsonl(file)) if file.is_file() else []
        found = {(row.get("id"), row.get("asked")): row for row in rows if row.get("rubric") == rubric.digest}
        texts: list[str | None] = []
        judges = set()
        for item, questions in zip(items, asked, strict=True):
            row = found.get((item.id, _digest(questions))) if questions else None
            if questions and row is None:
                raise VerdictError(
                    f"{file} has no verdict on the answer to {item.id!r} by this rubric: give --judge judge.yaml, "
                    "with an engine's settings."
                )
            texts.append(None if row is None else str(row["verdict"]))
            judges |= set() if row is None else {str(row["judge"])}
        return texts, {"policy": ", ".join(sorted(judges)), "rubric": rubric.digest}


def replies(
    engine: Engine, rubric: Prompt, form: Form, asked: Sequence[tuple[JudgeItem, ...]], cache: Path
) -> list[str | None]:
    """A judge's words on each group of questions, as `Answer.verdict` has them; see `Judged.questions`.

    Raises:
        EngineError: the judge cannot answer; what it said before is in the cache.
    """
    judge = Judge(engine, rubric, form, tries=TRIES, cache=cache, progress=True)
    questions = [replace(question, id=f"{question.id}#{k}") for group in asked for k, question in enumerate(group)]
    found = iter(judge.ask(questions))
    return [joined([_text(next(found), form) for _ in group]) for group in asked]


def _text(judgement: Judgement, form: Form) -> str:
    """The judge's text; nothing where it was cut, even if what is left of it could be read."""
    return "" if not judgement.parsed and form.parse(judgement.text) is not None else judgement.text


def _digest(questions: Sequence[JudgeItem]) -> str:
    """Of all texts that a judge is shown about an answer: the answer, and what it is compared with."""
    texts = json.dumps([dict(question.values) for question in questions], sort_keys=True)
    return hashlib.sha256(texts.encode()).hexdigest()[:16]
