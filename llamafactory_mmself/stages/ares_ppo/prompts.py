# SPDX-License-Identifier: Apache-2.0
"""The questions of a run as encoded prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.faults import DataError
from ...data.questions import Question, read_questions
from ...generate.encoding import PromptEncoder
from ...generate.requests import question_prompt, question_requests
from ...generate.types import EngineError, Request
from ...plugin import lf
from ..base import RunArguments


logger = lf.get_logger(__name__)


@dataclass(frozen=True)
class Asked:
    """A question as it is asked.

    Attributes:
        question: with truth, options and pictures.
        request: what the sampler gets.
        prompt: token ids, image placeholders expanded.
    """

    question: Question
    request: Request
    prompt: tuple[int, ...]


def load_asked(run: RunArguments, encoder: PromptEncoder) -> list[Asked]:
    """Reads and encodes the questions of a run, in their order.

    Args:
        run: its `dataset` names entries of dataset_info.json whose files hold questions (see `data.questions`).
        encoder: encodes prompts with the run's template.

    Raises:
        DataError: there is no such file, a prompt leaves no room for a response, or no question is left.
        FileError: naming file, row and field.
    """
    questions = _questions(run)
    labelled = run.stage.reward == "outcome" or run.stage.outcome_coef != 0
    if labelled and (bare := [question.id for question in questions if not question.answer]):
        raise DataError((), f"Question {bare[0]!r} has no `answer`, which outcome rewards compare with.")
    requests = question_requests(questions, question_prompt(run.stage.rollout_prompt))
    room = run.data.cutoff_len - run.stage.rollout_max_new_tokens
    found, faults = [], []
    for question, request in zip(questions, requests, strict=True):
        try:
            prompt = encoder.encode(request).ids
        except EngineError as error:
            faults.append(str(error))
            continue
        if len(prompt) > room:
            faults.append(
                f"Question {question.id!r}: its prompt has {len(prompt)} tokens; with rollout_max_new_tokens "
                f"{run.stage.rollout_max_new_tokens} that is over cutoff_len {run.data.cutoff_len}."
            )
        else:
            found.append(Asked(question, request, prompt))
    if faults and run.stage.invalid_rows == "error":
        raise DataError((), f"{len(faults)} questions cannot be asked. {faults[0]} `invalid_rows: drop` drops them.")
    if faults:
        logger.warning_rank0(f"{len(faults)} questions dropped. The first: {faults[0]}")
    if not found:
        raise DataError((), "No question is left to train on.")
    return found


def _questions(run: RunArguments) -> list[Question]:
    found: list[Question] = []
    seen: set[str] = set()
    for attr in lf.get_dataset_list(run.data.dataset, run.data.dataset_dir):
        path = Path(run.data.dataset_dir, str(attr.dataset_name))
        if attr.load_from != "file" or path.suffix not in (".json", ".jsonl"):
            raise DataError(
                (),
                f"Stage `ares_ppo` reads questions from JSON files; `{attr.dataset_name}` is none. `mmself data` and "
                "`mmself toy data` write them.",
            )
        questions = _limited(read_questions(path, labelled=False), run.data.max_samples)
        if twice := [question.id for question in questions if question.id in seen]:
            raise DataError((), f"{path}: the id {twice[0]!r} is in another data set of this run already.")
        seen.update(question.id for question in questions)
        found += questions
    return found


def _limited(questions: Sequence[Question], limit: Any) -> Sequence[Question]:
    return questions if limit is None else questions[: int(limit)]
