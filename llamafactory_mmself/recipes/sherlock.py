# SPDX-License-Identifier: Apache-2.0
"""Sherlock: a reasoning model that corrects itself (Ding and Zhang, arXiv 2505.22651).

Its supervised rounds are built here. `split` draws two disjoint samples A and B of annotated questions. A model that
learnt the form of responses on A answers B once, and the base model then learns for each question of B the annotated
response, and the same response as the correction of that answer. `sherlock_pairs` and `sherlock_online` build the
preference rounds.

An annotated question has its whole response in tagged sections in the field `response`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..data.questions import IMAGE, Question
from ..data.tagged import TAGS, TaggedText, read_tagged
from ..files import write_json
from ..generate.types import Request, Sample
from .datasets import register_dataset
from .examples import COLUMNS, Example, mixed
from .lengths import TokenLimit
from .prompts import SherlockPrompts
from .records import MEDIA, RecipeError, by_id, rank, reference, shown
from .sherlock_options import SherlockOptions


RESPONSE = "response"
TURN = "@"  # a request's id is `<question>@<what it is for>`


class Split(NamedTuple):
    """Questions for the supervised and offline rounds, for their corrections, and what is left."""

    a: list[Question]
    b: list[Question]
    rest: list[Question]


@dataclass(frozen=True)
class Built:
    """What a build gives.

    Attributes:
        examples: rows to train on.
        skipped: reason -> number of questions that gave none.
    """

    examples: list[Example]
    skipped: Mapping[str, int]


def split(questions: Iterable[Question], n: int, seed: int) -> Split:
    """Draws two disjoint samples; the result does not depend on the order of the questions.

    Raises:
        RecipeError: there are fewer than twice as many questions, or an id comes twice.
    """
    asked = by_id(questions)
    if len(asked) < 2 * n:
        raise RecipeError(f"Two disjoint samples of {n} need {2 * n} questions, there are {len(asked)}. Lower `n`.")
    order = sorted(asked.values(), key=lambda question: (rank(seed, "split", question.id), question.id))
    return Split(order[:n], order[n : 2 * n], order[2 * n :])


def write_split(folder: Path, name: str, questions: Sequence[Question], prompts: SherlockPrompts) -> Path:
    """Writes annotated questions and registers them; stock `sft` learns their responses from the file as it is."""
    path = Path(folder).resolve() / f"{name}.json"
    write_json(path, [_annotated_row(question, path.parent, prompts) for question in questions])
    info = {"file_name": path.name, "formatting": "sharegpt", "columns": {**COLUMNS, "answer": "answer"}}
    register_dataset(path.parent / "dataset_info.json", name, info)
    return path


def _annotated_row(question: Question, folder: Path, prompts: SherlockPrompts) -> dict[str, Any]:
    turns = (("human", ask_prompt(question, prompts)), ("gpt", response_of(question)))
    conversation = [{"from": speaker, "value": text} for speaker, text in turns]
    return {**question.to_row(folder), "conversations": conversation}


def response_of(question: Question) -> str:
    """The annotated response of a question.

    Raises:
        RecipeError: it has none.
    """
    text = question.extra.get(RESPONSE)
    if not isinstance(text, str) or not text.strip():
        raise RecipeError(
            f"Question {question.id!r} has no annotated response in its field `{RESPONSE}`. `mmself data llava_cot` "
            "and `mmself toy responses` write questions that have one."
        )
    return text.strip()


def ask_prompt(question: Question, prompts: SherlockPrompts) -> str:
    """The user's turn that asks a question."""
    return question.placeholders + prompts.ask.fill(question=question.block)


def correction_prompt(question: Question, response: str, prompts: SherlockPrompts, critique: str | None = None) -> str:
    """The user's turn that shows a response and asks for a better one; the same text as in stage `sherlock_dpo`."""
    values = {"question": question.block.strip(), "response": shown(response)}
    if critique is None:
        return IMAGE * len(question.images) + prompts.correction.fill(**values)
    return IMAGE * len(question.images) + prompts.critique.fill(**values, critique=shown(critique))


def ask_requests(questions: Iterable[Question], prompts: SherlockPrompts) -> list[Request]:
    """Asks each question; a request has its question's id."""
    return [Request.ask(item.id, ask_prompt(item, prompts), item.images) for item in questions]


def whole_response(sample: Sample, options: SherlockOptions) -> tuple[TaggedText, str | None]:
    """A sampled response, and why it cannot be used, or None."""
    tagged = read_tagged(sample.text.strip(), options.tags)
    if sample.completion.finish_reason == "length":
        return tagged, "cut by the token limit"
    return tagged, "holds a media placeholder" if MEDIA.search(sample.text) else tagged.problem


def annotated_response(question: Question, options: SherlockOptions) -> tuple[TaggedText, str | None]:
    """The annotated response of a question, and why it cannot be used, or None."""
    tagged = read_tagged(response_of(question), options.tags)
    return tagged, "holds a media placeholder" if MEDIA.search(tagged.text) else tagged.problem


