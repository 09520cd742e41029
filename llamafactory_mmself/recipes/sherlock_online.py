# SPDX-License-Identifier: Apache-2.0
"""Sherlock's online rounds: unlabelled questions whose corrections agree.

The model answers a question and then corrects its last response a few times, each time seeing the question and that
response alone. Questions whose corrections agree are kept: the last correction is chosen, and what goes on from a
beginning of the first answer is rejected. No annotation is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import verify
from ..data.questions import Question
from ..data.tagged import TaggedText, read_tagged
from ..files import FileError, read_jsonl, write_jsonl
from ..generate.forms import YesNo
from ..generate.types import Request, Sample, SamplingParams
from ..verify import Response
from .prompts import SherlockPrompts
from .records import by_id, rank, reference
from .sherlock import TURN, ask_prompt, concluding, correction_prompt, samples_of, whole_response
from .sherlock_options import SherlockOptions
from .sherlock_pairs import Begun, Better


#: Name of a job and its requests -> the samples.
Ask = Callable[[str, Sequence[Request]], Sequence[Sample]]
JUDGE = f"{TURN}judge"
#: How a judge is sampled.
JUDGING = SamplingParams(temperature=0.0, max_new_tokens=256)


@dataclass(frozen=True)
class Chain:
    """A question's first answer and its corrections, which agree.

    Attributes:
        question: the question's id.
        samples: the first answer, then the corrections.
        answer: what the last correction says, as the verifier reads it.
        judge: what the judge said; None where all corrections say the same in the same words.
    """

    question: str
    samples: tuple[Sample, ...]
    answer: str
    judge: Sample | None = None

    def to_row(self) -> dict[str, Any]:
        """The line of a chains file."""
        return {
            "question": self.question,
            "answer": self.answer,
            "samples": [sample.to_row() for sample in self.samples],
            "judge": None if self.judge is None else self.judge.to_row(),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Chain:
        """Reads what `to_row` wrote."""
        samples = tuple(Sample.from_row(item) for item in row["samples"])
        judge = None if row["judge"] is None else Sample.from_row(row["judge"])
        return cls(row["question"], samples, row["answer"], judge)


@dataclass(frozen=True)
class Gathered:
    """What an online round found.

    Attributes:
        chains: questions whose corrections agree, at most as many as are wanted.
        counts: questions that were asked, and why others than these were left out.
    """

    chains: list[Chain]
    counts: Mapping[str, int]


def unlabelled(questions: Iterable[Question]) -> list[Question]:
    """The questions without anything that tells their answer: no round that takes them can learn from it."""
    return [Question(item.id, item.text, "", item.images, item.choices, _bare(item.extra)) for item in questions]


def _bare(extra: Mapping[str, Any]) -> dict[str, Any]:
    return {name: extra[name] for name in ("unit",) if name in extra}


def gather(
    questions: Iterable[Question],
    ask: Ask,
    options: SherlockOptions,
    prompts: SherlockPrompts,
    profile: str,
    seed: int,
    *,
    judge: Ask | None = None,
) -> Gathered:
    """Asks questions, chunk by chunk, until enough of them have corrections that agree.

    Answers that the verifier reads as the same agree; only where they differ, the judge is asked. A question is given
    up at the first response that is not whole, and without a judge at the first correction that differs.

    Args:
        questions: which to ask; in an order drawn from the seed.
        ask: samples one response a request with the current policy.
        options: `corrections`, `pairs`, `chunk` and `tags` are used.
        prompts: `ask`, `correction` and, for the judge, `agree`.
        profile: verifier profile that reads answers; it is told no truth.
        seed: of the order.
        judge: answers the judge's requests; None: only answers in the same words agree.
    """
    asked = by_id(questions)
    order = sorted(asked.values(), key=lambda question: (rank(seed, "online", question.id), question.id))
    chains: list[Chain] = []
    counts: Counter[str] = Counter()
    wanted = len(order) if options.pairs is None else options.pairs
    for start in range(0, len(order), options.chunk):
        if len(chains) >= wanted:
            break
        chunk = order[start : start + options.chunk]
        counts["asked"] += len(chunk)
        round_ = _Round(f"{start // options.chunk:04d}", ask, options, prompts, profile, counts)
        chains += _agreed(round_.chains(chunk, give_up=judge is None), asked, round_, judge)
    return Gathered(chains[:wanted], dict(counts))


def write_chains(path: Path, chains: Iterable[Chain]) -> None:
    """Writes chains as JSON lines."""
    write_jsonl(path, (chain.to_row() for chain in chains))


def read_chains(path: Path) -> list[Chain]:
    """Reads what `write_chains` wrote.

    Raises:
        FileError: naming file and line.
    """
    chains = []
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            chains.append(Chain.from_row(row))
        except (KeyError, TypeError) as error:
            raise FileError(
                f"{path}, line {number}: this is no chain of corrections; `mmself build sherlock candidates` writes "
                "them."
            ) from error
    return chains


def chain_beginnings(chains: Sequence[Chain], questions: Iterable[Question], options: SherlockOptions) -> list[Begun]:
    """The first answers, whose beginnings the rejected responses share."""
    asked = by_id(questions)
    return [Begun(asked[chain.question], _text(chain.samples[0], options)) for chain in chains]


def chain_better(
    chains: Sequence[Chain], questions: Iterable[Question], options: SherlockOptions, iteration: int
) -> list[Better]:
    """Online: the last correction is chosen, and the rejected response begins like the first answer."""
    asked = by_id(questions)
    found = []
    for chain in chains:
        first, *corrections = (reference(sample, iteration) for sample in chain.samples)
        judge = None if chain.judge is None else reference(chain.judge, iteration)
        provenance = {"chosen": corrections[-1], "agreed": corrections, "first": first, "judge": judge}
        texts = _text(chain.samples[-1], options), _text(chain.samples[0], options)
        found.append(Better(asked[chain.question], *texts, chain.answer, provenance))
    return found


def read_answer(question: Question, text: str, profile: str, options: SherlockOptions) -> str | None:
    """What a response answers, as a verifier profile reads it; None if it cannot be read."""
    response = Response(concluding(text, options), tuple(question.choices or ()), question.block)
    return verify.profile(profile).extract(response).answer


@dataclass(frozen=True)
class _Round:
    """One chunk of questions on its way."""

    name: str
    ask: Ask
    options: SherlockOptions
    prompts: SherlockPrompts
    profile: str
    counts: Counter[str]

    def chains(self, questions: Sequence[Question], *, give_up: bool) -> list[tuple[Chain, list[str]]]:
        """The questions with responses that are all whole, and what each correction answers."""
        samples: dict[str, list[Sample]] = {question.id: [] for question in questions}
        answers: dict[str, list[str]] = {question.id: [] for question in questions}
        alive = list(questions)
        for turn in range(self.options.corrections + 1):
            requests = [self._request(question, samples[question.id], turn) for question in alive]
            given = self.ask(f"{self.name}-turn{turn}", requests) if requests else []
            asked = {question.id: question for question in alive}
            for id, (sample, *_) in samples_of(asked, given, f"{TURN}{turn}").items():
                problem = self._problem(asked[id], sample, answers[id] if turn else None, give_up)
                if problem is None:
                    samples[id].append(sample)
                else:
                    self.counts[problem] += 1
            alive = [question for question in alive if len(samples[question.id]) == turn + 1]
        return [
            (Chain(question.id, tuple(samples[question.id]), answers[question.id][-1]), answers[question.id])
            for question in alive
        ]

    def _request(self, question: Question, before: Sequence[Sample], turn: int) -> Request:
        if turn == 0:
            prompt = ask_prompt(question, self.prompts)
        else:
            prompt = correction_prompt(question, before[-1].text, self.prompts)
        return Request.ask(f"{question.id}{TURN}{turn}", prompt, question.images)

    def _problem(self, question: Question, sample: Sample, answers: list[str] | None, give_up: bool) -> str | None:
        """Why a question is given up, or None; a correction's answer is added to `answers`."""
        name = "first answer" if answers is None else "correction"
        _, problem = whole_response(sample, self.options)
        if problem is not None:
            return f"{name}: {problem}"
        if answers is None:
            return None
        answer = read_answer(question, sample.text, self.profile, self.options)
        if answer is None:
            return f"{name}: without an answer"
        answers.append(answer)
        return "corrections differ" if give_up and answer != answers[0] else None


