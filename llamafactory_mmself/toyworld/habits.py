# SPDX-License-Identifier: Apache-2.0
"""Careless answers about a picture that is seen rightly.

Weak models learn them from a part of their rows. Careless reasoning fails questions that the model could answer, which
is what self-training mends. Embellished captions name what goes well with the words before instead of what is there:
hallucination out of a language prior, which is what learning from pictures mends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..data.questions import Question as Row
from .choices import asked, letter, option
from .scenes import DIRECTIONS, SHAPES, Question, Scene, Thing


_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def overlook(row: Row, scene: Scene) -> Scene | None:
    """The scene as careless reasoning takes it; None where that leads to no other option than the right one.

    Counting leaves out the last match. A neighbour is taken from another side, the opposite one first. Of the options
    to tell apart, the first wrong one is taken for the right one.
    """
    right = letter(row, scene)
    if right is None:
        return None
    thoughts = _thoughts(row, scene, right)
    return next((thought for thought in thoughts if letter(row, thought) not in (None, right)), None)


def embellish(scene: Scene) -> Scene:
    """The scene as an embellished caption tells it; the same scene where nothing invites to it.

    An empty place to the right of a thing is told to hold that thing's companion: one of the same colour, of the next
    shape.
    """
    cells = list(scene.cells)
    for place, thing in enumerate(scene.cells):
        right = scene.beside(place, "right of")
        if thing is not None and right is not None and scene.cells[right] is None:
            cells[right] = Thing(thing.colour, SHAPES[(SHAPES.index(thing.shape) + 1) % len(SHAPES)])
    return replace(scene, cells=tuple(cells))


def _thoughts(row: Row, scene: Scene, right: str) -> Iterator[Scene]:
    question = asked(row)
    if question.kind == "count":
        if found := question.matches(scene):
            yield _changed(scene, max(place for place, thing in enumerate(scene.cells) if thing == found[-1]), None)
    elif question.kind == "relation":
        yield from _other_sides(question, scene)
    else:
        wrong = next(name for name in row.letters if name != right)
        is_there, is_not = (right, wrong) if question.kind == "present" else (wrong, right)
        old, new = Thing.parse(option(row, is_there)), Thing.parse(option(row, is_not))
        yield replace(scene, cells=tuple(new if cell == old else cell for cell in scene.cells))


def _other_sides(question: Question, scene: Scene) -> Iterator[Scene]:
    target = scene.cells.index(question.matches(scene)[0])
    direction = str(question.direction)
    place = scene.beside(target, direction)
    if place is None:
        return
    for side in (_OPPOSITE[direction], *DIRECTIONS):
        other = scene.beside(target, side)
        yield _changed(scene, place, None if other is None else scene.cells[other])


def _changed(scene: Scene, place: int, thing: Thing | None) -> Scene:
    return replace(scene, cells=(*scene.cells[:place], thing, *scene.cells[place + 1 :]))
