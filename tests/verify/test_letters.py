# SPDX-License-Identifier: Apache-2.0
"""Which option a text settles on, and that nothing is guessed."""

import pytest

from llamafactory_mmself import verify


ANGLES = ["58.0", "68.0", "78.0", "112.0"]
ZEROS = ["50.0", "0.0", "5", "12.5"]
ROOTS = ["√3", "2√3", "3", "6"]
LENGTHS = ["4cm", "5cm", "6cm", "7cm"]
PARTS = ["2", "1/2", "0.25", "1"]
SKY = ["a lunar eclipse", "a solar eclipse", "a meteor shower", "none of the above"]


def found(text, choices=ANGLES):
    return verify.check("geoqa", text, "A", choices=choices)


@pytest.mark.parametrize("text", ["B", "b", "(b)", "B.", "B) 68", "[B]", "（B）", "**B**", "Option B", "option (b)"])
@pytest.mark.parametrize("lead", ["", "Answer: ", "x = 3, so\nFinal answer: ", "The correct option is ", "Answer:\n "])
def test_every_spelling_of_a_letter(lead, text):
    verdict = found(lead + text)
    assert (verdict.answer, verdict.parsed, verdict.rule) == ("B", True, "letter")


@pytest.mark.parametrize(
    ("text", "choices", "letter"),
    [
        ("Answer: 68.0", ANGLES, "B"),
        ("Answer: 68", ANGLES, "B"),
        ("Answer: 68 degrees", ANGLES, "B"),
        ("Answer: 68°", ANGLES, "B"),
        ("$\\boxed{68^\\circ}$", ANGLES, "B"),
        ("Answer: The angle is 68 degrees", ANGLES, "B"),
        ("Answer: x = 68", ANGLES, "B"),
        ("So angle C = 68", ANGLES, "B"),
        ("Therefore, ∠BOC = 112°.", ANGLES, "D"),
        ("Answer: 50.0", ZEROS, "A"),
        ("so it is 0", ZEROS, "B"),
        ("Answer: 5", ZEROS, "C"),
        ("Answer: 2√3", ROOTS, "B"),
        ("Answer: 2\\sqrt{3}", ROOTS, "B"),
        ("Answer: √3", ROOTS, "A"),
        ("Answer: 4 cm", LENGTHS, "A"),
        ("Answer: 4", LENGTHS, "A"),
        ("Answer: \\frac{1}{2}", PARTS, "B"),
        ("Answer: 0.5", PARTS, "B"),
        ("Answer: 80 units", ANGLES, None),
        ("Answer: 68.04", ANGLES, None),
        ("Answer: 58 or 68", ANGLES, None),
    ],
)
def test_values_are_compared_as_numbers_with_units_and_degrees(text, choices, letter):
    assert found(text, choices).answer == letter


@pytest.mark.parametrize(
    "text",
    [
        "C D is parallel to A B",
        "A B = A D = D C",
        "so A , B , C lie on circle O",
        "C is the midpoint of A B",
        "The midpoint is B.",
        "angle 1 = 68, so angle 3 is",
        "Answer: A B",
        "Angle A and angle B are",
        "point (A)",
        "the midpoint lies on line AB",
        "So ∠A = ∠C",
        "It is 90 degrees",
    ],
)
def test_points_and_last_letters_of_words_are_no_options(text):
    assert not found(text).parsed


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Answer: (B) because angle (A) and angle (D) are supplementary", "B"),
        ("Answer: B, since (A) is too small.", "B"),
        ("Answer: B because angle C is 68", "B"),
        ("Answer: (B) 68.0\n\nQuestion: what about (C)?", "B"),
        ("[Answer] (C) [Rationale] not (A)", "C"),
        ("<answer>B</answer> and (C)", "B"),
    ],
)
def test_an_explanation_behind_the_answer_changes_nothing(text, letter):
    assert found(text).answer == letter


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        ("Answer:", "nothing after the answer marker"),
        ("180 - 112 = 68.\nAnswer: ", "nothing after the answer marker"),
        ("180 - 112 =", "no answer"),
        ("angle 2 = 180 - 112", "no answer"),
        ("1. angle 1 = 68.\n2. So angle 3 is", "no answer"),
        ("1. Draw the line through point E parallel to segment AB", "no answer"),
    ],
)
def test_empty_and_truncated_texts_are_unparsed(text, rule):
    assert found(text) == verify.Verdict(False, False, None, rule)


