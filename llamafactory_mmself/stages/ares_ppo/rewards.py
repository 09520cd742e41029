# SPDX-License-Identifier: Apache-2.0
"""What responses are worth: scores of their sentences, right answers, or a function of the user's.

A source gives, for each answer, pairs of a character and a reward: the reward goes to the token that completes the
text up to there. None takes the answer out of training.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from ... import verify
from ...data.questions import Question
from ...generate.teacher import Lesson, Teacher, load_symbol, load_teacher
from ...verify.sentences import Span, sentences, token_ends, without_answer
from ..base import SettingError
from .arguments import AresPPOArguments
from .rollouts import Response


ANSWERS = "teacher.jsonl"  # in the run's folder


@dataclass(frozen=True)
class Answered:
    """A response as a source of rewards sees it.

    Attributes:
        id: question and number of the sample.
        question: what was asked.
        text: the response.
        sentences: those to be scored.
        finish_reason: `stop`, or `length` for a cut one.
    """

    id: str
    question: Question
    text: str
    sentences: tuple[Span, ...]
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True)
class Reward:
    """What one answer is worth.

    Attributes:
        pairs: (offset after the last character it is for, size); None takes the answer out of training.
        scores: of its sentences, where there are any.
        reason: why there is no reward.
    """

    pairs: Sequence[tuple[int, float]] | None
    scores: tuple[float, ...] = ()
    reason: str = ""


class Source(Protocol):
    """Where rewards come from."""

    def __call__(self, answers: Sequence[Answered]) -> list[Reward]:
        """The rewards of answers, in their order."""
        ...

    def counts(self) -> Mapping[str, float]:
        """What it has done so far, for the log."""
        ...


def make_source(args: AresPPOArguments, folder: Path) -> Source:
    """The source that the run's arguments name.

    Args:
        args: of the stage.
        folder: the run's; a remote teacher's answers are kept there if it does not say where.

    Raises:
        TeacherError, VerifyError: it is not there.
    """
    if args.reward == "outcome":
        return Outcome(args.verifier)
    if args.reward != "teacher":
        return Custom(args.reward, load_symbol(args.reward, "reward"))
    assert args.teacher is not None
    outcome = Outcome(args.verifier) if args.outcome_coef else None
    return Taught(load_teacher(args.teacher, folder / ANSWERS), args, outcome)


class Taught:
    """Scores of sentences minus the neutral one, and perhaps an outcome on top."""

    def __init__(self, teacher: Teacher, args: AresPPOArguments, outcome: Outcome | None = None) -> None:
        self._teacher = teacher
        self._args = args
        self._outcome = outcome

    def __call__(self, answers: Sequence[Answered]) -> list[Reward]:
        """See `Source`; an answer without a sentence scores 0, and nobody is asked about it."""
        asked = [place for place, answer in enumerate(answers) if answer.sentences]
        lessons = [_lesson(answers[place]) for place in asked]
        scored = dict(zip(asked, self._teacher.score(lessons) if lessons else [], strict=True))
        extra = [0.0] * len(answers) if self._outcome is None else self._outcome.values(answers)
        found = []
        for place, (answer, more) in enumerate(zip(answers, extra, strict=True)):
            if answer.sentences and scored[place].scores is None:
                found.append(Reward(None, reason=scored[place].reason))
                continue
            scores = tuple(scored[place].scores or ()) if answer.sentences else ()
            found.append(Reward(self._pairs(answer, scores, more), scores))
        return found

    def _pairs(self, answer: Answered, scores: Sequence[float], more: float) -> list[tuple[int, float]]:
        neutral = self._args.neutral_score
        share = 1 / len(scores) if scores and self._args.sentence_reward == "mean" else 1.0
        pairs = [
            (span.end, (score - neutral) * share) for span, score in zip(answer.sentences, scores, strict=True)
        ] or [(len(answer.text), -neutral)]
        return pairs if self._outcome is None else [*pairs, (len(answer.text), self._args.outcome_coef * more)]

    def counts(self) -> Mapping[str, float]:
        """See `Source`."""
        outcome = {} if self._outcome is None else self._outcome.counts()
        return {**{f"teacher_{name}": value for name, value in self._teacher.counts().items()}, **outcome}


class Outcome:
    """1 for a right answer and 0 for a wrong or an unreadable one, at the last token."""

    def __init__(self, profile: str) -> None:
        self._profile = verify.profile(profile)
        self._unparsed = 0

    def __call__(self, answers: Sequence[Answered]) -> list[Reward]:
        """See `Source`."""
        values = self.values(answers)
        return [Reward([(len(item.text), value)]) for item, value in zip(answers, values, strict=True)]

    def values(self, answers: Sequence[Answered]) -> list[float]:
        """1 or 0 for each answer."""
        verdicts = [
            self._profile.check(
                item.text, item.question.answer, choices=item.question.choices, question=item.question.block
            )
            for item in answers
        ]
        self._unparsed += sum(not verdict.parsed for verdict in verdicts)
        return [float(verdict.correct) for verdict in verdicts]

    def counts(self) -> Mapping[str, float]:
        """See `Source`."""
        return {"unparsed": float(self._unparsed)}


class Custom:
    """A function of the user's: a list of `Answered` -> for each a list of (offset, reward) pairs, or None."""

    def __init__(self, name: str, function: Callable[[Sequence[Answered]], Any]) -> None:
        self._name = name
        self._function = function

    def __call__(self, answers: Sequence[Answered]) -> list[Reward]:
        """See `Source`.

        Raises:
            SettingError: the function does not return one list of pairs, or None, for each answer.
        """
        found = list(self._function(answers))
        if len(found) != len(answers):
            raise SettingError(f"`{self._name}` returned {len(found)} rewards for {len(answers)} answers.")
        return [self._reward(answer, pairs) for answer, pairs in zip(answers, found, strict=True)]

    def _reward(self, answer: Answered, pairs: Any) -> Reward:
        if pairs is None:
            return Reward(None, reason="left out by the reward function")
        try:
            read = [(int(end), float(value)) for end, value in pairs]
        except (TypeError, ValueError) as error:
            raise SettingError(
                f"`{self._name}` returned {pairs!r} for {answer.id}; (character, reward) pairs are expected."
            ) from error
        return Reward(read)

    def counts(self) -> Mapping[str, float]:
        """See `Source`."""
        return {}


