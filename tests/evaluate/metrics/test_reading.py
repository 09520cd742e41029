# SPDX-License-Identifier: Apache-2.0
"""Yes and no, and options, in the words that models use."""

import pytest

from llamafactory_mmself.evaluate.metrics import MetricError
from llamafactory_mmself.evaluate.metrics.reading import (
    RULES,
    hallusion_published,
    mme_published,
    pope_published,
    read_yes_no,
    short_answer,
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes", True),
        ("no.", False),
        ("**Yes**, there is a dog.", True),
        ("No, there isn't.", False),
        ("Yes. I see no reason to doubt it.", True),
        ("There is no dog in the picture.", False),
        ("In the picture, there are two dogs.", True),
        ("There isn't a dog.", False),
        ("A dog sits there, so I would say\nAnswer: yes", True),
        ("The dog is brown. Answer: No, it is a cat. Wait, it's yes.", True),
        ("<CONCLUSION> No </CONCLUSION>", False),
        ("The chart rises from 3 to 5. So the statement is a clear yes.", True),
        ("The picture shows no dog.", False),
        ("", None),
        ("I cannot tell.", None),
        ("A dog.", None),
        ("It may be yes or no.", None),
        ("Answer:", None),
        ("Nothing of the kind.", None),
    ],
)
def test_yes_or_no(text, said):
    assert read_yes_no(text) is said


def test_popes_rule():
    assert [pope_published(text) for text in ("Yes", "No", "There is no dog", "It is not", "", "Maybe. No")] == [
        True, False, False, False, True, True
    ]  # fmt: skip
    assert pope_published("NO") and not pope_published("no, sir")


def test_mmes_rule():
    said = {"Yes": True, "no": False, "N": False, "y.": True, "Not sure": False, "I say yes": None, "": None}
    said |= {"Yes, it is": True, "No, it is not": False, "know": False}
    assert {text: mme_published(text) for text in said} == said


def test_vlmevalkits_yes_or_no():
    said = {"Yes.": True, "yes and no": None, "I think no": False, "": None, "There is not": None, "(Yes)": True}
    assert {text: hallusion_published(text) for text in said} == said


def test_short_answers():
    assert short_answer("  blue ") == "blue"
    assert short_answer("The sign is round.\nAnswer: **STOP**\n\nBye") == "STOP"
    assert short_answer("Answer:") == ""


def letter(answers, rule, truth, text, published=False):
    read = RULES[rule][published](answers((truth, text))[0])
    return read.right, read.parsed


CHOICES = {"answer": "A", "choices": ["car", "dog", "tree", "house"]}


@pytest.mark.parametrize("rule", ["letters", "mmstar", "cvbench", "vlmevalkit", "scienceqa"])
def test_options_are_read_alike_by_default(answers, rule):
    for text in ("A", "(A)", "A. car", "A) 4", "The answer is A", "Answer: (A)", "car"):
        assert letter(answers, rule, CHOICES, text) == (1, True), text
    for text in ("B", "B.", "(B) dog", "a tree"):
        assert letter(answers, rule, CHOICES, text) == (0, True), text
    for text in ("", "An apple", "I do not know."):
        assert letter(answers, rule, CHOICES, text) == (0, False), text


def test_the_published_mmstar_grader_takes_any_word_with_the_letter(answers):
    assert letter(answers, "mmstar", CHOICES, "An apple", published=True) == (1, True)
    assert letter(answers, "mmstar", CHOICES, "(A). car", published=True) == (1, True)
    assert letter(answers, "mmstar", CHOICES, "The answer is A", published=True) == (0, True)
    assert letter(answers, "mmstar", CHOICES, "", published=True) == (0, False)


def test_the_published_vlmevalkit_grader(answers):
    for text, read in {
        "A": (1, True),
        "A dog.": (1, True),  # an article is a letter, too
        "the car": (1, True),
        "A or B": (0, False),
        "A car, B is not": (1, True),  # two letters, one text
        "Z": (0, False),
        "": (0, False),
        "car" + " and so on" * 10: (0, False),  # too long for a look at texts
    }.items():
        assert letter(answers, "vlmevalkit", CHOICES, text, published=True) == read, text


def test_realworldqa_mixes_options_and_free_answers(answers):
    for truth, text, read in [
        ("A", "A. car", (1, True)),
        ("B", "An apple", (0, False)),
        ("2", "two", (1, True)),
        ("2", "There are 2.", (1, True)),
        ("2", "3", (0, True)),
        ("-5", "-5", (1, True)),
        ("Yes", "Yes, it is", (1, True)),
        ("No", "Yes", (0, True)),
        ("Left", "left.", (1, True)),
        ("Left", "The car is left", (0, True)),
        ("Left", "", (0, False)),
    ]:
        assert letter(answers, "realworldqa", {"answer": truth}, text) == read, (truth, text)


def test_true_answers_have_to_be_there(answers):
    with pytest.raises(MetricError, match=r"Item 'q0' has no 'answer'"):
        RULES["letters"][0](answers(({}, "A"))[0])
