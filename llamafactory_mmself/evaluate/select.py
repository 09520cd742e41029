# SPDX-License-Identifier: Apache-2.0
"""Test-time selection: what the model gains when it may look at N samples of its own, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..data.questions import Question
from ..generate.jobs import SampleJob, read_samples
from ..generate.types import Request, Sample, SamplingParams
from ..recipes.lengths import TokenLimit
from ..recipes.prompts import Prompts
from ..recipes.r3v import cot_requests, fitting_candidates, select_requests
from ..recipes.records import Checked, verify_samples
from ..recipes.sherlock import TURN
from ..verify import Verdict
from .answers import (
    Answers,
    EvaluateError,
    Rate,
    Score,
    Scorer,
    agreed,
    elected,
    out_of_candidates,
    selections_of,
    verdicts_of,
)
from .stats import Interval, bootstrap_gain


Run = Callable[[SampleJob], Path]  # samples a job, or finds it done; returns its file
Group = Mapping[str, Sequence[Sample]]  # question id -> samples, k = 0 first


@dataclass(frozen=True)
class SelectOptions:
    """What to measure.

    Attributes:
        sizes: numbers of candidates N; 1 is the first sample itself.
        votes: sampled selections that vote for each N; 0: none.
        params: how candidates and sampled selections are drawn (their number comes from `sizes` and `votes`).
        profile: verifier profile.
        seed: of samples and of the order of candidates.
        category: field of the questions' rows to report accuracy by.
        drawn: samples of each question, of which the newest N are candidates; None: as many as the largest N.
        spare_agreeing: where all candidates give one answer, take it and do not ask; the published code asks.
    """

    sizes: tuple[int, ...] = tuple(range(1, 11))
    votes: int = 0
    params: SamplingParams = field(default_factory=SamplingParams)
    profile: str = "letters"
    seed: int = 0
    category: str = "category"
    drawn: int | None = None
    spare_agreeing: bool = False

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1:
            raise EvaluateError(f"Numbers of candidates start at 1, found {list(self.sizes)}.")
        if self.drawn is not None and self.drawn < max(self.sizes):
            raise EvaluateError(f"{max(self.sizes)} candidates cannot come from {self.drawn} samples.")
        if self.votes < 0:
            raise EvaluateError(f"The number of voting selections cannot be {self.votes}.")


@dataclass(frozen=True)
class Cost:
    """Tokens for a question, on average; None where the engine does not tell.

    A prompt counts once, however many samples are drawn from it.
    """

    prompt: float | None
    generated: float | None

    def __add__(self, other: Cost) -> Cost:
        return Cost(_plus(self.prompt, other.prompt), _plus(self.generated, other.generated))


@dataclass(frozen=True)
class Point:
    """One method with one number of candidates.

    Attributes:
        method: `test@1`, `vote`, `select`, `select-vote` or `oracle`.
        n: candidates.
        score: accuracy with all that it depends on.
        cost: tokens for a question, the candidates' included.
        gain: over the greedy answer; a 95 % interval from a paired bootstrap over questions.
        out_of_candidates: selections that no candidate had.
        dropped: candidates that were left out because the prompt would have been too long.
    """

    method: str
    n: int
    score: Score
    cost: Cost
    gain: Interval
    out_of_candidates: Rate | None = None
    dropped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        rate = None if self.out_of_candidates is None else self.out_of_candidates.to_dict()
        values = {"method": self.method, "candidates": self.n, **self.score.to_dict(), "cost": asdict(self.cost)}
        return {**values, "gain": asdict(self.gain), "out_of_candidates": rate, "dropped": self.dropped}


def scale(
    questions: Sequence[Question],
    run: Run,
    options: SelectOptions,
    prompts: Prompts,
    out: Path,
    *,
    limit: TokenLimit | None = None,
    samples: Path | None = None,
) -> list[Point]:
    """Measures every method for every N. Each question is sampled once, for the largest N.

    Args:
        questions: the test questions.
        run: samples jobs with one model.
        options: what to measure.
        prompts: `cot`, `select` and `candidate` are used.
        out: folder of the samples files; a call that was stopped goes on from them.
        limit: candidates are left out, the longest first, until a selection fits.
        samples: solutions sampled before, at least N of each question, in place of new ones.

    Raises:
        EvaluateError: samples are missing.
        EngineError: sampling failed; finished batches are kept.
    """
    if not questions:
        raise EvaluateError("There are no questions to select for.")
    most, ask = max(options.sizes), cot_requests(questions, prompts)
    greedy = options.params.greedy
    first = _grouped(read_samples(run(SampleJob(ask, greedy, options.seed, out / "greedy.jsonl"))))
    if samples is None:
        samples = run(
            SampleJob(ask, replace(options.params, n=options.drawn or most), options.seed, out / "samples.jsonl")
        )
    drawn = _grouped(read_samples(samples))
    _check_samples(questions, drawn, most, samples)
    table = _Table(questions, options)
    table.start(first)
    for n in sorted(set(options.sizes)):
        table.sampled(n, _newest(drawn, n))
    sizes = [n for n in sorted(set(options.sizes)) if n > 1]
    if not sizes:
        return table.points
    asked = {n: table.asked(n) for n in sizes}
    requests, dropped = _selections(asked, drawn, prompts, options.seed, limit)
    chosen: list[Sample] = []
    voted: list[Sample] = []
    if requests:
        chosen = read_samples(run(SampleJob(requests, greedy, options.seed, out / "selections.jsonl")))
    if requests and options.votes:
        params = replace(options.params, n=options.votes)
        voted = read_samples(run(SampleJob(requests, params, options.seed + 1, out / "voting_selections.jsonl")))
    for n in sizes:
        table.selected(n, _cost(_newest(drawn, n)), _of_size(chosen, n), _of_size(voted, n), dropped[n])
    return sorted(table.points, key=lambda point: (point.n, _ORDER.index(point.method)))


_ORDER = ("test@1", "vote", "select", "select-vote", "oracle")


class _Table:
    """Collects points."""

    def __init__(self, questions: Sequence[Question], options: SelectOptions) -> None:
        self.questions = questions
        self.options = options
        self.scorer = Scorer(questions, options.profile, options.seed, options.category)
        self.points: list[Point] = []
        self.baseline: Score
        self.candidates: dict[int, Answers] = {}

    def start(self, greedy: Group) -> None:
        """The greedy answers, which all others are compared with."""
        self.baseline = self.scorer.first("test@1", self._verdicts(greedy, "greedy answers"))
        self._add("test@1", 1, self.baseline, _cost(greedy))

    def sampled(self, n: int, drawn: Group) -> None:
        """What the candidates alone tell."""
        verdicts = self.candidates[n] = self._verdicts(drawn, "samples")
        self._add("vote", n, self.scorer.vote(f"vote@{n}", verdicts), _cost(drawn))
        self._add("oracle", n, self.scorer.oracle(f"oracle@{n}", verdicts), _cost(drawn))

    def asked(self, n: int) -> list[Question]:
        """The questions whose candidates are put to the model."""
        if not self.options.spare_agreeing:
            return list(self.questions)
        return [question for question in self.questions if agreed(self.candidates[n][question.id]) is None]

    def selected(self, n: int, drawn: Cost, chosen: Group, voted: Group, dropped: int) -> None:
        """What the model chose; `drawn` is what the candidates cost."""
        candidates, count = self.candidates[n], len(self.questions)
        own = selections_of(self.questions, self._checked(chosen), candidates, f"selections among {n}")
        cost, rate = drawn + _cost(chosen, count), out_of_candidates(own, candidates)
        self._add("select", n, self.scorer.first(f"select@{n}", own), cost, rate, dropped)
        if self.options.votes:
            verdicts = selections_of(self.questions, self._checked(voted), candidates, f"voting selections among {n}")
            name = f"select@{n}-vote@{self.options.votes}"
            winners = {id: [winner] for id, group in verdicts.items() if (winner := elected(group)) is not None}
            rate = out_of_candidates(winners, candidates)
            score = self.scorer.vote(name, verdicts)
            self._add("select-vote", n, score, drawn + _cost(voted, count), rate, dropped)

    def _add(self, method: str, n: int, score: Score, cost: Cost, rate: Rate | None = None, dropped: int = 0) -> None:
        gain = bootstrap_gain(self.baseline.right, score.right, seed=self.options.seed)
        self.points.append(Point(method, n, score, cost, gain, rate, dropped))

    def _verdicts(self, groups: Group, what: str) -> Mapping[str, Sequence[Verdict]]:
        return verdicts_of(self.questions, self._checked(groups), what)

    def _checked(self, groups: Group) -> list[Checked]:
        samples = [sample for question in self.questions for sample in groups.get(question.id, ())]
        return verify_samples(self.questions, samples, self.options.profile, 0)


def _selections(
    asked: Mapping[int, Sequence[Question]], drawn: Group, prompts: Prompts, seed: int, limit: TokenLimit | None
) -> tuple[list[Request], dict[int, int]]:
    """Requests for all sizes, with ids `<question>@<n>`, and how many candidates each size had to leave out.

    Args:
        asked: size -> the questions that are asked.
        drawn: samples of each question.
        prompts: `select` and `candidate` are used.
        seed: of the order of candidates.
        limit: see `scale`.
    """
    requests, dropped = [], {}
    for n, questions in asked.items():
        full = {question.id: [sample.text for sample in drawn[question.id][-n:]] for question in questions}
        shown = {
            question.id: fitting_candidates(question, full[question.id], prompts, limit) for question in questions
        }
        dropped[n] = sum(len(full[id]) - len(shown[id]) for id in full)
        shuffled = select_requests(questions, shown, prompts, seed)
        requests += [replace(request, id=f"{request.id}{TURN}{n}") for request in shuffled]
    return requests, dropped


def _grouped(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=lambda sample: sample.k):
        groups.setdefault(sample.request, []).append(sample)
    return groups


def _newest(drawn: Group, n: int) -> Group:
    """The last n samples of each question, as the published scaling run takes them."""
    return {id: group[-n:] for id, group in drawn.items()}


def _of_size(samples: Sequence[Sample], n: int) -> Group:
    """The selections among n candidates, under the ids of their questions."""
    own = [sample for sample in samples if sample.request.rpartition(TURN)[2] == str(n)]
    return _grouped([replace(sample, request=sample.request.rpartition(TURN)[0]) for sample in own])


def _check_samples(questions: Sequence[Question], drawn: Group, most: int, path: Path) -> None:
    for question in questions:
        found = len(drawn.get(question.id, ()))
        if found < most:
            raise EvaluateError(
                f"{path}: question {question.id!r} has {found} samples, {most} are needed. Sample more of them, or "
                "ask for fewer candidates."
            )


def _cost(groups: Group, questions: int | None = None) -> Cost:
    """Of all samples, for one of so many questions; those without samples cost nothing."""
    count = questions or len(groups)
    prompts = [group[0].completion.prompt_tokens for group in groups.values()]
    generated = [sum(len(sample.completion.token_ids) for sample in group) for group in groups.values()]
    told = all(sample.completion.token_ids for group in groups.values() for sample in group)
    return Cost(sum(filter(None, prompts)) / count if all(prompts) else None, sum(generated) / count if told else None)


def _plus(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left + right
