# SPDX-License-Identifier: Apache-2.0
"""STL, see-think-learn: rationales in sections, and why each wrong option is wrong (arXiv 2512.02456).

The model answers in sections; right and whole answers are learnt (`answer`). For each question solved that way the
same model explains of every wrong option why it is wrong, and is told the right one as a hint; whole explanations are
learnt without the hint (`refute`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..data.questions import Question
from ..generate.types import Request, Sample
from .examples import Example, direct_example, mixed
from .lengths import TokenLimit
from .prompts import Prompts
from .records import Checked, RecipeError, by_id, by_question, rank, reference
from .stl_options import STLOptions, require_options, wrong_letters
from .stl_reading import learnable_answer, learnable_refutation, length_problem


SEPARATOR = "!"


@dataclass(frozen=True)
class STLBuild:
    """What a build gives.

    Attributes:
        examples: the training examples.
        skipped: reason -> number of texts that are not learnt.
    """

    examples: list[Example]
    skipped: Mapping[str, int] = field(default_factory=dict)


def answer_requests(questions: Iterable[Question], prompts: Prompts, options: STLOptions) -> list[Request]:
    """Asks each question for a see-think-answer response; a request has its question's id.

    Raises:
        RecipeError: a question has no options.
    """
    return [Request.ask(item.id, answer_prompt(item, prompts, options), item.images) for item in questions]


def refute_requests(
    questions: Iterable[Question], answers: Iterable[Checked], prompts: Prompts, options: STLOptions
) -> list[Request]:
    """Asks of each wrong option of each solved question why it is wrong; a request's id is `<question id>!<letter>`.

    Args:
        questions: the training questions.
        answers: checked answers; a question is solved by one that can be learnt, others are left alone.
        prompts: `refute_hint` (`refute` without the hint) and their forms without a caption are used.
        options: switches.

    Raises:
        RecipeError: a question has no options.
    """
    asked = by_id(questions)
    solved = {
        item.question
        for item in answers
        if item.question in asked and learnable_answer(item, asked[item.question], options)[1] is None
    }
    requests = []
    for id, question in asked.items():
        if id in solved:
            for letter in _refuted(question, options):
                prompt = refute_prompt(question, letter, prompts, options, hint=options.hint)
                requests.append(Request.ask(f"{id}{SEPARATOR}{letter}", prompt, question.images))
    return requests


def build(
    questions: Sequence[Question],
    answers: Sequence[Checked],
    refutations: Sequence[Sample] | Mapping[int, Sequence[Sample]],
    options: STLOptions,
    prompts: Prompts,
    seed: int,
    *,
    limit: TokenLimit | None = None,
) -> STLBuild:
    """Builds the training examples of a round.

    The result depends on the seed and on what the arguments hold, not on the order of questions and samples.

    Args:
        questions: the training questions.
        answers: checked see-think-answer responses.
        refutations: responses to `refute_requests`, by iteration; a mere sequence is of the answers' newest iteration.
        options: switches.
        prompts: as the samples were asked with.
        seed: of mixing and of what the ratio leaves out.
        limit: leaves out examples that would not fit.

    Raises:
        RecipeError: a question or a sample comes twice, a question has no options, or a refutation belongs to none of
            the questions and wrong options.
    """
    asked = by_id(questions)
    if options.letters_only:
        return STLBuild(mixed((direct_example(question, prompts) for question in asked.values()), seed))
    skipped: Counter[str] = Counter()
    newest = max((item.iteration for item in answers), default=0)
    pool = [item for item in answers if options.pool == "all" or item.iteration == newest]
    positives = list(_positives(asked, pool, options, prompts, skipped, limit))
    negatives: list[Example] = []
    if options.negatives:
        by_iteration = refutations if isinstance(refutations, Mapping) else {newest: refutations}
        if options.pool == "newest":
            by_iteration = {newest: by_iteration.get(newest, ())}
        solved = {example.question for example in positives}
        negatives = list(_negatives(asked, solved, by_iteration, options, prompts, skipped, limit))
        negatives = _capped(negatives, len(positives), options, seed, skipped)
    return STLBuild(mixed([*positives, *negatives], seed), dict(sorted(skipped.items())))


def answer_prompt(question: Question, prompts: Prompts, options: STLOptions) -> str:
    """The user's turn that asks for a see-think-answer response."""
    require_options(question)
    prompt = prompts.answer if options.caption else prompts.answer_nocaption
    return question.placeholders + prompt.fill(question=question.block)


def refute_prompt(question: Question, wrong: str, prompts: Prompts, options: STLOptions, *, hint: bool) -> str:
    """The user's turn that asks why an option is wrong; with the hint it tells the right one."""
    prompt = vars(prompts)[_refute_name(options, hint)]
    filled: str = prompt.fill(question=question.block, wrong=options.mark(wrong), right=options.mark(question.answer))
    return question.placeholders + filled


