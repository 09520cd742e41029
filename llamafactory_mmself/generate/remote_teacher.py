# SPDX-License-Identifier: Apache-2.0
"""A teacher behind an OpenAI-compatible endpoint or Anthropic's Messages API.

Answers are kept by all that the teacher is shown: model, prompt, texts, pictures. What fails, for whatever reason, is
told with that reason, written to a file of its own, counted, and stops nothing; only a wrong key or address does, and
only before the first answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..files import FileError, append_jsonl, digest
from ..prompts import Prompt, load_prompt
from .cache import AnswerCache
from .client import LIMIT, NEW_LIMIT, Connection, Endpoint, Lost, Refused, run_to_end, wants_new_limit
from .pictures import data_url
from .replies import FINAL, ReplyError, parse_correction, parse_scores
from .teacher import Corrected, Lesson, Scored
from .teacher_config import TeacherConfig
from .teacher_requests import CORRECT, SCORE, ReplyForm, Turn, answer_of, body_of, example_of


Value = TypeVar("Value")
Kind = Literal["score", "correct"]

_COMMON = ("picture", "question", "context", "options", "answer", "example")
_FATAL = frozenset({401, 403, 404})
_SILENT = "silent"  # the reason of lessons that nobody has answered
_ALIVE = 5.0  # seconds in which a server says that it is there


@dataclass(frozen=True)
class _Asked:
    """A lesson on its way: its prompt, and the key of its answer."""

    lesson: Lesson
    prompt: str
    key: str


@dataclass(frozen=True)
class _Silence:
    """A lesson that nobody has answered: why, the reply that was to be repaired, and whether it was asked at all."""

    reason: str
    reply: str | None
    asked: bool


class _NotAsked(Lost):
    """Nothing is asked any more: the last requests met silence."""


class RemoteTeacher:
    """Scores and corrects by endpoint; see `generate.teacher.Teacher`.

    Args:
        config: where, how, and at what price.

    Raises:
        EngineError: the address is none.
        PromptError: a prompt file cannot be used.
    """

    def __init__(self, config: TeacherConfig) -> None:
        self.config = config
        self._endpoint = Endpoint.at(
            config.api_base, config.key_env, config.concurrency, config.timeout, config.retries, config.api
        )
        self._prompts: dict[Kind, Prompt] = {
            "score": load_prompt(config.score_prompt, "ares_score.txt", (*_COMMON, "sentences")),
            "correct": load_prompt(config.correct_prompt, "ares_correct.txt", (*_COMMON, "rationale")),
        }
        self._cache = AnswerCache(None if config.cache is None else Path(config.cache))
        self._structured = config.structured
        self._limit_name = LIMIT
        self._counts: Counter[str] = Counter()
        self._spent = 0.0
        self._answered = False
        self._silent = 0

    @property
    def name(self) -> str:
        """See `Teacher.name`."""
        return f"{self.config.api_model}@{self._endpoint.base}"

    def score(self, lessons: Sequence[Lesson]) -> list[Scored]:
        """See `Teacher.score`.

        Raises:
            EngineError: key or address are wrong.
            FileError: an answer cannot be kept.
        """

        def read(lesson: Lesson, reply: str, cut: bool) -> Scored:
            return Scored(tuple(parse_scores(reply, len(lesson.sentences), cut=cut)))

        return run_to_end(self._ask("score", lessons, read, lambda reason: Scored(None, reason)))

    def correct(self, lessons: Sequence[Lesson]) -> list[Corrected]:
        """See `Teacher.correct`. Errors as for `score`."""

        def read(lesson: Lesson, reply: str, cut: bool) -> Corrected:
            return Corrected(parse_correction(reply, cut=cut))

        return run_to_end(self._ask("correct", lessons, read, lambda reason: Corrected(None, reason)))

    def counts(self) -> Mapping[str, float]:
        """See `Teacher.counts`: lessons, asked, cached, repaired, failed, tokens and cost.

        `unanswered` are failed lessons that can be had later: the server was away when they had all been asked.
        """
        names = ("lessons", "asked", "cached", "repaired", "failed", "unanswered", "prompt_tokens", "answer_tokens")
        return {**{name: float(self._counts[name]) for name in names}, "cost": self._spent}

    async def _ask(
        self,
        kind: Kind,
        lessons: Sequence[Lesson],
        read: Callable[[Lesson, str, bool], Value],
        failed: Callable[[str], Value],
    ) -> list[Value]:
        """Asks about all lessons, and once more about those that met silence if the server is there after all."""
        self._counts["lessons"] += len(lessons)
        digests: dict[str, str] = {}
        async with self._endpoint.connect() as connection:

            async def one(lesson: Lesson) -> Value | _Silence:
                async with connection.slots:
                    try:
                        asked = self._prepared(kind, lesson, digests)
                    except OSError as error:
                        return failed(self._fail(kind, lesson, f"the picture cannot be read: {error}", None))
                    return await self._one(connection, kind, asked, read, failed)

            async def every(places: Iterable[int]) -> dict[int, Value | _Silence]:
                self._silent = 0
                try:
                    async with asyncio.TaskGroup() as group:
                        tasks = {place: group.create_task(one(lessons[place])) for place in places}
                except ExceptionGroup as errors:
                    raise errors.exceptions[0] from None
                return {place: task.result() for place, task in tasks.items()}

            found = await every(range(len(lessons)))
            if (lost := _silent(found)) and await connection.alive(_ALIVE):
                found |= await every(lost)
                lost = _silent(found)
            if lost:  # away, or too busy to answer: what was asked twice in vain would be again
                away = not await connection.alive(_ALIVE)
                self._counts["unanswered"] += sum(away or not item.asked for item in lost.values())
        return [
            failed(self._fail(kind, lessons[place], item.reason, item.reply)) if isinstance(item, _Silence) else item
            for place, item in found.items()
        ]

    async def _one(
        self,
        connection: Connection,
        kind: Kind,
        asked: _Asked,
        read: Callable[[Lesson, str, bool], Value],
        failed: Callable[[str], Value],
    ) -> Value | _Silence:
        """A lesson's answer, after one repair if the first reply cannot be read."""
        turns: list[Turn] = [("user", asked.prompt)]
        reply: str | None = None
        reason = ""
        for attempt in range(2 if self.config.repair else 1):
            key = asked.key if not attempt else _digest([asked.key, "repair", reply])
            try:
                reply, cut = await self._reply(connection, kind, key, turns, asked.lesson.question.images)
                return read(asked.lesson, reply, cut)
            except ReplyError as error:
                reason = error.reason
                self._counts["repaired"] += not attempt and self.config.repair
                turns += [("assistant", reply or "(nothing)"), ("user", _complaint(str(error), kind))]
            except Refused as error:
                if not self._answered and error.status in _FATAL:
                    raise
                reason = f"refused: {error.reason}"
                break
            except FileError:  # what is paid for could not be kept
                raise
            except Lost as error:
                return _Silence(f"{_SILENT}: {error}", reply, not isinstance(error, _NotAsked))
            except ValueError as error:  # no money
                reason = str(error)
                break
        return failed(self._fail(kind, asked.lesson, reason, reply))

    async def _reply(
        self, connection: Connection, kind: Kind, key: str, turns: Sequence[Turn], images: Sequence[str]
    ) -> tuple[str, bool]:
        """The teacher's text for a conversation and whether it was cut, from the cache if it is there."""
        known = self._cache.get(key)
        if known is not None:
            self._counts["cached"] += 1
            return known[0], known[1] == "length"
        if self.config.budget is not None and self._spent >= self.config.budget:
            raise ValueError("budget: nothing is asked any more")
        if self.config.patience and self._silent >= self.config.patience:
            raise _NotAsked("the teacher has not answered the last requests")
        answer = await self._sent(connection, kind, turns, images)
        text, cut, prompt_tokens, answer_tokens = answer_of(self.config.api, answer)
        self._answered, self._silent = True, 0
        self._counts.update(asked=1, prompt_tokens=prompt_tokens, answer_tokens=answer_tokens)
        self._spent += self.config.cost(prompt_tokens, answer_tokens)
        self._cache.add({key: (text, "length" if cut else "stop")})
        return text, cut

    async def _sent(
        self, connection: Connection, kind: Kind, turns: Sequence[Turn], images: Sequence[str]
    ) -> dict[str, Any]:
        """The server's answer; a request without one is counted as silence."""
        form = (SCORE if kind == "score" else CORRECT) if self._structured else None
        urls = [data_url(image) for image in images]
        try:
            return await self._posted(connection, turns, urls, form)
        except Refused:
            raise
        except ValueError as error:
            self._silent += 1
            raise Lost(str(error)) from error

    async def _posted(
        self, connection: Connection, turns: Sequence[Turn], urls: Sequence[str], form: ReplyForm | None
    ) -> dict[str, Any]:
        """Asks again in another way where a server does not know a field of ours."""
        limit = self._limit_name  # another request may change it meanwhile
        send = connection.messages if self.config.api == "anthropic" else connection.chat
        try:
            return await send(body_of(self.config, turns, urls, form, limit))
        except Refused as refused:
            if refused.status not in (400, 422):
                raise
            if wants_new_limit(refused, limit):
                self._limit_name = NEW_LIMIT
                return await self._posted(connection, turns, urls, form)
            if form is None:
                raise
        answer = await self._posted(connection, turns, urls, None)
        self._structured = False  # it was the form that was refused
        return answer

    def _prepared(self, kind: Kind, lesson: Lesson, digests: dict[str, str]) -> _Asked:
        question = lesson.question
        right = f"({question.answer}) " if question.choices else ""
        truth = dict(zip(question.letters, question.choices or (), strict=True)).get(question.answer, question.answer)
        told = self.config.show_answer and question.answer
        values = {
            "picture": " The picture is shown." if question.images else " There is no picture.",
            "question": question.text,
            "context": question.context,
            "options": question.options,
            "answer": f"The right answer: {right if question.choices else ''}{truth}\n" if told else "",
            "example": example_of(kind),
        }
        own = (
            {"sentences": "\n".join(f"{n}. {text}" for n, text in enumerate(lesson.sentences, start=1))}
            if kind == "score"
            else {"rationale": lesson.text}
        )
        prompt = self._prompts[kind].fill(**values, **own)
        digests.update({image: digest(Path(image)) for image in question.images if image not in digests})
        shown = [digests[image] for image in question.images]
        who = [self.name, self.config.temperature, self.config.max_tokens, self.config.structured]
        return _Asked(lesson, prompt, _digest([who, self._prompts[kind].digest, prompt, shown]))

    def _fail(self, kind: Kind, lesson: Lesson, reason: str, reply: str | None) -> str:
        self._counts["failed"] += 1
        if self.config.failures is not None:
            row = {"kind": kind, "id": lesson.id, "question": lesson.question.id, "reason": reason, "reply": reply}
            append_jsonl(Path(self.config.failures), [row])
        return reason


def _silent(found: Mapping[int, Any]) -> dict[int, _Silence]:
    return {place: item for place, item in found.items() if isinstance(item, _Silence)}


def _complaint(problem: str, kind: Kind) -> str:
    what = f"with the field `{FINAL}`" if kind == "correct" else "with one score from 0 to 1 for each sentence"
    return f"Your reply could not be used: {problem} Reply again with JSON {what} and nothing else."


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
