# SPDX-License-Identifier: Apache-2.0
"""Accuracy from checked samples: greedy, oracle, majority vote and self-selection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .. import verify
from ..data.questions import Question
from ..recipes.records import Checked, by_question
from ..verify import Verdict
from .stats import Interval, wilson


Answers = Mapping[str, Sequence[Verdict]]  # question id -> verdicts of its samples, k = 0 first


class EvaluateError(ValueError):
    """Answers that cannot be scored, with the reason and what to do."""


@dataclass(frozen=True)
class Rate:
    """A share of questions.

    Attributes:
        count: questions that it holds for.
        n: questions that were looked at.
        interval: 95 % confidence (Wilson).
    """

    count: int
    n: int
    interval: Interval

    @classmethod
    def of(cls, count: int, n: int) -> Rate:
        """A rate with its interval."""
        return cls(count, n, wilson(count, n))

    @property
    def share(self) -> float:
        """count / n; 0 without questions."""
        return self.count / self.n if self.n else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"share": self.share, **asdict(self)}


@dataclass(frozen=True)
class Score:
    """Accuracy of one method on one set of questions.

    Attributes:
        name: `test@1` (greedy), `oracle@N`, `vote@N`, `select@N` ...
        right: for each question, in the order of the questions, whether the final answer is right.
        parsed: for each question, whether there is a final answer.
        seed: of the samples.
        profile: verifier profile.
        version: the profile's version; scores of other versions cannot be compared.
        categories: the accuracy of each category, where questions have one.
    """

    name: str
    right: tuple[bool, ...]
    parsed: tuple[bool, ...]
    seed: int
    profile: str
    version: int
    categories: Mapping[str, Rate] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Questions."""
        return len(self.right)

    @property
    def correct(self) -> int:
        """Questions with the right answer."""
        return sum(self.right)

    @property
    def accuracy(self) -> float:
        """correct / n; unparsed answers are wrong."""
        return self.correct / self.n if self.n else 0.0

    @property
    def unparsed(self) -> int:
        """Questions without a final answer."""
        return self.n - sum(self.parsed)

    @property
    def interval(self) -> Interval:
        """95 % confidence (Wilson)."""
        return wilson(self.correct, self.n)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without the list of questions."""
        return {
            "name": self.name,
            "accuracy": self.accuracy,
            "interval": asdict(self.interval),
            "correct": self.correct,
            "n": self.n,
            "unparsed": self.unparsed,
            "seed": self.seed,
            "profile": self.profile,
            "version": self.version,
            "categories": {name: rate.to_dict() for name, rate in self.categories.items()},
        }


@dataclass(frozen=True)
class Scores:
    """What one model reaches on a test set.

    Attributes:
        greedy: one greedy answer.
        samples: N sampled answers each; None if none were drawn.
        oracle: at least one of the N samples is right.
        vote: majority of the N samples.
        select: the model's choice after it has seen the N samples.
        correct: the model's last correction of its greedy answer.
        out_of_candidates: selections whose answer no candidate had, among those with an answer.
        unparsed_samples: sampled answers that could not be read, among all of them.
    """

    greedy: Score
    samples: int | None = None
    oracle: Score | None = None
    vote: Score | None = None
    select: Score | None = None
    correct: Score | None = None
    out_of_candidates: Rate | None = None
    unparsed_samples: Rate | None = None

    def named(self) -> dict[str, Score]:
        """The scores that there are, by name."""
        scores = (self.greedy, self.correct, self.vote, self.select, self.oracle)
        return {item.name: item for item in scores if item is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        rates = {"out_of_candidates": self.out_of_candidates, "unparsed_samples": self.unparsed_samples}
        return {
            "samples": self.samples,
            "scores": {name: item.to_dict() for name, item in self.named().items()},
            **{name: None if rate is None else rate.to_dict() for name, rate in rates.items()},
        }


@dataclass(frozen=True)
class Scorer:
    """Scores answers to one set of questions.

    Attributes:
        questions: the test questions.
        profile: verifier profile that the answers were checked with.
        seed: of the samples.
        category: field of the questions' rows to report accuracy by; questions without it are in no category.
    """

    questions: Sequence[Question]
    profile: str
    seed: int
    category: str = "category"

    def score(self, name: str, final: Callable[[str], Verdict | None]) -> Score:
        """A score from each question's final verdict; None is no answer."""
        verdicts = [final(question.id) for question in self.questions]
        right = tuple(verdict is not None and verdict.correct for verdict in verdicts)
        parsed = tuple(verdict is not None and verdict.parsed for verdict in verdicts)
        groups: dict[str, list[bool]] = {}
        for question, outcome in zip(self.questions, right, strict=True):
            if self.category in question.extra:
                groups.setdefault(str(question.extra[self.category]), []).append(outcome)
        categories = {label: Rate.of(sum(group), len(group)) for label, group in sorted(groups.items())}
        profile = verify.profile(self.profile)
        return Score(name, right, parsed, self.seed, profile.name, profile.version, categories)

    def first(self, name: str, answers: Answers) -> Score:
        """The first sample of each question, which is its only one for greedy answers."""
        return self.score(name, lambda id: answers[id][0])

    def oracle(self, name: str, answers: Answers) -> Score:
        """Right if any sample is."""
        return self.score(name, lambda id: max(answers[id], key=lambda verdict: (verdict.correct, verdict.parsed)))

    def vote(self, name: str, answers: Answers) -> Score:
        """The most frequent answer; unparsed ones do not vote, and the first of equally frequent ones wins."""
        return self.score(name, lambda id: elected(answers[id]))


