# SPDX-License-Identifier: Apache-2.0
"""ARES between its trainings (arXiv 2407.00087): scores, corrections to learn from, and rows of the answer adapter.

All of them start from samples of `mmself sample`, the first of each question. What a teacher could not correct is left
out and counted; nothing stands in for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from .. import verify
from ..data.questions import Question
from ..files import write_jsonl
from ..generate.requests import filled
from ..generate.teacher import Corrected, Lesson, Scored, Teacher
from ..generate.types import Request, Sample
from ..prompts import Prompt
from ..verify.sentences import distinct_sentences, repeated_share, sentences, without_answer
from .examples import Example
from .options import check_types, options_from
from .records import RecipeError, by_id, reference, shown


Quirks = Literal["fixed", "published"]


@dataclass(frozen=True)
class AresOptions:
    """What is learnt from corrections.

    Attributes:
        score_answer: score the announced answer as a sentence, too.
        min_sentences: shorter corrections are left out; an announced answer is no sentence.
        check: verifier profile; a correction whose announced answer is wrong is left out. None: none is checked.
        drop_repeats: leave corrections out that still say something twice.
        quirks: `published` splits sentences by the published rules.
    """

    score_answer: bool = False
    min_sentences: int = 1
    check: str | None = "letters"
    drop_repeats: bool = True
    quirks: Quirks = "fixed"

    def __post_init__(self) -> None:
        check_types(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AresOptions:
        """Options from plain values.

        Raises:
            RecipeError: an unknown or wrong option.
        """
        return options_from(cls, values)


@dataclass(frozen=True)
class Built:
    """Rows, and what was left out, by reason."""

    examples: list[Example]
    skipped: Mapping[str, int]


def lessons_to_score(questions: Sequence[Question], samples: Sequence[Sample], options: AresOptions) -> list[Lesson]:
    """What a teacher is to score: every sample, sentence by sentence."""
    found = []
    for question, sample in _pairs(questions, samples):
        spans = sentences(sample.text, finished=_finished(sample), quirks=options.quirks)
        kept = spans if options.score_answer else without_answer(spans)
        found.append(Lesson(sample.id, question, sample.text, tuple(span.text for span in kept)))
    return found


def score_samples(
    questions: Sequence[Question], samples: Sequence[Sample], teacher: Teacher, options: AresOptions, out: Path
) -> Mapping[str, float]:
    """Scores samples into a JSONL file that `generate.teacher.ReadyScores` reads.

    Returns:
        mean score, samples scored, samples without a sentence, failures.
    """
    lessons = lessons_to_score(questions, samples, options)
    asked = [lesson for lesson in lessons if lesson.sentences]
    scored = dict(zip((lesson.id for lesson in asked), teacher.score(asked), strict=True))
    rows = []
    for lesson in lessons:
        item = scored.get(lesson.id, Scored((), "no sentence"))
        rows.append(
            {
                "id": lesson.id,
                "question": lesson.question.id,
                "text": lesson.text,
                "sentences": list(lesson.sentences),
                "scores": None if item.scores is None else list(item.scores),
                **({"reason": item.reason} if item.reason else {}),
            }
        )
    write_jsonl(out, rows)
    values = [score for item in scored.values() for score in item.scores or ()]
    return {
        "mean_score": sum(values) / len(values) if values else 0.0,
        "scored": float(sum(item.scores is not None for item in scored.values())),
        "empty": float(len(lessons) - len(asked)),
        "failed": float(sum(item.scores is None for item in scored.values())),
    }


def lessons_to_correct(
    questions: Sequence[Question], samples: Sequence[Sample], options: AresOptions
) -> list[tuple[Lesson, Sample]]:
    """What a teacher is to correct: the first sample of each question, without its repeats."""
    found = []
    for question, sample in _firsts(questions, samples):
        text = distinct_sentences(shown(sample.text), finished=_finished(sample), quirks=options.quirks)
        found.append((Lesson(question.id, question, text, ()), sample))
    return found


def correction_rows(
    pairs: Sequence[tuple[Lesson, Sample]],
    corrected: Sequence[Corrected],
    prompt: Prompt,
    options: AresOptions,
    iteration: int = 0,
) -> Built:
    """Corrected rationales as targets, asked for as rationales are sampled.

    Args:
        pairs: see `lessons_to_correct`.
        corrected: what the teacher made of them.
        prompt: the rationale prompt.
        options: what is left out.
        iteration: round of the policy that sampled.
    """
    profile = None if options.check is None else verify.profile(options.check)
    skipped: Counter[str] = Counter()
    examples = []
    for (lesson, sample), item in zip(pairs, corrected, strict=True):
        reason = _unfit(lesson, item, profile, options)
        if reason is not None or item.text is None:
            skipped[reason or item.reason] += 1
            continue
        question = lesson.question
        examples.append(
            Example(
                id=f"{question.id}/correct",
                kind="correct",
                question=question.id,
                images=question.images,
                prompt=question.placeholders + filled(prompt, question),
                target=item.text,
                pair=f"{question.id}/correct",
                provenance={
                    "question": question.id,
                    "samples": [reference(sample, iteration)],
                    "prompt": prompt.digest,
                    "source": "policy" if item.text == lesson.text else "teacher",
                },
            )
        )
    return Built(examples, dict(skipped))


def _unfit(lesson: Lesson, item: Corrected, profile: verify.Profile | None, options: AresOptions) -> str | None:
    """Why a correction is not learnt, or None."""
    if item.text is None:
        return _short(item.reason)
    spans = sentences(item.text, quirks=options.quirks)
    if len(without_answer(spans)) < options.min_sentences:
        return "too short"
    if options.drop_repeats and repeated_share(spans):
        return "repeats itself"
    if profile is not None:
        question = lesson.question
        verdict = profile.check(item.text, question.answer, choices=question.choices, question=question.block)
        if verdict.parsed and not verdict.correct:
            return "wrong answer"
    return None


def answer_prompt(question: Question, rationale: str, prompt: Prompt) -> str:
    """The user's turn of the answer step: the question with a generated rationale (QCMG)."""
    return question.placeholders + filled(prompt, question, rationale=shown(rationale))


