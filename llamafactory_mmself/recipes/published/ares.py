# SPDX-License-Identifier: Apache-2.0
"""The folders of ARES: rollouts with their scores, predictions, and corrected solutions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...data.questions import Question
from ...files import read_json, read_text
from ...generate.requests import filled
from ...prompts import Prompt
from ..examples import Example
from ..records import RecipeError
from .found import Found


# questions/<k>/p<rank>/<question id>/rationale_from_mm_cot.txt
_ROLLOUT = re.compile(r"(?P<k>\d+)/p\d+/(?P<id>[^/]+)/rationale_from_mm_cot\.txt")
_LINE = re.compile(r'^"(?P<text>.*)":\s*[^":]*?,?$')
_CUE = "Solution:"


def read_rollouts(run: Path) -> tuple[Found, list[dict[str, Any]]]:
    """Sampled rationales of a run of reinforcement learning, and the scores that the teacher gave them.

    Args:
        run: `RL_models/<run>`, or its folder `questions`.

    Returns:
        samples under `rollouts`, and rows that `generate.teacher.ReadyScores` reads, for those that have scores.

    Raises:
        RecipeError: there are no rationales, or scores that are no numbers.
    """
    root = run / "questions" if (run / "questions").is_dir() else run
    files = [
        (path, match)
        for path in root.rglob("rationale_from_mm_cot.txt")
        if (match := _ROLLOUT.fullmatch(path.relative_to(root).as_posix()))
    ]
    if not files:
        raise RecipeError(
            f"{run} holds no rollouts: questions/<k>/p<rank>/<id>/rationale_from_mm_cot.txt is expected."
        )
    found, scored = Found(), []
    for path, match in sorted(files, key=lambda item: (_number(item[1]["id"]), int(item[1]["k"]))):
        sentences = _sentences(path)
        if not sentences:
            found.skipped["rationales without a sentence"] += 1
            continue
        text = " ".join(sentences)
        found.add_sample("rollouts", match["id"], text, f"published {run.name}")
        if (scores := _scores(path.with_name("score.txt"))) is None:
            found.skipped["rationales without scores"] += 1
        elif len(scores) != len(sentences):
            found.skipped["rationales with another number of scores than sentences"] += 1
        else:
            scored.append({"question": match["id"], "text": text, "sentences": sentences, "scores": scores})
    return found, scored


def _number(id: str) -> tuple[int, str]:
    return (int(id), id) if id.isdigit() else (2**62, id)


def _sentences(path: Path) -> list[str]:
    lines = (line.strip() for line in read_text(path).splitlines())
    return [match["text"].strip() for line in lines if (match := _LINE.match(line)) and match["text"].strip()]


def _scores(path: Path) -> list[float] | None:
    if not path.is_file():
        return None
    try:
        return [float(line) for line in read_text(path).split()]
    except ValueError as error:
        raise RecipeError(f"{path}: one number a line is expected ({error}).") from error


def read_predictions(path: Path, ids: Sequence[str]) -> Found:
    """Predictions of a split, `predictions_ans_<split>.json`, as samples.

    Args:
        path: an object with `preds`, in the order of the split.
        ids: the split's questions.

    Raises:
        RecipeError: there is no `preds`, or another number of them.
    """
    held = read_json(path)
    predictions = held.get("preds") if isinstance(held, dict) else None
    if not isinstance(predictions, list) or not all(isinstance(text, str) for text in predictions):
        raise RecipeError(f"{path}: an object with `preds`, a list of texts, is expected.")
    if len(predictions) != len(ids):
        raise RecipeError(f"{path} has {len(predictions)} predictions, the split {len(ids)} questions.")
    found = Found()
    for id, text in zip(ids, predictions, strict=True):
        found.add_sample(path.stem, id, text, f"published {path.stem}")
    return found


def read_corrections(path: Path, questions: Sequence[Question], prompt: Prompt) -> Found:
    """Corrected rationales to learn from: `correction.json`, a copy of the problems with other solutions.

    A solution that equals the question's own was never corrected, and is left out.

    Args:
        path: id -> problem with `solution`.
        questions: the training questions, with their own `solution` among the extra fields.
        prompt: what asks for a rationale.

    Raises:
        RecipeError: it is no such file.
    """
    problems = read_json(path)
    if not isinstance(problems, Mapping):
        raise RecipeError(f"{path}: an object of problems by id is expected.")
    found, turns = Found(), []
    for question in questions:
        problem = problems.get(question.id)
        solution = " ".join(str(problem.get("solution") or "").split()) if isinstance(problem, Mapping) else ""
        solution = solution.removeprefix(_CUE).strip()
        if not solution:
            found.skipped["questions without a solution"] += 1
        elif solution == " ".join(str(question.extra.get("solution") or "").split()):
            found.skipped["solutions that nobody corrected"] += 1
        else:
            asked = question.placeholders + filled(prompt, question)
            source = {"file": path.name, "question": question.id, "prompt": prompt.digest}
            id = f"{question.id}/correction"
            turns.append(Example(id, "correction", question.id, question.images, asked, solution, id, source))
    found.sets["corrections"] = turns
    return found
