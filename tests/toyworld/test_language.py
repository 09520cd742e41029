# SPDX-License-Identifier: Apache-2.0
"""Text about scenes is judged sentence by sentence, captions can be drawn, hallucinations are counted."""

from random import Random

import pytest
from PIL import ImageChops

from llamafactory_mmself.data.questions import Question as Row
from llamafactory_mmself.toyworld.errors import ToyWorldError
from llamafactory_mmself.toyworld.language import hallucinated, paint, parse_caption, sentences
from llamafactory_mmself.toyworld.rationales import rationale
from llamafactory_mmself.toyworld.scenes import Scene, Thing, answer, caption, draw, questions, random_scene, sentence


SCENE = Scene.parse("red circle, blue square / -, red square")
ROW = Row("q", "How many red shapes are there?", "B", choices=("1", "2", "3", "4"))


@pytest.mark.parametrize(
    ("text", "form", "true"),
    [
        ("The top row holds a red circle, then a blue square.", "row", True),
        ("The bottom row holds a red square, then nothing.", "row", False),
        ("The top row holds a red circle.", "row", False),
        ("The middle row holds a red circle, then a blue square.", "row", False),
        ("There are 2 red shapes.", "count", True),
        ("There is 1 red shape.", "count", False),
        ("There are no triangles.", "count", True),
        ("There is a red square.", "there", True),
        ("Yes, there is a green square.", "there", False),
        ("There is no green square.", "not there", True),
        ("No, there is no red circle.", "not there", False),
        ("A red circle is left of the blue square.", "relation", True),
        ("Nothing is below the red circle.", "relation", True),
        ("There is nothing above the red circle.", "relation", True),
        ("There is nothing left of the blue square.", "relation", False),
        ("A red square is below the red circle.", "relation", False),
        ("A red square is below the red shape.", "relation", False),
        ("I look for any red shape: a red circle yes; a blue square no; nothing no; a red square yes.", "scan", True),
        ("I look for any red shape: a red circle yes; a blue square no; nothing no; a red square no.", "scan", False),
        ("I look for any red shape: a red circle yes; a blue square no.", "scan", False),
        (
            "I look for the blue square, a blue shape and a square: a red circle no; a blue square yes, square yes.",
            "scan",
            True,
        ),
        (
            "I look for the blue square, a red shape and a square: a red circle no; a blue square yes, square yes.",
            "scan",
            False,
        ),
        ("I look for a blue square, a blue shape and a square: a red circle no.", "scan", False),
        ("I look for a green circle: a red circle no; a blue square no; nothing no; a red square no.", "scan", True),
        ("I look for a red square: a red circle yes, circle yes.", "scan", False),
        ("That makes 2.", "total", True),
        ("(A) 1 is wrong.", "verdict", True),
        ("(A) 3 is wrong.", "verdict", False),
        ("(B) 2 is right.", "verdict", True),
        ("(E) 5 is wrong.", "verdict", False),
        ("(A) is wrong.", "verdict", True),
        ("(B) is wrong.", "verdict", False),
        ("Answer: B", "answer", True),
        ("Answer: C", "answer", False),
        ("CONCLUSION: (B)", "answer", True),
        ("Left of the blue square is nothing.", "neighbour", False),
        ("Right of the red circle is a blue square.", "neighbour", True),
        ("Right of the red circle, top right, is a blue square.", "neighbour", True),
        ("Right of the red circle, bottom right, is a blue square.", "neighbour", False),
        ("Right of the red circle is a blue square, a blue shape and a square.", "neighbour", True),
        ("Right of the red circle is a blue square, a red shape and a square.", "neighbour", False),
        ("(A) a red circle no: wrong.", "verdict", False),
        ("I guess that there is a red circle.", None, None),
        ("The top row holds a red cat, then a blue square.", None, None),
        ("42", None, None),
    ],
)
def test_each_sentence_is_judged(text: str, form: str | None, true: bool | None) -> None:
    (said,) = sentences(text, SCENE, ROW)
    assert (said.form, said.true, said.text) == (form, true, text)


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("(A) a red circle no: wrong.", True),
        ("(B) a blue circle yes, circle no: wrong.", True),
        ("(B) a blue circle yes, circle yes: wrong.", False),
        ("(B) a blue circle no: wrong.", False),
        ("(B) a red circle no: wrong.", False),
        ("(C) a blue square yes, square yes: right.", True),
        ("(C) a blue square yes, square yes: wrong.", False),
        ("(D) nothing no: wrong.", True),
        ("(D) nothing yes: right.", False),
    ],
)
def test_options_are_compared_with_the_neighbour(text: str, true: bool) -> None:
    choices = ("red circle", "blue circle", "blue square", "nothing")
    row = Row("q", "What is right of the red circle?", "C", choices=choices)
    (said,) = sentences(text, SCENE, row)
    assert (said.form, said.true) == ("verdict", true)


