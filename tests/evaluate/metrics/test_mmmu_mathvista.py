# SPDX-License-Identifier: Apache-2.0
"""MMMU and MathVista: options, numbers, texts and lists."""

import random

import pytest

from llamafactory_mmself.evaluate.metrics import MetricError, metric
from llamafactory_mmself.evaluate.metrics.mathvista import Extracted, edit_distance


OPTIONS = {"answer": "B", "choices": ["a cell", "a leaf", "a root"], "subject": "Biology", "domain": "Science"}


def test_mmmu_options(scores):
    rows = [(OPTIONS, text) for text in ("B", "The answer is (B).", "It is a leaf.", "An apple", "C")]
    found = scores("mmmu", rows)
    assert found["accuracy"] == found["accuracy/subject=Biology"] == found["accuracy/domain=Science"] == 60


@pytest.mark.parametrize(
    ("text", "right", "parsed"),
    [
        ("(A) no, (B)", 1, 1),  # the last in brackets
        ("B or C", 0, 1),  # the last with blanks
        ("B.", 1, 1),
        ("I think that it must be a leaf", 1, 1),  # more than five words: by text
        ("a leaf", 0, 0),  # five or fewer: dice
        ("", 0, 0),
        ("AB is the line", 1, 1),  # "B " is found inside "AB "
    ],
)
def test_mmmu_options_as_published(answers, text, right, parsed):
    scorer = metric("mmmu", quirks="published")
    columns = scorer.columns(answers((OPTIONS, text)))
    assert (columns["right"][0], columns["parsed"][0]) == (right, parsed)


@pytest.mark.parametrize(
    ("gold", "text", "fixed", "published"),
    [
        ("3.14", "Answer: 3.141", 1, 1),
        ("3.14", "It is 3.14 m, not 3", 0, 1),  # two numbers
        ("1000", "The result is 1,000.", 1, 1),
        ("1000", "The result is 1,000,000.", 0, 0),
        (["photosynthesis", "carbon fixation"], "So it is carbon fixation.", 1, 1),
        ("ion", "Answer: the lion", 0, 1),  # a part of a word
        ("osmosis", "Answer: diffusion", 0, 0),
        ("-5", "x = -5", 1, 1),
    ],
)
def test_mmmu_open_questions(scores, gold, text, fixed, published):
    assert scores("mmmu", [({"answer": gold}, text)])["accuracy"] == 100 * fixed
    assert scores("mmmu", [({"answer": gold}, text)], quirks="published")["accuracy"] == 100 * published


def test_mmmu_empty_answers_are_unparsed(answers):
    for quirks in ("fixed", "published"):
        assert metric("mmmu", quirks=quirks).columns(answers(({"answer": "x"}, "")))["parsed"].tolist() == [0]


def free(kind, answer, text, *verdict, **more):
    return {"answer_type": kind, "answer": answer, "task": "geometry"} | more, text, *verdict


@pytest.mark.parametrize(
    ("row", "fixed", "published"),
    [
        (free("integer", "14", "14"), 1, 1),
        (free("integer", "14", "The number is 14."), 1, 0),
        (free("integer", "14", "14.6"), 0, 1),  # cut to an integer
        (free("integer", "1200", "Answer: 1,200"), 1, 0),
        (free("float", "1.5", "The answer is 1.45", precision=1.0), 0, 0),  # 1.45 rounds to even in both
        (free("float", "1.45", "1.4501", precision=2), 1, 1),
        (free("float", "0.5", "Answer: 1/2", precision=1), 1, 0),
        (free("list", "[2007, 2008]", "Between [2007,2008]"), 1, 0),
        (free("list", "[2007, 2008]", "[2007, 2008]"), 1, 1),
        (free("list", "[2007, 2008]", "2007 and 2008"), 0, 0),
        (free("text", "Yes", "yes, it is"), 1, 0),
        (free("text", "No", 'The answer is "No".'), 1, 1),
        (free("text", "No", ""), 0, 0),
    ],
)
def test_mathvista_free_answers(scores, row, fixed, published):
    assert scores("mathvista", [row])["accuracy/task=geometry"] == 100 * fixed
    assert scores("mathvista", [row], quirks="published")["accuracy"] == 100 * published


CHOICES = {"answer": "8/11", "choices": ["3/11", "8/11", "6/11", "3/5"], "skills": ["arithmetic", "statistical"]}


@pytest.mark.parametrize(
    ("text", "fixed", "published"),
    [("B", 1, 1), ("(B) 8/11", 1, 1), ("8/11", 1, 1), ("The answer is (B).", 1, 1), ("8/12", 0, 1), ("", 0, 0)],
)
def test_mathvista_options(scores, text, fixed, published):
    found = scores("mathvista", [(CHOICES, text)])
    assert found["accuracy/skills=statistical"] == found["accuracy"] == 100 * fixed
    assert scores("mathvista", [(CHOICES, text)], quirks="published")["accuracy"] == 100 * published


def test_mathvista_with_a_judge(scores, answers):
    rows = [
        free("integer", "14", "Fourteen it is.", "Answer: 14"),
        free("integer", "14", "A long story.", "Answer: none"),
        free("integer", "14", ""),
        (CHOICES, "The second one.", "**Answer:** B"),
    ]
    assert scores("mathvista", rows, judge=True)["accuracy"] == 50
    assert scores("mathvista", rows, judge=True, quirks="published")["accuracy"] == 50
    scorer = metric("mathvista", judge=True)
    assert [scorer.question(one.item, one.text) is None for one in answers(*rows)] == [False, False, True, False]
    assert metric("mathvista").question(answers(rows[0])[0].item, "14") is None
    assert scorer.columns(answers(*rows))["parsed"].tolist() == [1, 0, 0, 1]
    with pytest.raises(MetricError, match="mathvista needs a judge, and none of the 1 answers"):
        scorer.columns(answers(free("integer", "14", "14")))


def test_extracted_answers():
    found = {
        "Answer: 3": "3",
        "So.\nExtracted answer: [1, 2]": "[1, 2]",
        "7": "7",
        "": None,
        "None.": None,
        "Answer:": None,
    }
    assert {text: Extracted().parse(text) for text in found} == found


def test_edit_distance():
    assert [edit_distance(*pair) for pair in (("kitten", "sitting"), ("", "abc"), ("abc", ""), ("a", "a"))] == [
        3,
        3,
        3,
        0,
    ]
    draw = random.Random(0)
    for _ in range(200):
        first, second = ("".join(draw.choices("abc", k=draw.randrange(80))) for _ in range(2))
        assert edit_distance(first, second) == slow_distance(first, second)


def slow_distance(first, second):
    row = list(range(len(second) + 1))
    for place, one in enumerate(first, start=1):
        above, row = row, [place]
        for column, other in enumerate(second, start=1):
            row.append(min(above[column] + 1, row[-1] + 1, above[column - 1] + (one != other)))
    return row[-1]