def _positives(
    asked: Mapping[str, Question],
    pool: Sequence[Checked],
    options: STLOptions,
    prompts: Prompts,
    skipped: Counter[str],
    limit: TokenLimit | None,
) -> Iterator[Example]:
    name = "answer" if options.caption else "answer_nocaption"
    for id, items in by_question(item for item in pool if item.question in asked).items():
        question, taken = asked[id], set[str]()
        prompt = answer_prompt(question, prompts, options)
        for item in reversed(items):
            sections, problem = learnable_answer(item, question, options)
            head = f"CAPTION: {sections.caption}\n\n" if options.caption else ""
            target = f"{head}REASONING: {sections.reasoning}\n\nCONCLUSION: {options.mark(question.answer)}"
            problem = problem or length_problem(sections.reasoning, prompt, target, question, options, limit)
            if problem is None and (len(taken) >= options.answers_per_question or target in taken):
                problem = "surplus"
            if problem is not None:
                skipped[f"answer: {problem}"] += 1
                continue
            taken.add(target)
            digest = prompts.digest_of(name)
            yield _example(question, "answer", str(item.sample.k), prompt, target, item.sample, item.iteration, digest)


def _negatives(
    asked: Mapping[str, Question],
    solved: set[str],
    refutations: Mapping[int, Sequence[Sample]],
    options: STLOptions,
    prompts: Prompts,
    skipped: Counter[str],
    limit: TokenLimit | None,
) -> Iterator[Example]:
    taken = set()
    for iteration, sample in _newest_first(refutations):
        question, letter = _request_of(sample, asked)
        prompt = refute_prompt(question, letter, prompts, options, hint=False)
        sections, problem = learnable_refutation(sample, question, letter, options)
        head = f"CAPTION: {sections.caption}\n\n" if options.caption else ""
        target = f"{head}EXPLANATION: {sections.explanation}"
        if question.id not in solved:
            problem = "the question is not solved"
        elif letter not in _refuted(question, options):
            problem = "over the cap"
        problem = problem or length_problem(sections.explanation, prompt, target, question, options, limit)
        if problem is None and (question.id, letter) in taken:
            problem = "surplus"
        if problem is not None:
            skipped[f"refutation: {problem}"] += 1
            continue
        taken.add((question.id, letter))
        digest = prompts.digest_of(_refute_name(options, hint=False))
        yield _example(question, "refute", letter, prompt, target, sample, iteration, digest)


def _refuted(question: Question, options: STLOptions) -> list[str]:
    """The letters to refute; a cap takes the same ones in every round."""
    wrong = wrong_letters(question)
    if options.negatives_per_question is None:
        return wrong
    chosen = sorted(wrong, key=lambda letter: rank(0, question.id, letter))[: options.negatives_per_question]
    return sorted(chosen)


def _capped(
    negatives: list[Example], positives: int, options: STLOptions, seed: int, skipped: Counter[str]
) -> list[Example]:
    if options.negative_ratio is None:
        return negatives
    most = int(options.negative_ratio * positives)
    if len(negatives) > most:
        skipped["refutation: over the ratio"] += len(negatives) - most
    return sorted(negatives, key=lambda example: rank(seed, "ratio", example.id))[:most]


def _newest_first(refutations: Mapping[int, Sequence[Sample]]) -> list[tuple[int, Sample]]:
    samples = {}
    for iteration, group in refutations.items():
        for sample in group:
            if (iteration, sample.id) in samples:
                raise RecipeError(
                    f"Refutation {sample.id!r} of iteration {iteration} comes twice. Give each samples file once, and "
                    "those of several iterations by iteration."
                )
            samples[iteration, sample.id] = sample
    order = sorted(samples.items(), key=lambda item: (item[0][0], item[1].k, item[0][1]), reverse=True)
    return [(iteration, sample) for (iteration, _), sample in order]


def _request_of(sample: Sample, asked: Mapping[str, Question]) -> tuple[Question, str]:
    id, _, letter = sample.request.rpartition(SEPARATOR)
    question = asked.get(id)
    if question is None:
        raise RecipeError(
            f"Sample {sample.id!r} is of request {sample.request!r}; `<question id>!<letter>` with one of the "
            f"{len(asked)} questions is expected. Give the file of questions that the refutations were asked for."
        )
    if letter not in wrong_letters(question):
        raise RecipeError(f"Sample {sample.id!r} refutes {letter!r}, which is no wrong option of question {id!r}.")
    return question, letter


def _refute_name(options: STLOptions, hint: bool) -> str:
    return "refute" + ("_hint" if hint else "") + ("" if options.caption else "_nocaption")


def _example(
    question: Question,
    kind: str,
    name: str,
    prompt: str,
    target: str,
    sample: Sample,
    iteration: int,
    digest: str,
) -> Example:
    return Example(
        id=f"{question.id}/iter{iteration}/{kind}-{name}",
        kind=kind,
        question=question.id,
        images=question.images,
        prompt=prompt,
        target=target,
        pair=question.id,
        provenance={
            "question": question.id,
            "iteration": iteration,
            "prompt": digest,
            "target": reference(sample, iteration),
            "shown": [],
        },
    )