def concluding(text: str, options: SherlockOptions) -> str:
    """A response as verifier profiles read it: they look for the answer in a section CONCLUSION."""
    if options.tags[-1] == TAGS[-1]:
        return text
    return f"<{TAGS[-1]}> {read_tagged(text, options.tags).inside(options.tags[-1])} </{TAGS[-1]}>"


def direct_rows(
    questions: Sequence[Question],
    options: SherlockOptions,
    prompts: SherlockPrompts,
    seed: int,
    *,
    limit: TokenLimit | None = None,
) -> Built:
    """The annotated response of each question, for the round that learns the form.

    Raises:
        RecipeError: a question comes twice or has no response.
    """
    examples, skipped = [], Counter[str]()
    for question in by_id(questions).values():
        truth, problem = annotated_response(question, options)
        example = _example(question, "answer", ask_prompt(question, prompts), truth.text, {}, prompts.digest_of("ask"))
        problem = problem or (None if _fits(example, limit) else "over the token limit of training")
        if problem is None:
            examples.append(example)
        else:
            skipped[f"annotated response: {problem}"] += 1
    return Built(mixed(examples, seed), dict(sorted(skipped.items())))


def correction_rows(
    questions: Sequence[Question],
    answers: Sequence[Sample],
    options: SherlockOptions,
    prompts: SherlockPrompts,
    seed: int,
    *,
    iteration: int = 1,
    limit: TokenLimit | None = None,
) -> Built:
    """Two adjacent rows a question: its annotated response, and the same as the correction of a sampled answer.

    Whether an answer is right does not matter: what is sound already is to be kept, even where it is the annotated
    response itself. Questions whose answer is not whole are left out altogether, so that both halves of the objective
    have the same questions (Eq. 3).

    Args:
        questions: annotated ones.
        answers: one answer of each, by the model that learnt the form; others of a question are left alone.
        options: the tags are used.
        prompts: as the answers were asked with.
        seed: of the order of pairs.
        iteration: round of the policy that answered.
        limit: leaves out questions whose rows would not fit.

    Raises:
        RecipeError: a question comes twice or has no response, or an answer belongs to none of the questions.
    """
    asked = by_id(questions)
    found = first_samples(asked, answers)
    examples, skipped = [], Counter[str]()
    for id, question in asked.items():
        rows, problem = _pair_of_rows(question, found.get(id), options, prompts, iteration)
        if problem is None and not all(_fits(row, limit) for row in rows):
            problem = "over the token limit of training"
        if problem is None:
            examples += rows
        else:
            skipped[problem] += 1
    return Built(mixed(examples, seed), dict(sorted(skipped.items())))


def _pair_of_rows(
    question: Question, answer: Sample | None, options: SherlockOptions, prompts: SherlockPrompts, iteration: int
) -> tuple[list[Example], str | None]:
    truth, problem = annotated_response(question, options)
    if problem is not None:
        return [], f"annotated response: {problem}"
    if answer is None:
        return [], "no answer"
    given, problem = whole_response(answer, options)
    if problem is not None:
        return [], f"answer: {problem}"
    provenance = {"shown": [reference(answer, iteration)]}
    prompt = correction_prompt(question, given.text, prompts)
    return [
        _example(question, "answer", ask_prompt(question, prompts), truth.text, {}, prompts.digest_of("ask")),
        _example(question, "correction", prompt, truth.text, provenance, prompts.digest_of("correction")),
    ], None


def first_samples(asked: Mapping[str, Question], samples: Iterable[Sample]) -> dict[str, Sample]:
    """The first sample of each question.

    Raises:
        RecipeError: a sample belongs to none of the questions.
    """
    return {id: group[0] for id, group in samples_of(asked, samples).items()}


def samples_of(asked: Mapping[str, Question], samples: Iterable[Sample], purpose: str = "") -> dict[str, list[Sample]]:
    """Samples by question, k = 0 first; `purpose` is what their requests' ids have behind the question's.

    Raises:
        RecipeError: a sample belongs to none of the questions.
    """
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        id = sample.request.removesuffix(purpose)
        if id not in asked or not sample.request.endswith(purpose):
            raise RecipeError(
                f"Sample {sample.id!r} answers {sample.request!r}, which is not among the {len(asked)} questions. "
                "Give the file of questions that the samples were drawn for."
            )
        groups.setdefault(id, []).append(sample)
    return {id: sorted(group, key=lambda sample: sample.k) for id, group in groups.items()}


def _example(
    question: Question, kind: str, prompt: str, target: str, provenance: Mapping[str, Any], digest: str
) -> Example:
    return Example(
        id=f"{question.id}/{kind}",
        kind=kind,
        question=question.id,
        images=question.images,
        prompt=prompt,
        target=target,
        pair=question.id,
        provenance={"question": question.id, "prompt": digest, "target": RESPONSE, "shown": [], **provenance},
    )


def _fits(example: Example, limit: TokenLimit | None) -> bool:
    return limit is None or limit.fits(example.prompt, example.target, example.images)
