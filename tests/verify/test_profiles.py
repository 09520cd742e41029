# SPDX-License-Identifier: Apache-2.0
"""The registry, votes, and what holds for every profile and every text."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamafactory_mmself import verify


CHOICES = ["58.0", "the red one", "a cat", "none of the above"]
WORDS = [
    "Answer: ",
    "answer",
    "(a)",
    "(B)",
    "B.",
    " is ",
    " not ",
    "58",
    "58.0",
    "/0",
    "1/2",
    "%",
    "$",
    "°",
    "\n",
    "**",
]
MARKS = [
    "\\boxed{",
    "}",
    "\\frac{1}{",
    "CAPTION:",
    "REASONING:",
    "CONCLUSION:",
    "###",
    "a cat",
    "the red one",
    "^9",
    "=",
]
PIECES = st.sampled_from(WORDS + MARKS)
TEXTS = st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=30).map("".join))


def test_every_profile_is_described_with_its_version():
    lines = verify.describe().splitlines()
    for profile in verify.PROFILES.values():
        assert profile.version >= 1 and profile.description and "\n" not in profile.description
        assert any(line.startswith(f"{profile.name} (version {profile.version})") for line in lines)
    assert verify.profile("scienceqa") is verify.profile("letters") is verify.PROFILES["letters"]


def test_unknown_profiles_are_named():
    with pytest.raises(verify.VerifyError, match=r"no verification profile 'geo'.*geoqa.*tabmwp-published"):
        verify.check("geo", "Answer: B", "B")


@settings(max_examples=60, deadline=None)
@given(text=TEXTS, truth=st.one_of(st.sampled_from(["A", "(b)", "12", "58.0", ""]), st.text(max_size=10)))
@pytest.mark.parametrize("name", sorted(verify.PROFILES))
def test_no_text_is_an_error_and_nothing_unparsed_is_credited(name, text, truth):
    for choices in (None, CHOICES):
        verdict = verify.check(name, text, truth, choices=choices, question="How many? (Unit: cups)")
        assert verdict.parsed == (verdict.answer is not None)
        assert verdict.answer != "" or "published" in name
        assert verdict.parsed or not verdict.correct
        assert verdict == verify.check(name, text, truth, choices=choices, question="How many? (Unit: cups)")


@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
def test_letters_are_always_among_the_options(text):
    for name in ("geoqa", "letters", "tabmwp", "stl", "stl-nocaption", "toy"):
        assert verify.check(name, text, "A", choices=CHOICES).answer in (None, "A", "B", "C", "D")


@pytest.mark.parametrize("name", ["geoqa", "tabmwp", "chartqa", "clevr", "letters", "number", "stl", "toy"])
@pytest.mark.parametrize(
    "piece", ["0", "(a) ", "Answer: ", "\\boxed{", "1/", "1,", " ", "\n", "= 3 ", "#", "not ", "{"]
)
def test_endless_texts_are_read_in_linear_time(name, piece):
    started = time.monotonic()
    verify.check(name, piece * (10_000 // len(piece)), "A", choices=CHOICES)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("letter", "ABCD")
def test_default_and_published_agree_on_clean_answers(letter):
    text = f"1. The lines are parallel, so the angles are equal.\nAnswer: ({letter})"
    for name in ("geoqa", "geoqa-published", "geoqa-published-eval", "geoqa-published-vote", "letters-published"):
        verdict = verify.check(name, text, letter, choices=CHOICES)
        assert (verdict.correct, verdict.answer) == (True, letter)
    text = f"CAPTION: a\n\nREASONING: b\n\nCONCLUSION: ({letter.lower()})"
    for name in ("stl", "stl-published"):
        assert verify.check(name, text, f"({letter.lower()})", choices=CHOICES).answer == letter


@pytest.mark.parametrize("name", ["tabmwp", "chartqa", "clevr"])
@pytest.mark.parametrize("number", ["0", "4", "10"])
def test_default_and_published_agree_on_clean_numbers(name, number):
    for profile in (name, f"{name}-published"):
        verdict = verify.check(profile, f"1. Count them.\nAnswer: {number}", number)
        assert (verdict.correct, verdict.answer) == (True, number)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("chartqa", "."),
        ("toy", "..."),
        ("expression", "."),
        ("tagged", "<CONCLUSION>.</CONCLUSION>"),
        ("tabmwp", "Answer: ."),
        ("tabmwp", "Answer: cups"),
    ],
)
def test_an_answer_of_which_nothing_is_left_is_none(name, text):
    verdict = verify.check(name, text, "", question="How many? (Unit: cups)")
    assert (verdict.parsed, verdict.answer, verdict.correct) == (False, None, False)


def test_published_code_takes_nothing_for_an_answer():
    assert verify.check("chartqa-published", "", "").parsed and verify.check("tabmwp-published", ".", "").parsed


def test_dice_are_never_credited():
    for truth in "ABCD":
        assert verify.check("geoqa-published-eval", "", truth, choices=["1", "2", "3", "4"]).rule == "random"
        assert not verify.check("geoqa-published-eval", "", truth, choices=["1", "2", "3", "4"]).correct


def test_votes():
    vote = verify.majority_vote
    assert vote(["A", "B", "B"]) == "B"
    assert vote(["B", "A", "A", "B"]) == "B"
    assert vote(["B", "A", "A", "B"], ties="last") == "A"
    assert vote([None, None, "C"]) == "C"
    assert vote([None, None, "C"], unparsed="vote") is None
    assert vote([None, None]) is None
    assert vote([]) is None


@given(st.lists(st.one_of(st.none(), st.sampled_from("ABC")), max_size=12))
def test_votes_do_not_depend_on_unparsed_answers(answers):
    assert verify.majority_vote(answers) == verify.majority_vote([answer for answer in answers if answer])


@pytest.mark.parametrize(
    ("text", "truth", "choices", "right"),
    [
        ("I find 2. Answer: 2", "2", None, True),
        ("Answer: red square", "Red square", None, True),
        ("a red square", "red square", None, True),
        ("CAPTION: a\n\nREASONING: b\n\nCONCLUSION: (B)", "B", ["1", "2"], True),
        ("Answer: 2", "B", ["1", "2"], True),
        ("Answer: 3", "B", ["1", "2"], False),
        ("Answer:", "yes", None, False),
        ("", "yes", None, False),
    ],
)
def test_toy_answers(text, truth, choices, right):
    assert verify.check("toy", text, truth, choices=choices).correct is right