def answer_rows(questions: Sequence[Question], samples: Sequence[Sample], prompt: Prompt, iteration: int = 0) -> Built:
    """Rows of the answer adapter: question and generated rationale in, the right letter out.

    Questions without a sample are left out and counted: no human rationale takes its place.
    """
    examples = []
    for question, sample in _firsts(questions, samples):
        examples.append(
            Example(
                id=f"{question.id}/answer",
                kind="answer",
                question=question.id,
                images=question.images,
                prompt=answer_prompt(question, sample.text, prompt),
                target=f"The answer is ({question.answer}).",
                pair=f"{question.id}/answer",
                provenance={
                    "question": question.id,
                    "samples": [reference(sample, iteration)],
                    "prompt": prompt.digest,
                },
            )
        )
    lost = len(questions) - len(examples)
    return Built(examples, {"no rationale": lost} if lost else {})


def answer_requests(questions: Sequence[Question], samples: Sequence[Sample], prompt: Prompt) -> list[Request]:
    """What the answer adapter is asked: each question with its rationale; the request's id is the question's."""
    return [
        Request.ask(question.id, answer_prompt(question, sample.text, prompt), question.images)
        for question, sample in _firsts(questions, samples)
    ]


def captioned(questions: Sequence[Question], samples: Sequence[Sample]) -> list[Question]:
    """The questions with captions of their pictures, which the context of a prompt then shows.

    Args:
        questions: with or without pictures.
        samples: a caption for each question with pictures; the request's id is the question's.
    """
    captions = {sample.request: " ".join(sample.text.split()) for sample in samples if sample.k == 0}
    return [
        replace(question, extra={**question.extra, "caption": captions[question.id]})
        if question.id in captions
        else question
        for question in questions
    ]


def _pairs(questions: Sequence[Question], samples: Iterable[Sample]) -> Iterator[tuple[Question, Sample]]:
    known = by_id(questions)
    for sample in samples:
        if sample.request not in known:
            raise RecipeError(
                f"Sample {sample.id!r} answers {sample.request!r}, which is not among the {len(known)} questions."
            )
        yield known[sample.request], sample


def _firsts(questions: Sequence[Question], samples: Iterable[Sample]) -> Iterator[tuple[Question, Sample]]:
    return (pair for pair in _pairs(questions, samples) if pair[1].k == 0)


def _finished(sample: Sample) -> bool:
    return sample.completion.finish_reason == "stop"


def _short(reason: str) -> str:
    """The part of a reason that failures share."""
    return f"not corrected: {reason.partition(':')[0]}"
