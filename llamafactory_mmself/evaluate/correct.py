# SPDX-License-Identifier: Apache-2.0
"""Self-correction at test time: what a model gains when it looks at its own response again, turn by turn.

Each turn is a prompt of its own that shows the question and the last response, not a growing chat. A chain of turns
ends when it has had all of them, when its answer stays the same, or when a verifier calls the response right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from .. import verify
from ..data.questions import Question
from ..generate.forms import YesNo
from ..generate.jobs import SampleJob, read_samples
from ..generate.seeds import derived_seed
from ..generate.types import Request, Sample, SamplingParams
from ..recipes.prompts import SherlockPrompts
from ..recipes.sherlock import TURN, ask_requests, correction_prompt
from ..verify import Verdict
from .answers import EvaluateError, Rate, Score, Scorer, elected
from .select import Cost
from .stats import Interval, bootstrap_gain


Run = Callable[[SampleJob], Path]  # samples a job, or finds it done; returns its file
Stop = Literal["fixed", "unchanged", "judge"]
VERDICT = YesNo()


@dataclass(frozen=True)
class CorrectOptions:
    """How to correct.

    Attributes:
        turns: corrections of a response, at most.
        parallel: responses to start from; the answers of all of them vote.
        stop: `fixed`: every chain has all turns; `unchanged`: it ends when a correction answers what the response
            before it answered; `judge`: it ends when the verifier calls a response right.
        critique: show the verifier's critique of a response together with it.
        sees: whether the verifier gets the pictures, too.
        first: how first responses are sampled.
        then: how corrections are sampled.
        verdict: how the verifier is sampled.
        profile: verifier profile that scores answers.
        seed: of all samples.
        category: field of the questions' rows to report accuracy by.
    """

    turns: int = 3
    parallel: int = 1
    stop: Stop = "fixed"
    critique: bool = False
    sees: bool = True
    first: SamplingParams = field(default_factory=lambda: SamplingParams(temperature=0.0))
    then: SamplingParams = field(default_factory=lambda: SamplingParams(temperature=0.0))
    verdict: SamplingParams = field(default_factory=lambda: SamplingParams(temperature=0.0, max_new_tokens=256))
    profile: str = "tagged"
    seed: int = 0
    category: str = "category"

    def __post_init__(self) -> None:
        if self.turns < 1 or self.parallel < 1:
            raise EvaluateError(f"turns ({self.turns}) and parallel ({self.parallel}) have to be 1 or more.")
        if self.stop not in ("fixed", "unchanged", "judge"):
            raise EvaluateError(f"There is no stop rule {self.stop!r}: use fixed, unchanged or judge.")
        if self.parallel > 1 and self.first.temperature == 0:
            raise EvaluateError("Several greedy responses are all the same: give the first ones a temperature.")

    @property
    def judged(self) -> bool:
        """Whether a verifier is needed."""
        return self.stop == "judge" or self.critique


@dataclass(frozen=True)
class Point:
    """A way to answer, after a number of turns.

    Attributes:
        method: `turn` (the last response), `turn-vote` (majority of all responses so far) or `parallel-vote`.
        turn: corrections so far.
        score: accuracy with all that it depends on.
        gain: over the first response; a 95 % interval from a paired bootstrap over questions.
        fixed: questions that were wrong at first and are right now, among all.
        broken: questions that were right at first and are wrong now, among all.
        corrected: responses that this turn corrected; other chains had ended.
        cost: tokens for a question, all turns so far and the verifier's included.
    """

    method: str
    turn: int
    score: Score
    gain: Interval
    fixed: Rate
    broken: Rate
    corrected: int
    cost: Cost

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "method": self.method,
            "turn": self.turn,
            **self.score.to_dict(),
            "gain": asdict(self.gain),
            "wrong_to_right": self.fixed.to_dict(),
            "right_to_wrong": self.broken.to_dict(),
            "corrected": self.corrected,
            "cost": asdict(self.cost),
        }


@dataclass
class _Chain:
    """A response and its corrections.

    `responses` has one for each turn that was made, `verdicts` what is right about each; `used` are all samples that
    the chain cost, by the turn that they belong to.
    """

    question: Question
    number: int
    responses: list[Sample]
    verdicts: list[Verdict]
    used: list[list[Sample]]
    over: bool = False
    critique: str | None = None

    @property
    def id(self) -> str:
        return f"{self.question.id}{TURN}{self.number}"

    def at(self, turn: int) -> Verdict:
        """The verdict after a turn; a chain that has ended keeps its last one."""
        return self.verdicts[min(turn, len(self.verdicts) - 1)]


def correct(
    questions: Sequence[Question],
    run: Run,
    options: CorrectOptions,
    prompts: SherlockPrompts,
    out: Path,
    *,
    judge: Run | None = None,
) -> list[Point]:
    """Answers questions, corrects the responses, and measures every turn.

    Args:
        questions: the test questions.
        run: samples jobs with the model.
        options: how to correct.
        prompts: `ask`, `correction`, and for a verifier `verify` and `critique`.
        out: folder of the samples files; a call that was stopped goes on from them.
        judge: samples jobs with the verifier.

    Raises:
        EvaluateError: there are no questions, or a verifier is needed and there is none.
        EngineError: sampling failed; finished batches are kept.
    """
    if not questions:
        raise EvaluateError("There are no questions to correct answers of.")
    if options.judged and judge is None:
        raise EvaluateError("The stop rule `judge` and critiques need a verifier: give its engine.")
    chains = _start(questions, run, options, prompts, out)
    table = _Table(questions, chains, options)
    table.add(0, len(chains))
    for turn in range(1, options.turns + 1):
        if options.judged and judge is not None:
            _judge([chain for chain in chains if not chain.over], judge, turn, options, prompts, out)
        alive = [chain for chain in chains if not chain.over]
        _turn(alive, run, turn, options, prompts, out)
        table.add(turn, len(alive))
    return table.points


def _start(
    questions: Sequence[Question], run: Run, options: CorrectOptions, prompts: SherlockPrompts, out: Path
) -> list[_Chain]:
    params = replace(options.first, n=options.parallel)
    path = out / "turn0.jsonl"
    job = SampleJob(ask_requests(questions, prompts), params, derived_seed(options.seed, path.stem), path)
    groups: dict[str, list[Sample]] = {}
    for sample in read_samples(run(job)):
        groups.setdefault(sample.request, []).append(sample)
    return [
        _Chain(question, number, [sample], [_check(question, sample, options)], [[sample]])
        for question in questions
        for number, sample in enumerate(sorted(groups[question.id], key=lambda sample: sample.k))
    ]


def _judge(
    chains: Sequence[_Chain], judge: Run, turn: int, options: CorrectOptions, prompts: SherlockPrompts, out: Path
) -> None:
    """Lets the verifier look at the last responses; those that it calls right are final under the rule `judge`."""
    requests = [_verify_request(chain, options, prompts) for chain in chains]
    for chain, sample in _sampled(chains, requests, judge, options.verdict, options, out / f"judge{turn}.jsonl"):
        chain.used.append([sample])
        cut = sample.completion.finish_reason == "length"
        right = None if cut else VERDICT.parse(sample.text)  # the end of a cut verdict is not known
        chain.over = options.stop == "judge" and right is True
        chain.critique = _reason(sample.text) if options.critique and not cut else None


def _verify_request(chain: _Chain, options: CorrectOptions, prompts: SherlockPrompts) -> Request:
    question, images = chain.question, chain.question.images if options.sees else ()
    filled = prompts.verify.fill(question=question.block, response=chain.responses[-1].text.strip())
    return Request.ask(chain.id, (question.placeholders if images else "") + filled, images)


def _turn(
    chains: Sequence[_Chain], run: Run, turn: int, options: CorrectOptions, prompts: SherlockPrompts, out: Path
) -> None:
    """Corrects the last response of each chain."""
    requests = [
        Request.ask(
            chain.id,
            correction_prompt(chain.question, chain.responses[-1].text, prompts, chain.critique),
            chain.question.images,
        )
        for chain in chains
    ]
    found = _sampled(chains, requests, run, replace(options.then, n=1), options, out / f"turn{turn}.jsonl")
    for chain, sample in found:
        chain.used += [[] for _ in range(2 * turn - len(chain.used))]  # without a verifier
        chain.used.append([sample])
        chain.responses.append(sample)
        chain.verdicts.append(_check(chain.question, sample, options))
        before, now = chain.verdicts[-2:]
        chain.over = options.stop == "unchanged" and now.parsed and before.parsed and now.answer == before.answer


def _sampled(
    chains: Sequence[_Chain],
    requests: Sequence[Request],
    run: Run,
    params: SamplingParams,
    options: CorrectOptions,
    out: Path,
) -> list[tuple[_Chain, Sample]]:
    """One sample for each chain; the file's name decides the seed together with the options'."""
    if not chains:
        return []
    job = SampleJob(requests, params, derived_seed(options.seed, out.stem), out)
    samples = {sample.request: sample for sample in read_samples(run(job))}
    return [(chain, samples[chain.id]) for chain in chains]


def _check(question: Question, sample: Sample, options: CorrectOptions) -> Verdict:
    return verify.check(
        options.profile, sample.text, question.answer, choices=question.choices, question=question.block
    )


def _reason(text: str) -> str:
    """A verifier's critique without the line that states its verdict."""
    lines = [
        line for line in text.strip().split("\n") if not line.strip().lstrip("*_#> ").lower().startswith("verdict")
    ]
    return "\n".join(lines).strip()


