# SPDX-License-Identifier: Apache-2.0
"""The toy world tells the truth about its scenes, draws them, and is the same for the same seed."""

from random import Random

import pytest

from llamafactory_mmself.toyworld.errors import ToyWorldError
from llamafactory_mmself.toyworld.rationales import SECTIONS, rationale, tagged_answer
from llamafactory_mmself.toyworld.scenes import (
    COLOURS,
    Question,
    Scene,
    Thing,
    answer,
    caption,
    contradict,
    draw,
    questions,
    random_scene,
    sentence,
)


RED_CIRCLE, BLUE_SQUARE, RED_SQUARE = Thing("red", "circle"), Thing("blue", "square"), Thing("red", "square")
SCENE = Scene(2, 2, (RED_CIRCLE, BLUE_SQUARE, None, RED_SQUARE))


def some_scenes(count: int = 40) -> list[Scene]:
    rng = Random(7)
    return [random_scene(rng, rows=rng.choice((2, 3)), columns=rng.choice((2, 3))) for _ in range(count)]


@pytest.mark.parametrize(
    ("question", "text", "short", "long"),
    [
        (Question("count", colour="red"), "How many red shapes are there?", "2", "There are 2 red shapes."),
        (Question("count", shape="circle"), "How many circles are there?", "1", "There is 1 circle."),
        (Question("count"), "How many shapes are there?", "3", "There are 3 shapes."),
        (
            Question("exists", "blue", "circle"),
            "Is there a blue circle?",
            "no",
            "No, there is no blue circle.",
        ),
        (
            Question("relation", "blue", "square", "left of"),
            "What is left of the blue square?",
            "a red circle",
            "A red circle is left of the blue square.",
        ),
        (
            Question("relation", "red", "circle", "below"),
            "What is below the red circle?",
            "nothing",
            "Nothing is below the red circle.",
        ),
    ],
)
def test_answers_are_true(question: Question, text: str, short: str, long: str) -> None:
    assert question in questions(SCENE)
    assert question.text == text
    assert answer(question, SCENE) == short
    assert sentence(question, short) == long


def test_caption_goes_row_by_row() -> None:
    assert caption(SCENE) == (
        "The top row holds a red circle, then a blue square. The bottom row holds nothing, then a red square."
    )


def test_a_relation_to_something_unclear_is_not_asked() -> None:
    twice = Scene(2, 2, (RED_CIRCLE, RED_CIRCLE, None, None))
    question = Question("relation", "red", "circle", "below")
    assert answer(question, twice) is None
    assert question not in questions(twice)


def test_contradict_changes_one_object() -> None:
    rng = Random(3)
    for scene in some_scenes():
        other = contradict(scene, rng)
        changed = [(a, b) for a, b in zip(scene.cells, other.cells, strict=True) if a != b]
        assert len(changed) == 1
        assert changed[0][0] is not None
        assert other.things
        assert caption(other) != caption(scene)


def test_the_same_seed_gives_the_same_world() -> None:
    assert some_scenes() == some_scenes()
    assert draw(SCENE).tobytes() == draw(SCENE).tobytes()
    assert contradict(SCENE, Random(1)) == contradict(SCENE, Random(1))


@pytest.mark.parametrize("size", [56, 112, 200])
def test_each_shape_is_drawn_in_its_place_and_colour(size: int) -> None:
    for scene in some_scenes(12):
        picture = draw(scene, size)
        assert (picture.size, picture.mode) == ((size, size), "RGB")
        side = size / max(scene.rows, scene.columns)
        left, top = (size - side * scene.columns) / 2, (size - side * scene.rows) / 2
        for place, thing in enumerate(scene.cells):
            row, column = divmod(place, scene.columns)
            middle = picture.getpixel((int(left + (column + 0.5) * side), int(top + (row + 0.5) * side)))
            assert middle == (COLOURS[thing.colour] if thing else (255, 255, 255))


def test_tagged_answers_hold_four_sections_and_the_answer() -> None:
    for scene in some_scenes(10):
        for question in questions(scene):
            short = answer(question, scene)
            text = tagged_answer(question, scene)
            assert [part.split(">")[0] for part in text.split("\n\n")] == [f"<{tag}" for tag in SECTIONS]
            assert text.endswith(f"<CONCLUSION> {short} </CONCLUSION>")
            assert rationale(question, scene) in text


def test_a_scene_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(ToyWorldError, match="2 or 3 rows and columns"):
        Scene(1, 4, (None,) * 4)
    with pytest.raises(ToyWorldError, match="3 cells"):
        Scene(2, 2, (None,) * 3)
