# SPDX-License-Identifier: Apache-2.0
"""The toy world's exact judge as a teacher: true sentences score 1, false ones 0, and it knows the solutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..generate.teacher import Corrected, Lesson, Scored
from . import forms
from .choices import scene_of
from .language import sentences


NEUTRAL = 0.5


class ExactTeacher:
    """Scores and corrects rationales about the toy world's scenes; see `generate.teacher.Teacher`.

    A sentence that claims nothing that can be checked scores `NEUTRAL`; one that is none of the grammar's scores 0,
    and so does one that was said before. Corrections are the step-by-step solution. Lessons from elsewhere fail.
    """

    def __init__(self) -> None:
        self._counts = {"lessons": 0.0, "failed": 0.0}

    @property
    def name(self) -> str:
        """See `Teacher.name`."""
        return "toy world"

    def score(self, lessons: Sequence[Lesson]) -> list[Scored]:
        """See `Teacher.score`."""
        return [self._counted(_scored(lesson)) for lesson in lessons]

    def correct(self, lessons: Sequence[Lesson]) -> list[Corrected]:
        """See `Teacher.correct`."""
        found = []
        for lesson in lessons:
            text = forms.solution(lesson.question, scene_of(lesson.question)) if _known(lesson) else None
            self._counts["lessons"] += 1
            self._counts["failed"] += text is None
            found.append(Corrected(text, "" if text else "no question of the toy world"))
        return found

    def counts(self) -> Mapping[str, float]:
        """See `Teacher.counts`."""
        return dict(self._counts)

    def _counted(self, found: Scored) -> Scored:
        self._counts["lessons"] += 1
        self._counts["failed"] += found.scores is None
        return found


def exact() -> ExactTeacher:
    """The teacher, for `teacher: llamafactory_mmself.toyworld.teacher:exact`."""
    return ExactTeacher()


def _known(lesson: Lesson) -> bool:
    return "scene" in lesson.question.extra


def _scored(lesson: Lesson) -> Scored:
    if not _known(lesson):
        return Scored(None, "no question of the toy world")
    seen: set[str] = set()
    scores = []
    for text in lesson.sentences:
        scores.append(0.0 if text in seen else _score(text, lesson))
        seen.add(text)
    return Scored(tuple(scores))


def _score(text: str, lesson: Lesson) -> float:
    row = lesson.question
    parts = sentences(text, scene_of(row), row)
    if not parts or any(part.form is None or part.true is False for part in parts):
        return 0.0
    return 1.0 if any(part.true for part in parts) else NEUTRAL