class _Table:
    """Collects points."""

    def __init__(self, questions: Sequence[Question], chains: Sequence[_Chain], options: CorrectOptions) -> None:
        self.chains: dict[str, list[_Chain]] = {question.id: [] for question in questions}
        for chain in chains:
            self.chains[chain.question.id].append(chain)
        self.options = options
        self.scorer = Scorer(questions, options.profile, options.seed, options.category)
        self.points: list[Point] = []

    def add(self, turn: int, corrected: int) -> None:
        """What all ways to answer reach after a turn."""
        alone = corrected if self.options.parallel == 1 else self._corrected(turn)
        single = self.scorer.score(f"turn@{turn}", lambda id: self.chains[id][0].at(turn))
        self._point("turn", turn, single, alone, 1)
        if turn:
            vote = self.scorer.score(
                f"turn-vote@{turn + 1}", lambda id: elected([self.chains[id][0].at(t) for t in range(turn + 1)])
            )
            self._point("turn-vote", turn, vote, alone, 1)
        if self.options.parallel > 1:
            name = f"parallel-vote@{self.options.parallel}"
            vote = self.scorer.score(name, lambda id: elected([chain.at(turn) for chain in self.chains[id]]))
            self._point("parallel-vote", turn, vote, corrected, self.options.parallel)

    def _corrected(self, turn: int) -> int:
        return sum(len(group[0].responses) > turn for group in self.chains.values())

    def _point(self, method: str, turn: int, score: Score, corrected: int, chains: int) -> None:
        start = self.points[0].score if self.points else score
        own = next((point.score for point in self.points if point.method == method and point.turn == 0), start)
        first = score if turn == 0 else own
        pairs = list(zip(first.right, score.right, strict=True))
        fixed = sum(after and not before for before, after in pairs)
        broken = sum(before and not after for before, after in pairs)
        gain = bootstrap_gain(start.right, score.right, seed=self.options.seed)
        rates = Rate.of(fixed, score.n), Rate.of(broken, score.n)
        self.points.append(Point(method, turn, score, gain, *rates, corrected, self._cost(turn, chains)))

    def _cost(self, turn: int, chains: int) -> Cost:
        """Tokens of the first chains of each question up to a turn; a prompt with several answers counts once."""
        samples: list[Sample] = []
        prompts = 0
        known = True
        for group in self.chains.values():
            for chain in group[:chains]:
                used = [sample for step in chain.used[: 2 * turn + 1] for sample in step]
                samples += used
                counted = used if chain is group[0] else used[1:]
                prompts += sum(sample.completion.prompt_tokens for sample in counted)
                known = known and all(sample.completion.prompt_tokens for sample in counted)
        told = all(sample.completion.token_ids for sample in samples)
        generated = sum(len(sample.completion.token_ids) for sample in samples)
        n = len(self.chains)
        return Cost(prompts / n if known else None, generated / n if told else None)
