# SPDX-License-Identifier: Apache-2.0
"""What a teacher is: it scores the sentences of a rationale, and writes a better one.

`load_teacher` makes one from a word: a YAML file (`generate.remote_teacher`), a file with ready-made scores, or
`module:function`, which is called without arguments.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ..data.questions import Question
from ..files import read_jsonl


class TeacherError(ValueError):
    """A teacher that cannot be used, with the reason and what to do."""


@dataclass(frozen=True)
class Lesson:
    """A rationale for the teacher to look at.

    Attributes:
        id: for messages and files.
        question: with its pictures, options and truth.
        text: the rationale.
        sentences: those that are to be scored, in order.
    """

    id: str
    question: Question
    text: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Scored:
    """Scores of a lesson's sentences, from 0 to 1; None with a reason where there are none."""

    scores: tuple[float, ...] | None
    reason: str = ""


@dataclass(frozen=True)
class Corrected:
    """A better rationale; None with a reason where there is none."""

    text: str | None
    reason: str = ""


class Teacher(Protocol):
    """Looks at rationales. A lesson that fails has a reason, and stops nothing."""

    @property
    def name(self) -> str:
        """Who it is, for manifests."""
        ...

    def score(self, lessons: Sequence[Lesson]) -> list[Scored]:
        """Scores the sentences of lessons, in their order."""
        ...

    def correct(self, lessons: Sequence[Lesson]) -> list[Corrected]:
        """Rewrites what is wrong in lessons, in their order."""
        ...

    def counts(self) -> Mapping[str, float]:
        """What it has done so far: lessons asked, cached, repaired, failed, tokens, cost."""
        ...


def load_teacher(spec: str, answers: Path | None = None) -> Teacher:
    """Makes a teacher.

    Args:
        spec: a YAML file for a remote teacher, a `.jsonl` file of ready-made scores, or `module:function`.
        answers: file of a remote teacher's answers where its YAML names none, so that a run that was stopped asks, and
            pays for, nothing twice.

    Raises:
        TeacherError: there is no such teacher.
    """
    path = Path(spec)
    if path.suffix in (".yaml", ".yml"):
        from .remote_teacher import RemoteTeacher
        from .teacher_config import read_teacher_config

        config = read_teacher_config(path)
        if config.cache is None and answers is not None:
            config = replace(config, cache=str(answers))
        return RemoteTeacher(config)
    if path.suffix == ".jsonl":
        return ReadyScores(path)
    made: Teacher = load_symbol(spec, "teacher")()
    return made


def load_symbol(spec: str, what: str) -> Any:
    """What `module:name` stands for.

    Raises:
        TeacherError: there is no such module or name; `what` says in the message what was looked for.
    """
    module, colon, name = spec.partition(":")
    if not colon or not module or not name:
        raise TeacherError(f"`{spec}` is no {what}: give module:function, or a file that exists.")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise TeacherError(f"The {what} `{spec}` cannot be imported: {error}.") from error
    if not callable(vars(found).get(name)):
        raise TeacherError(f"The {what} `{spec}` cannot be used: module {module} has no function `{name}`.")
    return vars(found)[name]


class ReadyScores:
    """Scores that were made before, as `mmself build ares score` writes them.

    A line has `question` (its id), `text` (the rationale) and `scores`. Rationales that it does not have fail.

    Args:
        path: the JSONL file.

    Raises:
        TeacherError, FileError: naming file and line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._scores: dict[tuple[str, str], tuple[float, ...] | None] = {}
        self._counts = {"lessons": 0.0, "failed": 0.0}
        for number, row in enumerate(read_jsonl(path), start=1):
            try:
                scores = row["scores"]
                found = None if scores is None else tuple(float(score) for score in scores)
                self._scores[str(row["question"]), row["text"]] = found
            except (KeyError, TypeError, ValueError) as error:
                raise TeacherError(
                    f"{path}, line {number}: `question`, `text` and `scores` (numbers) are expected ({error})."
                ) from error

    @property
    def name(self) -> str:
        """See `Teacher.name`."""
        return f"scores in {self._path.name}"

    def score(self, lessons: Sequence[Lesson]) -> list[Scored]:
        """See `Teacher.score`."""
        found = [self._look_up(lesson) for lesson in lessons]
        self._counts["lessons"] += len(found)
        self._counts["failed"] += sum(item.scores is None for item in found)
        return found

    def _look_up(self, lesson: Lesson) -> Scored:
        scores = self._scores.get((lesson.question.id, lesson.text))
        if scores is None:
            return Scored(None, "not in the file")
        if len(scores) != len(lesson.sentences):
            return Scored(None, "count")
        if not all(0 <= score <= 1 for score in scores):
            return Scored(None, "invalid")
        return Scored(scores)

    def correct(self, lessons: Sequence[Lesson]) -> list[Corrected]:
        """See `Teacher.correct`; a file of scores corrects nothing."""
        return [Corrected(None, "a file of scores corrects nothing") for _ in lessons]

    def counts(self) -> Mapping[str, float]:
        """See `Teacher.counts`."""
        return dict(self._counts)