@dataclass
class Rewarder:
    """Gives responses their rewards, and counts those that get none.

    Attributes:
        source: where rewards come from.
        args: the stage's arguments.
        decode: token ids to text.
        failed: reason -> responses without a reward.
    """

    source: Source
    args: AresPPOArguments
    decode: Callable[[Sequence[int]], str]
    failed: Counter[str] = field(default_factory=Counter)

    def answered(self, question: Question, number: int, response: Response) -> Answered:
        """A response as sources see it."""
        finished = response.finish_reason == "stop"
        spans = sentences(response.text, finished=finished, quirks=self.args.quirks)
        kept = spans if self.args.score_answer else without_answer(spans)
        name = f"{question.id}#{number}"
        return Answered(name, question, response.text, tuple(kept), response.finish_reason)

    def reward(self, answers: Sequence[Answered], responses: Sequence[Response]) -> list[Response]:
        """The responses with rewards by token.

        Raises:
            SettingError: a reward is not a finite number.
        """
        found = self.source(answers) if answers else []
        result = []
        for answer, response, reward in zip(answers, responses, found, strict=True):
            dropped = self.args.cut_responses == "drop" and response.finish_reason == "length"
            reason = "cut" if dropped else reward.reason
            if dropped or reward.pairs is None:
                self.failed[reason] += 1
                result.append(response.with_rewards(None, reward.scores, reason))
            else:
                result.append(response.with_rewards(self._by_token(answer, response, reward.pairs), reward.scores))
        return result

    def _by_token(self, answer: Answered, response: Response, pairs: Sequence[tuple[int, float]]) -> dict[int, float]:
        for _, value in pairs:
            if not math.isfinite(value):
                raise SettingError(f"The reward {value} of {answer.id} is not a finite number.")
        last = len(response.ids) - 1
        inner = sorted({end for end, _ in pairs if 0 < end < len(response.text)})
        places = dict(zip(inner, token_ends(response.ids, inner, self.decode), strict=True))
        if cut := self.args.cut_reward * (response.finish_reason == "length"):
            pairs = [*pairs, (len(response.text), cut)]
        rewards: dict[int, float] = {}
        for end, value in pairs:
            place = places.get(end, last if end >= len(response.text) else 0)
            rewards[place] = rewards.get(place, 0.0) + value
        return rewards


def _lesson(answer: Answered) -> Lesson:
    return Lesson(answer.id, answer.question, answer.text, tuple(span.text for span in answer.sentences))