def elected(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The verdict on the majority's answer, None if nothing was parsed."""
    winner = verify.majority_vote([verdict.answer if verdict.parsed else None for verdict in verdicts])
    return next((verdict for verdict in verdicts if verdict.parsed and verdict.answer == winner), None)


def verdicts_of(questions: Sequence[Question], checked: Sequence[Checked], what: str) -> Answers:
    """Verdicts by question, in the order of k.

    Args:
        questions: each needs the same number of answers, at least one; answers to other questions are left alone.
        checked: checked samples.
        what: what errors call them.

    Raises:
        EvaluateError: a question has no answers, or fewer than others.
    """
    groups: dict[str, list[Checked]] = {question.id: [] for question in questions}
    for item in checked:
        if item.question in groups:
            groups[item.question].append(item)
    counts = {len(group) for group in groups.values()}
    if not groups:
        raise EvaluateError("There are no questions to score.")
    if 0 in counts or len(counts) > 1:
        short = min(groups, key=lambda id: len(groups[id]))
        raise EvaluateError(
            f"{what}: question {short!r} has {len(groups[short])} answers, others have {max(counts)}. "
            "Every question needs the same number: give the questions that were asked, and a finished samples file."
        )
    return {
        id: [item.verdict for item in sorted(group, key=lambda item: item.sample.k)] for id, group in groups.items()
    }


def agreed(candidates: Sequence[Verdict]) -> Verdict | None:
    """The verdict on candidates that all give one answer; None where they differ or one of them is unparsed."""
    one = all(verdict.parsed for verdict in candidates) and len({verdict.answer for verdict in candidates}) == 1
    return candidates[0] if one else None


def disputed(checked: Sequence[Checked]) -> list[Checked]:
    """The samples of questions whose samples do not agree, in their order."""
    groups = by_question(checked)
    unsettled = {id for id, group in groups.items() if agreed([item.verdict for item in group]) is None}
    return [item for item in checked if item.question in unsettled]


def selections_of(
    questions: Sequence[Question], checked: Sequence[Checked], candidates: Answers, what: str = "selections"
) -> Answers:
    """Verdicts on selections by question. One that was not asked has its candidates' answer, if they agree.

    Args:
        questions: as in `verdicts_of`.
        checked: checked selections; questions whose candidates agree need none.
        candidates: verdicts on the candidates of each question.
        what: what errors call the selections.

    Raises:
        EvaluateError: as `verdicts_of`.
    """
    counts = Counter(item.question for item in checked)
    spared: Answers = {
        question.id: [verdict] * max(counts.values(), default=1)
        for question in questions
        if question.id not in counts and (verdict := agreed(candidates[question.id])) is not None
    }
    asked = [question for question in questions if question.id not in spared]
    return {**spared, **(verdicts_of(asked, checked, what) if asked else {})}


def score(
    questions: Sequence[Question],
    *,
    greedy: Sequence[Checked],
    samples: Sequence[Checked] | None = None,
    select: Sequence[Checked] | None = None,
    corrected: Sequence[Sequence[Checked]] = (),
    profile: str,
    seed: int,
    category: str = "category",
) -> Scores:
    """Scores a model.

    Args:
        questions: the test questions.
        greedy: one greedy answer for each.
        samples: N sampled answers for each.
        select: one selection among the N samples for each; none is needed where these agree.
        corrected: one correction of each greedy answer, one of each correction, and so on.
        profile: verifier profile that all of them were checked with.
        seed: of the samples.
        category: field of the questions' rows to report accuracy by.

    Raises:
        EvaluateError: answers are missing, or there are selections without samples.
    """
    scorer = Scorer(questions, profile, seed, category)
    test1 = scorer.first("test@1", verdicts_of(questions, greedy, "greedy answers"))
    turns = [verdicts_of(questions, turn, "corrections") for turn in corrected]
    correct = scorer.first(f"correct@{len(turns)}", turns[-1]) if turns else None
    if samples is None:
        if select is not None:
            raise EvaluateError("Selections can be scored only together with the samples that they chose from.")
        return Scores(test1, correct=correct)
    drawn = verdicts_of(questions, samples, "samples")
    n = len(drawn[questions[0].id])
    chosen = None if select is None else selections_of(questions, select, drawn)
    unparsed = sum(not verdict.parsed for group in drawn.values() for verdict in group)
    return Scores(
        greedy=test1,
        samples=n,
        oracle=scorer.oracle(f"oracle@{n}", drawn),
        vote=scorer.vote(f"vote@{n}", drawn),
        select=None if chosen is None else scorer.first(f"select@{n}", chosen),
        correct=correct,
        out_of_candidates=None if chosen is None else out_of_candidates(chosen, drawn),
        unparsed_samples=Rate.of(unparsed, n * len(drawn)),
    )


def out_of_candidates(selected: Answers, candidates: Answers) -> Rate:
    """How often a selection answers what no candidate answered, among selections with an answer."""
    parsed = {id: group[0].answer for id, group in selected.items() if group[0].parsed}
    own = sum(answer not in {verdict.answer for verdict in candidates[id]} for id, answer in parsed.items())
    return Rate.of(own, len(parsed))


def percent(value: float) -> str:
    """A share as text."""
    return f"{100 * value:.1f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text: the first to the left, others to the right."""
    widths = [max(len(row[place]) for row in (header, *rows)) for place in range(len(header))]
    lines = []
    for row in (header, ["-" * width for width in widths], *rows):
        cells = [
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def span(interval: Interval) -> str:
    """An interval of shares as text, in percent."""
    return f"{percent(interval.low)}–{percent(interval.high)}"


def tokens(value: float | None) -> str:
    """A mean number of tokens as text; a question mark where the engine does not tell."""
    return "?" if value is None else f"{value:.0f}"
