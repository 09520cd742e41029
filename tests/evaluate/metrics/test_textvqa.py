# SPDX-License-Identifier: Apache-2.0
"""TextVQA's normal form and soft score."""

import pytest

from llamafactory_mmself.evaluate.metrics import MetricError
from llamafactory_mmself.evaluate.metrics.vqa_text import normal, soft_score


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("The Red Car", "red car"),
        ("stop!", "stop"),
        ("coca-cola", "coca cola"),  # no blank beside the hyphen: it becomes one
        ("coca- cola", "coca cola"),  # a blank beside it: it goes
        ("a/b c", "b c"),  # and what is left of a/b begins with an article
        ("1,000", "1000"),
        ("1.5", "1.5"),
        ("5.", "5"),
        ("p.m.", "pm"),
        ("two dogs", "2 dogs"),
        ("none", "0"),
        ("ten", "10"),
        ("eleven", "eleven"),
        ("dont", "don't"),
        ("couldntve", "couldntve"),
        ("couldnt've", "couldn't've"),
        ("cant stop", "can't stop"),
        ("joe's", "joe 's"),
        ("what?", "what"),
        ("$5 (new)", "$5 new"),
        ("line\none\ttab", "line 1 tab"),
        ("it\\s", "it s"),
        ("", ""),
        ("A", ""),
    ],
)
def test_normal_forms(text, form):
    assert normal(text) == normal(text, published=True) == form


def test_where_the_published_normal_form_slips():
    assert normal("somebody'd", published=True) == "somebodyd" and normal("somebody'd") == "somebody'd"
    stops = "a." * 40
    assert normal(stops, published=True).count(".") == 8 and "." not in normal(stops)


def brute(answer, references):
    values = []
    for left_out in range(len(references)):
        others = [said for place, said in enumerate(references) if place != left_out]
        values.append(min(1, others.count(answer) / 3))
    return sum(values) / len(values)


@pytest.mark.parametrize(("equal", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_soft_scores(equal, score):
    references = ["x"] * equal + [f"other {place}" for place in range(10 - equal)]
    assert soft_score("x", references) == pytest.approx(score) == pytest.approx(brute("x", references))


def people(*said):
    return {"answers": [*said, *(f"no {place}" for place in range(10 - len(said)))]}


def test_accuracy(scores):
    rows = [
        (people("Stop", "stop!", "the stop"), "STOP."),  # 0.9
        (people("2", "two"), "Two"),  # 0.6
        (people("dont"), "don't"),  # 0.3
        (people("x"), ""),  # 0
    ]
    assert scores("textvqa", rows)["accuracy"] == pytest.approx(45)
    assert scores("textvqa", rows, quirks="published")["accuracy"] == pytest.approx(45)


def test_announced_answers_are_taken_out(scores):
    rows = [(people("stop", "stop"), "It is red. Answer: stop")]
    assert scores("textvqa", rows)["accuracy"] == pytest.approx(60)
    assert scores("textvqa", rows, quirks="published")["accuracy"] == 0


def test_ten_answers_are_needed(scores):
    with pytest.raises(MetricError, match=r"Item 'q0': 'answers' is a list of 10"):
        scores("textvqa", [({"answers": ["a"]}, "a")])
    with pytest.raises(MetricError, match="no 'answers'"):
        scores("textvqa", [({}, "a")])
