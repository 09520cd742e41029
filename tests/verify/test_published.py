# SPDX-License-Identifier: Apache-2.0
"""Where the published code and the default profiles differ, one case for each listed defect."""

import pytest

from llamafactory_mmself import verify
from llamafactory_mmself.verify import published
from tests.verify.yardsticks import geoqa_vote


ANGLES = ["58.0", "68.0", "78.0", "112.0"]
MARKET = ["shortage", "surplus"]
ICE = ["walrus", "flamingo"]
FORM = "CAPTION: ice\n\nREASONING: blubber\n\nCONCLUSION: {}"


def found(name, text, choices=None, truth="A"):
    return verify.check(name, text, truth, choices=choices).answer


@pytest.mark.parametrize(
    ("text", "default", "train", "score", "vote"),
    [
        ("angle 2 is 68 degrees", "B", "S", "S", None),
        ("So angle C = 68", "B", "C", "C", "C"),
        ("Answer: 68.0", "B", "B", "R", "B"),
        ("Answer: (B) because angle (D) is larger", "B", "D", "D", "D"),
        ("Answer: 8", None, None, "R", None),
        ("1. Draw the line AB", None, "B", "B", None),
        ("Answer: (E)", None, "E", "E", "E"),
        ("", None, None, None, None),
    ],
)
def test_geoqa(text, default, train, score, vote):
    names = ("geoqa", "geoqa-published", "geoqa-published-eval", "geoqa-published-vote")
    assert [found(name, text, ANGLES) for name in names] == [default, train, score, vote]


def test_option_substrings():
    choices = ["50.0", "0.0", "5", "12.5"]
    assert [found(name, "Answer: 50.0", choices) for name in ("geoqa", "geoqa-published")] == ["A", "C"]


def test_letters_and_negation():
    sky = ["a lunar eclipse", "a solar eclipse"]
    text = "This is not a lunar eclipse."
    assert [found(name, text, sky) for name in ("letters", "letters-published")] == [None, "A"]


@pytest.mark.parametrize(
    ("text", "gold", "unit", "default", "old"),
    [
        ("Answer: 12 cups", "12", "cup", True, False),
        ("Answer: 45%", "45", None, True, False),
        ("Answer: 12\nDone.", "12", None, True, False),
        ("Answer: 5/0", "0", None, False, True),
        ("Answer: 1 1/2", "1.5", None, True, False),
        ("There were 9 on Monday and 14 on Tuesday", "14", None, True, False),
        ("Answer: 1.2.3", "0", None, False, True),
    ],
)
def test_tabmwp_numbers(text, gold, unit, default, old):
    question = f"How many? (Unit: {unit})" if unit else "How many?"
    for name, right in (("tabmwp", default), ("tabmwp-published", old)):
        assert verify.check(name, text, gold, question=question).correct is right


@pytest.mark.parametrize("text", ["Answer: (B)", "Answer: a surplus", "the answer is B"])
def test_tabmwp_options(text):
    assert verify.check("tabmwp", text, "surplus", choices=MARKET).correct
    assert not verify.check("tabmwp-published", text, "surplus", choices=MARKET).correct


@pytest.mark.parametrize(
    ("text", "gold", "default", "old"),
    [
        ("Answer: 2012", "2010", False, True),
        ("Answer: 45%", "45", True, False),
        ("Answer: $12", "12", True, False),
        ("Answer: 1,200", "1200", True, False),
        ("Answer: 12\nAnswer: 15", "15", True, False),
        ("Answer: 15\nDone.", "15", True, False),
        ("Answer: Yes.", "Yes", True, False),
    ],
)
def test_chartqa(text, gold, default, old):
    assert verify.check("chartqa", text, gold).correct is default
    assert verify.check("chartqa-published", text, gold).correct is old


@pytest.mark.parametrize(
    ("text", "gold", "default", "old"),
    [
        ("11", "11", True, False),
        ("Answer: 3.5", "3", False, True),
        ("Answer: There are 3 left", "3", True, False),
        ("Answer: 3\nAnswer: 4", "4", True, False),
        ("Answer: 03", "3", True, False),
    ],
)
def test_clevr(text, gold, default, old):
    assert verify.check("clevr", text, gold).correct is default
    assert verify.check("clevr-published", text, gold).correct is old


@pytest.mark.parametrize(
    ("conclusion", "default", "old"),
    [
        ("(b) is thin and wrong, so the answer is (a)", "A", "B"),
        ("(A)", "A", None),
        ("a", "A", None),
        ("(f)", None, "F"),
    ],
)
def test_see_think_conclusions(conclusion, default, old):
    text = FORM.format(conclusion)
    assert [found(name, text, ICE) for name in ("stl", "stl-published")] == [default, old]


def test_see_think_sections():
    marked = FORM.replace("\n\n", "\n\n###").format("(a)")
    assert published.stl_answer(marked, tuple(ICE)) == ("ice\n\n###", "blubber\n\n###", "(a)")
    swapped = "REASONING: blubber\n\nCAPTION: ice\n\nCONCLUSION: (a)"
    assert [found(name, swapped, ICE) for name in ("stl", "stl-published")] == [None, "A"]
    assert published.stl_refutation("CAPTION: ice\n\nEXPLANATION: (b) is right") == ("ice", "(b) is right")


def test_votes():
    ties = geoqa_vote(["Answer: (A)", "Answer: (C)", "Answer: (B)"], ANGLES)
    assert (ties.extracted, ties.winner) == (["A", "C", "B"], "B")
    failures = geoqa_vote(["Answer: 80", "Answer: 90", "Answer: (B)"], ANGLES)
    assert failures.winner == "FAILED"
    assert verify.check("geoqa-published", failures.winner, "D", choices=ANGLES).correct
    assert not verify.check("geoqa", failures.winner, "D", choices=ANGLES).parsed