def test_the_last_announced_answer_counts():
    assert found("Answer: B\nWait.\nAnswer: C").answer == "C"
    assert found("Answer: (B)\n\nAnswer:").answer == "B"
    assert found("The answer is not (A). It is (B).").answer == "B"


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Answer: A. Wait, it's B.", "B"),
        ("Answer: A\nWait, it is B", "B"),
        ("Answer: A ... wait, it's B", "B"),
        ("Answer: A, no, B.", "B"),
        ("Answer: (A). Hmm, wait. The angle is 68, so it's (B).", "B"),
        ("The answer is A. Sorry, that should be C.", "C"),
        ("Answer: A. Wait, it's B. No, it's C.", "C"),
        ("Answer: A. Actually, it is B because the lines are parallel.", "B"),
        ("Answer: A\n\nWait, I mean B.", "B"),
        ("A. Wait, it's B.", "B"),
        ("Answer: 58. Wait, it's 68.", "B"),
        ("Answer: A. Wait, let me check that again.", None),
        ("Answer: A. No, that is wrong.", None),
        ("Answer: A. Wait,", None),
        ("Answer: A. So it is B.", None),
        ("Answer: A. Wait, yes: the angle is 58.", "A"),
        ("Answer: A. Therefore it is A.", "A"),
        ("Answer: B because no other angle fits, not (A)", "B"),
        ("Answer: B. Actually, that is easy to see.", "B"),
        ("Answer: B\n\nQuestion: wait, it's A?", "B"),
    ],
)
def test_an_answer_that_is_taken_back_counts_as_what_replaces_it(text, letter):
    assert found(text).answer == letter
    assert verify.check("letters", text, "A", choices=ANGLES).answer == letter


def test_options_that_begin_like_an_afterthought():
    replies = ["No.", "Wait for the bus", "Actually, yes"]
    for letter, reply in zip("ABC", replies, strict=True):
        assert found(f"Answer: {reply}", replies).answer == letter
        assert found(f"Answer: ({letter}) {reply}", replies).answer == letter
    assert found("Answer: (B) Yes. Wait, it's (A) No.", ["No", "Yes"]).answer == "A"


@pytest.mark.parametrize(
    "text", ["Answer: (A) or (B)", "Answer: A, B", "(A) 58.0\n(B) 68.0\n(C) 78.0", "(A), (B)", "Answer: (B)(C)"]
)
def test_several_options_are_none(text):
    verdict = found(text)
    assert (verdict.parsed, verdict.rule) == (False, "ambiguous option")


def test_a_letter_beyond_the_options_is_not_replaced():
    for text in ("Answer: (E)", "The answer is F", "E"):
        assert found(text) == verify.Verdict(False, False, None, "option not offered")
    assert found("Answer: E", [*ANGLES, "1"]).answer == "E"


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("a meteor shower", "C"),
        ("Answer: A meteor shower", "C"),
        ("Answer: A lunar eclipse", "A"),
        ("solar eclipse", "B"),
        ("It must be a solar eclipse.", "B"),
        ("the picture shows a solar eclipse, not a lunar eclipse", "B"),
        ("It is not a lunar eclipse but a solar eclipse.", "B"),
        ("(A) is wrong. (B) is right.", "B"),
        ("A lunar eclipse is wrong, so it's a solar eclipse", "B"),
        ("Answer: none of the above", "D"),
        ("answer: a", "A"),
        ("It isn't a meteor shower.", None),
        ("This is not a lunar eclipse.", None),
        ("Either a lunar eclipse or a solar eclipse.", None),
        ("Answer: a lunar eclipse or a solar eclipse", None),
        ("I would go for C.", "C"),
        ("My choice: C", "C"),
        ("It is C because of the ring", "C"),
        ("Magnet B is closer", None),
        ("I see a bright ring.", None),
        ("Cannot tell from this picture.", None),
    ],
)
def test_option_texts_articles_and_negation(text, letter):
    assert verify.check("m3cot", text, "A", choices=SKY).answer == letter


def test_longer_options_beat_those_that_they_contain():
    for choices in (["the cat", "the cat on the mat"], ["Figure 1", "Figure 10"]):
        for letter, choice in zip("AB", choices, strict=True):
            assert found(f"Answer: {choice}", choices).answer == letter
            assert found(f"It must be {choice}.", choices).answer == letter


def test_equal_options_are_the_same_answer():
    verdict = verify.check("geoqa", "Answer: 5", "C", choices=["5", "6", "5"])
    assert (verdict.answer, verdict.correct) == ("A", True)


@pytest.mark.parametrize("truth", ["B", "b", "(b)", "(B)", "68.0"])
def test_the_truth_may_have_any_form(truth):
    assert verify.check("geoqa", "Answer: B", truth, choices=ANGLES).correct
    assert not verify.check("geoqa", "Answer: C", truth, choices=ANGLES).correct