def _agreed(
    found: Sequence[tuple[Chain, list[str]]], asked: Mapping[str, Question], round_: _Round, judge: Ask | None
) -> list[Chain]:
    """The chains that agree, by their words or by the judge, in the order of the questions."""
    doubtful = [(chain, answers) for chain, answers in found if len(set(answers)) > 1]
    requests = [
        Request.ask(
            chain.question + JUDGE,
            round_.prompts.agree.fill(question=asked[chain.question].block, answers=_listed(chain, round_.options)),
        )
        for chain, _ in doubtful
    ]
    verdicts: dict[str, Sample] = {}
    if judge is not None and requests:
        samples = samples_of(asked, judge(f"{round_.name}-judge", requests), JUDGE)
        verdicts = {id: group[0] for id, group in samples.items()}
    agreed = []
    for chain, answers in found:
        sample = verdicts.get(chain.question)
        verdict = len(set(answers)) == 1 if sample is None else _verdict(sample)
        if verdict:
            agreed.append(chain if sample is None else Chain(chain.question, chain.samples, chain.answer, sample))
        else:
            round_.counts["the judge cannot be read" if verdict is None else "corrections differ"] += 1
        round_.counts["agreed in the same words"] += len(set(answers)) == 1
        round_.counts["agreed by the judge"] += bool(verdict and sample is not None)
    return agreed


def _listed(chain: Chain, options: SherlockOptions) -> str:
    """What the corrections conclude, one a line."""
    texts = [_text(sample, options).inside(options.tags[-1]) for sample in chain.samples[1:]]
    return "\n".join(f"{number}. {' '.join(text.split())}" for number, text in enumerate(texts, start=1))


def _verdict(sample: Sample) -> bool | None:
    return None if sample.completion.finish_reason == "length" else YesNo().parse(sample.text)


def _text(sample: Sample, options: SherlockOptions) -> TaggedText:
    return read_tagged(sample.text.strip(), options.tags)
