# SPDX-License-Identifier: Apache-2.0
"""Multiple-choice questions about scenes: options that mislead, and the letter that is true.

Everybody else sees them as `data.questions.Question`; the scene travels in `extra["scene"]`, the kind in
`extra["category"]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from ..data.questions import Question as Row
from .errors import ToyWorldError
from .scenes import COLOURS, SHAPES, Kind, Question, Scene, Thing, answer, questions


# How often each category is asked where the scene allows it.
CATEGORIES: dict[Kind, float] = {"count": 0.55, "relation": 0.15, "absent": 0.15, "present": 0.15}
OPTIONS = 4
NOTHING = "nothing"
_THINGS = tuple(Thing(colour, shape) for colour in COLOURS for shape in SHAPES)


def asked(row: Row) -> Question:
    """The question as the toy world understands it.

    Raises:
        ToyWorldError: a question from elsewhere.
    """
    return Question.parse(row.text)


def scene_of(row: Row) -> Scene:
    """The scene that the question is about.

    Raises:
        ToyWorldError: the row does not come from the toy world.
    """
    if "scene" not in row.extra:
        raise ToyWorldError(f"Question {row.id!r} has no field `scene`; only questions of `mmself toy data` have one.")
    return Scene.parse(row.extra["scene"])


def about_options(question: Question) -> bool:
    """Whether only the options say what is to be looked for."""
    return question.kind in ("absent", "present")


def holds(question: Question, option: str, scene: Scene) -> bool:
    """Whether an option answers the question rightly in this scene."""
    if about_options(question):
        there = option in {str(thing) for thing in scene.things}
        return there == (question.kind == "present")
    return option == str(answer(question, scene)).removeprefix("a ")


def letter(row: Row, scene: Scene) -> str | None:
    """The letter of the one right option in this scene, which may be another than the question's own.

    None when no option or more than one is right there.
    """
    question = asked(row)
    right = [name for name, text in zip(row.letters, row.choices or (), strict=True) if holds(question, text, scene)]
    return right[0] if len(right) == 1 else None


def option(row: Row, name: str) -> str:
    """The text of the option with this letter."""
    return (row.choices or ())[row.letters.index(name)]


def named(text: str) -> Thing | None:
    """The thing that an option or an answer names ("red circle", "a red circle"); None for "nothing".

    Raises:
        ToyWorldError: neither.
    """
    return None if text == NOTHING else Thing.parse(text.removeprefix("an ").removeprefix("a "))


def random_question(rng: Random, scene: Scene, id: str, images: Sequence[str] = ()) -> Row:
    """Asks something about a scene: `OPTIONS` options, one of them right, its place random."""
    makers = {kind: _MAKERS[kind] for kind in CATEGORIES}
    while True:
        kind = rng.choices(tuple(makers), [CATEGORIES[name] for name in makers])[0]
        made = makers.pop(kind)(rng, scene)
        if made is not None:
            break
    question, right, wrong = made
    place = rng.randrange(OPTIONS)
    options = (*wrong[:place], right, *wrong[place:])
    extra = {"category": kind, "scene": str(scene)}
    return Row(id, question.text, "ABCD"[place], tuple(images), options, extra)


# A question, the right option and the wrong ones in random order; None when the scene does not allow it.
Made = tuple[Question, str, list[str]] | None


def _count(rng: Random, scene: Scene) -> Made:
    present = [Question("count", colour=c) for c in dict.fromkeys(thing.colour for thing in scene.things)]
    present += [Question("count", shape=s) for s in dict.fromkeys(thing.shape for thing in scene.things)]
    others = [q for q in questions(scene) if q.kind == "count" and q not in present]
    question = rng.choice(present if rng.random() < 0.8 else others)
    right = len(question.matches(scene))
    near = [number for number in range(max(0, right - OPTIONS + 1), right + OPTIONS) if number != right]
    near = [number for number in near if number <= max(len(scene.cells), OPTIONS - 1)]
    return question, str(right), [str(number) for number in rng.sample(near, OPTIONS - 1)]


def _relation(rng: Random, scene: Scene) -> Made:
    clear = [question for question in questions(scene) if question.kind == "relation"]
    full = [question for question in clear if answer(question, scene) != NOTHING]
    if not clear:
        return None
    question = rng.choice(full if full and rng.random() < 0.8 else clear)
    right = str(answer(question, scene)).removeprefix("a ")
    wrong = [str(thing) for thing in dict.fromkeys(scene.things) if str(thing) != question.target]
    wrong = [*rng.sample(wrong, len(wrong))[: OPTIONS - 2], NOTHING]
    wrong = [text for text in dict.fromkeys(wrong) if text != right]
    likeness = [thing for thing in scene.things if str(thing) == right] or list(scene.things)
    wrong += _near_misses(rng, likeness, scene, OPTIONS - 1 - len(wrong))
    return question, right, rng.sample(wrong, OPTIONS - 1)


def _absent(rng: Random, scene: Scene) -> Made:
    there = [str(thing) for thing in dict.fromkeys(scene.things)]
    if len(there) < OPTIONS - 1:
        return None
    return Question("absent"), _near_misses(rng, scene.things, scene, 1)[0], rng.sample(there, OPTIONS - 1)


def _present(rng: Random, scene: Scene) -> Made:
    right = rng.choice(scene.things)
    return Question("present"), str(right), _near_misses(rng, scene.things, scene, OPTIONS - 1)


def _near_misses(rng: Random, like: Sequence[Thing], scene: Scene, count: int) -> list[str]:
    """Things that are not there but share colour or shape with one of `like`."""
    missing = [thing for thing in _THINGS if thing not in scene.things]
    near = [thing for thing in missing if any(t.colour == thing.colour or t.shape == thing.shape for t in like)]
    return [str(thing) for thing in rng.sample(near, count)]


_MAKERS: dict[Kind, Callable[[Random, Scene], Made]] = {
    "count": _count,
    "relation": _relation,
    "absent": _absent,
    "present": _present,
}
