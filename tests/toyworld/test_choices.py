# SPDX-License-Identifier: Apache-2.0
"""Multiple-choice questions have one true option, and every form of answer says so and can be read back."""

from dataclasses import replace
from random import Random

import pytest

from llamafactory_mmself import verify
from llamafactory_mmself.data.questions import Question as Row
from llamafactory_mmself.toyworld import forms
from llamafactory_mmself.toyworld.choices import CATEGORIES, asked, letter, option, random_question, scene_of
from llamafactory_mmself.toyworld.errors import ToyWorldError
from llamafactory_mmself.toyworld.habits import overlook
from llamafactory_mmself.toyworld.language import hallucinated, sentences
from llamafactory_mmself.toyworld.scenes import Question, Scene, Thing, contradict, questions, random_scene
from llamafactory_mmself.verify.sections import read_answer, read_refutation


SCENE = Scene.parse("red circle, blue square / -, red square")
STEP = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}


def some_rows(count: int = 400) -> list[Row]:
    rng = Random(11)
    grids = [(2, 2), (2, 3), (3, 2), (3, 3)]
    return [random_question(rng, random_scene(rng, *rng.choice(grids)), f"q{number}") for number in range(count)]


def brute_force(row: Row) -> str:
    """The right letter, found from the scene's text alone."""
    grid = [[cell.strip() for cell in line.split(",")] for line in row.extra["scene"].split("/")]
    cells = [cell for line in grid for cell in line]
    words = row.text.rstrip("?").split()
    if row.extra["category"] == "count":
        target = " ".join(words[2:-2])[:-1].replace("shape", "").strip()
        right = {str(sum(set(target.split()) <= set(cell.split()) and cell != "-" for cell in cells))}
    elif row.extra["category"] == "relation":
        direction, thing = row.text.removeprefix("What is ").rstrip("?").split(" the ")
        assert cells.count(thing) == 1
        place = next((r, c) for r, line in enumerate(grid) for c, cell in enumerate(line) if cell == thing)
        r, c = (a + b for a, b in zip(place, STEP[direction], strict=True))
        there = grid[r][c] if 0 <= r < len(grid) and 0 <= c < len(grid[0]) else "-"
        right = {"nothing" if there == "-" else there}
    else:
        there = set(cells) - {"-"}
        right = there if row.extra["category"] == "present" else set(row.choices or ()) - there
    letters = [name for name, text in zip("ABCD", row.choices or (), strict=True) if text in right]
    assert len(letters) == 1
    return letters[0]


def test_exactly_the_answer_is_true() -> None:
    rows = some_rows()
    for row in rows:
        assert len(set(row.choices or ())) == 4
        assert row.answer == brute_force(row) == letter(row, scene_of(row))
    assert {row.extra["category"] for row in rows} == set(CATEGORIES)
    assert {row.answer for row in rows} == set("ABCD")


def test_misleading_options_look_like_what_is_there() -> None:
    for row in some_rows():
        if row.extra["category"] not in ("absent", "present"):
            continue
        there = scene_of(row).things
        for text in row.choices or ():
            thing = Thing.parse(text)
            assert any(thing.colour == other.colour or thing.shape == other.shape for other in there)


def test_questions_and_scenes_come_back_from_their_text() -> None:
    for row in some_rows(100):
        assert asked(row).text == row.text
        assert str(scene_of(row)) == row.extra["scene"]
        for question in questions(scene_of(row)):
            assert Question.parse(question.text) == question


def test_every_form_is_true_and_ends_in_the_right_letter() -> None:
    for row in some_rows(200):
        scene = scene_of(row)
        for form in (forms.direct, forms.solution, forms.see_think_answer, forms.tagged):
            text = str(form(row, scene))
            verdict = verify.check("toy", text, row.answer, choices=row.choices, question=row.block)
            assert verdict.correct
            assert not [said for said in sentences(text, scene, row) if said.form is None or said.true is False]
        assert str(forms.solution(row, scene)).endswith(f"\nAnswer: {row.answer}")
        assert str(forms.tagged(row, scene)).endswith(f"({row.answer}) {option(row, row.answer)} </CONCLUSION>")
        assert str(forms.see_think_answer(row, scene)).endswith(f"\n\nCONCLUSION: ({row.answer})")
        for captioned in (True, False):
            text = str(forms.see_think_answer(row, scene, captioned=captioned))
            assert read_answer(text, row.choices, caption=captioned).problem is None


def test_refutations_are_true_and_pass_the_checks_of_the_recipe() -> None:
    for row in some_rows(200):
        scene = scene_of(row)
        assert forms.refutation(row, scene, row.answer) is None
        for wrong in row.letters.replace(row.answer, ""):
            for captioned in (True, False):
                text = str(forms.refutation(row, scene, wrong, captioned))
                assert all(said.true for said in sentences(text, scene, row))
                read = read_refutation(text, caption=captioned, wrong=wrong, right=row.answer, choices=row.choices)
                assert read.problem is None


def test_a_scene_seen_wrongly_gives_another_letter_or_none() -> None:
    rng = Random(5)
    others = 0
    for row in some_rows(100):
        seen = contradict(scene_of(row), rng)
        name, text = letter(row, seen), forms.solution(row, seen)
        assert (text is None) == (name is None)
        others += name not in (None, row.answer)
    assert others > 10


def test_careless_reasoning_ends_in_a_wrong_letter_after_a_true_description() -> None:
    careless = 0
    for row in some_rows(300):
        scene = scene_of(row)
        thought = overlook(row, scene)
        if thought is None:
            continue
        careless += 1
        for form in (forms.direct, forms.solution, forms.see_think_answer, forms.tagged):
            text = str(form(row, scene, thought))
            verdict = verify.check("toy", text, row.answer, choices=row.choices, question=row.block)
            assert verdict.parsed and not verdict.correct
        assert (
            not hallucinated(str(forms.solution(row, scene, thought)), scene).absent or asked(row).kind == "relation"
        )
        if row.extra["category"] == "count":
            assert asked(row).matches(thought) == asked(row).matches(scene)[:-1]
    assert careless > 150


def test_the_same_seed_asks_the_same() -> None:
    assert some_rows(50) == some_rows(50)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("red circle, - / -", "differ in length"),
        ("pink circle, - / -, -", "'pink circle' is no thing"),
        ("red circle, -", "2 or 3 rows"),
    ],
)
def test_wrong_scenes_are_refused(text: str, message: str) -> None:
    with pytest.raises(ToyWorldError, match=message):
        Scene.parse(text)


def test_questions_from_elsewhere_are_refused() -> None:
    with pytest.raises(ToyWorldError, match="'Who are you' is not a question of the toy world"):
        Question.parse("Who are you")
    with pytest.raises(ToyWorldError, match=r"Question 'x' has no field `scene`.*mmself toy data"):
        scene_of(Row("x", "How many shapes are there?", "A", choices=("1", "2")))
    row = replace(some_rows(1)[0], choices=("a dog", "a cat", "9", "x"))
    assert letter(row, scene_of(row)) is None
    assert forms.solution(row, scene_of(row)) is None
