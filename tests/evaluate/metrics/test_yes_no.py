# SPDX-License-Identifier: Apache-2.0
"""POPE and AMBER's questions against tables of right and wrong made by hand."""

import pytest

from llamafactory_mmself.evaluate.metrics import MetricError, metric


def rows(*pairs, **truth):
    return [(truth | {"answer": answer}, text) for answer, text in pairs]


def test_pope(scores):
    # 3 right yes, 1 missed yes, 1 wrong yes, 2 right no, and one that cannot be read.
    asked = rows(*[("yes", "Yes")] * 3, ("yes", "No"), ("no", "Yes"), ("no", "No."), ("no", "There is no dog."))
    asked += rows(("no", "A cat."))
    found = scores("yes_no", asked)
    assert found["accuracy"] == 62.5 and found["yes_ratio"] == 50
    assert (found["precision"], found["recall"], found["f1"]) == (75, 75, 75)


def test_popes_published_rule_says_yes_where_it_cannot_read(scores):
    asked = rows(("no", "A cat."), ("no", ""), ("yes", "Yes"), ("no", "No"))
    found = scores("yes_no", asked, quirks="published")
    assert (found["accuracy"], found["precision"], found["recall"]) == (50, pytest.approx(100 / 3), 100)
    found = scores("yes_no", asked)
    assert (found["accuracy"], found["precision"], found["recall"]) == (50, 100, 100)


def test_pope_by_category(scores):
    asked = rows(("yes", "Yes"), ("no", "No"), category="random") + rows(
        ("yes", "No"), ("no", "No"), category="popular"
    )
    found = scores("yes_no", asked)
    assert (found["f1/random"], found["f1/popular"], found["f1_mean"]) == (100, 0, 50)
    assert found["f1"] == pytest.approx(200 / 3) and found["accuracy/popular"] == 50


def test_nothing_said_is_nothing_right(scores):
    found = scores("yes_no", rows(("yes", ""), ("no", "")))
    assert found == {"accuracy": 0, "precision": 0, "recall": 0, "f1": 0, "yes_ratio": 0}


def test_other_true_answers_are_refused(scores):
    with pytest.raises(MetricError, match=r"Item 'q0': the true answer is yes or no, not 'maybe'"):
        scores("yes_no", rows(("maybe", "Yes")))


def test_questions_about_one_picture_are_drawn_together(answers):
    asked = [
        (truth | {"images": [image]}, text)
        for (truth, text), image in zip(rows(*[("yes", "Yes")] * 3), "aab", strict=True)
    ]
    assert metric("yes_no").columns(answers(*asked))["group"].tolist() == [0, 0, 1]
    assert "group" not in metric("yes_no").columns(answers(*asked[1:]))


def amber(kind, *pairs):
    return rows(*pairs, type=kind)


def test_amber(scores):
    asked = amber("discriminative-hallucination", ("no", "No"), ("no", "No, there is none."), ("no", "yes"))
    asked += amber("discriminative-attribute-number", ("yes", "Yes"), ("yes", "no"), ("no", "I cannot tell."))
    asked += amber("relation", ("yes", "Yes"))
    found = scores("amber_discriminative", asked)
    # Of 4 true no, 2 are said; 3 no are said.
    assert found["accuracy"] == pytest.approx(400 / 7)
    assert (found["precision"], found["recall"]) == (pytest.approx(200 / 3), 50)
    assert found["f1"] == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5) * 100)
    assert found["f1/existence"] == pytest.approx(80) and found["accuracy/relation"] == 100
    assert found["accuracy/number"] == found["accuracy/attribute"] == pytest.approx(100 / 3)
    assert "f1/state" not in found


def test_ambers_published_rule_wants_the_bare_word(scores):
    asked = amber("discriminative-hallucination", ("no", "No"), ("no", "No."), ("no", "no"), ("yes", "Yes"))
    found = scores("amber_discriminative", asked, quirks="published")
    assert (found["accuracy"], found["precision"], found["recall"]) == (50, 99.9, 33.3)
    assert found["f1/state"] == found["accuracy/state"] == 0
    assert scores("amber_discriminative", asked)["f1"] == 100
    with pytest.raises(MetricError, match="no 'type'"):
        scores("amber_discriminative", rows(("no", "No")))