def test_sentences_know_their_place_in_the_text() -> None:
    text = "CAPTION: The top row holds nothing, then nothing. Eh?\n\n<R> There are 2 red shapes. </R>\nB"
    said = sentences(text, SCENE)
    assert [text[one.start : one.end] for one in said] == [one.text for one in said]
    assert [(one.form, one.true) for one in said] == [("row", False), (None, None), ("count", True), ("answer", None)]


@pytest.mark.parametrize("text", ["", " \n ", "...", "<CAPTION></CAPTION>", "\x00\ud7ff 日本語。", "(", "Answer:"])
def test_any_text_can_be_read(text: str) -> None:
    assert all(said.true is None for said in sentences(text, SCENE, ROW))
    assert hallucinated(text, SCENE).named == ()


def test_what_the_world_says_is_true_of_its_scene() -> None:
    rng = Random(2)
    for _ in range(30):
        scene = random_scene(rng, rng.choice((2, 3)), rng.choice((2, 3)))
        for question in questions(scene):
            text = f"{rationale(question, scene)} {sentence(question, str(answer(question, scene)))}"
            for said in sentences(text, scene):
                assert said.form is not None
                assert said.true is not False


def test_the_painter_draws_what_a_caption_says() -> None:
    rng = Random(3)
    for _ in range(30):
        scene = random_scene(rng, rng.choice((2, 3)), rng.choice((2, 3)))
        assert parse_caption(caption(scene)) == scene
        assert ImageChops.difference(paint(caption(scene), 84), draw(scene, 84, lit=True)).getbbox() is None
    assert paint(caption(SCENE)).size == (56, 56)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "The top row holds nothing, then a pink cat. The bottom row holds nothing.",
            "'The top row holds nothing, t",
        ),
        ("There is a red circle.", "cannot draw the sentence 'There is a red circle.'"),
        ("The top row holds nothing, then nothing.", "make no grid"),
        ("The bottom row holds nothing, then nothing. The top row holds nothing, then nothing.", "in this order"),
        ("The top row holds nothing, then nothing. The bottom row holds nothing.", "the same number"),
        ("", "make no grid"),
    ],
)
def test_captions_that_cannot_be_drawn_are_named(text: str, message: str) -> None:
    with pytest.raises(ToyWorldError, match=message):
        paint(text)


@pytest.mark.parametrize(
    ("text", "named", "absent", "covered", "unread"),
    [
        (caption(SCENE), 3, [], 3, 0),
        ("The top row holds a red circle, then a green square.", 2, ["green square"], 1, 0),
        ("There is a red circle. There is a red circle. There is a blue circle.", 3, ["blue circle"], 1, 0),
        ("There is no green square. There are 0 green circles. There are 2 red shapes.", 0, [], 0, 0),
        ("A green triangle is left of the blue square.", 2, ["green triangle"], 1, 0),
        ("I see a green triangle. Nothing is below the red circle.", 1, [], 1, 1),
    ],
)
def test_hallucinations_by_hand(text: str, named: int, absent: list[str], covered: int, unread: int) -> None:
    found = hallucinated(text, SCENE)
    assert len(found.named) == named
    assert found.absent == tuple(Thing.parse(name) for name in absent)
    assert found.chair_i == (len(absent) / named if named else 0.0)
    assert found.chair_s is bool(absent)
    assert found.coverage == covered / 3
    assert found.unread == unread
