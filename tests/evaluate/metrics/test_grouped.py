# SPDX-License-Identifier: Apache-2.0
"""MME, HallusionBench and MMBench: figures of whole groups of questions, and of draws of them."""

import math

import numpy as np
import pytest

from llamafactory_mmself.evaluate.metrics import MetricError, metric
from llamafactory_mmself.evaluate.metrics.base import compare, summarise


def mme(category, picture, *said):
    truth = {"category": category, "images": [picture]}
    return [(truth | {"answer": answer}, text) for answer, text in zip(("Yes", "No"), said, strict=True)]


MME = [
    *mme("OCR", "1.png", "Yes", "No"),
    *mme("OCR", "2.png", "Yes", "Yes"),
    *mme("existence", "1.png", "yes", "no"),
    *mme("code_reasoning", "3.png", "No", ""),
]


def test_mme(scores):
    found = scores("mme", MME)
    assert found["score/OCR"] == 75 + 50 and found["score/existence"] == 200 and found["score/code_reasoning"] == 0
    assert (found["perception"], found["cognition"], found["total"]) == (325, 0, 325)
    assert found["accuracy"] == 62.5 and found["accuracy_plus"] == 50
    assert set(found) == {
        "total", "perception", "cognition", "accuracy", "accuracy_plus",
        "score/OCR", "score/existence", "score/code_reasoning",
    }  # fmt: skip


def test_mme_reads_by_four_characters_as_published(scores):
    rows = mme("count", "1.png", "Yes", "Not sure")
    assert scores("mme", rows, quirks="published")["total"] == 200
    assert scores("mme", rows)["total"] == 50


def test_mmes_pictures_are_drawn_whole(answers):
    scorer = metric("mme")
    columns = scorer.columns(answers(*MME))
    assert columns["group"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    twice = {name: column[[0, 1, 0, 1, 2, 3, 4, 5, 6, 7]] for name, column in columns.items()}
    assert scorer.figures(twice)["score/OCR"] == pytest.approx(100 * (5 / 6 + 2 / 3))
    found = summarise(columns, scorer.figures, draws=200)
    assert found["total"].interval.low <= 325 <= found["total"].interval.high
    assert not math.isnan(found["score/existence"].interval.low)


def test_mme_names_what_is_wrong(scores):
    with pytest.raises(MetricError, match=r"Item 'q0': 'poster' is no category of MME"):
        scores("mme", mme("poster", "1.png", "Yes", "No"))
    with pytest.raises(MetricError, match="neither pictures nor 'picture'"):
        scores("mme", [({"category": "OCR", "answer": "Yes"}, "Yes")])
    rows = [
        ({"category": "OCR", "answer": "Yes", "picture": "a"}, "Yes"),
        ({"category": "OCR", "answer": "No", "picture": "a"}, "Yes"),
    ]
    assert scores("mme", rows)["total"] == 50


def hallusion(category, figure, question, answer, text, *verdict, **more):
    truth = {"category": category, "subcategory": "chart", "set_id": 0, "figure_id": figure, "question_id": question}
    return truth | {"answer": answer} | more, text, *verdict


HALLUSION = [
    hallusion("VD", 0, 0, "yes", "Yes"),
    hallusion("VD", 0, 1, "no", "No"),
    hallusion("VD", 1, 0, "no", "Yes"),
    hallusion("VD", 1, 1, "no", "no, it is not"),
    hallusion("VS", "0", "0", "1", "Yes"),
    hallusion("VS", "1", "0", "0", "Hm."),
]


def test_hallusion(scores):
    found = scores("hallusion", HALLUSION)
    assert found["aAcc"] == pytest.approx(400 / 6)
    # Figures: VD 0 is right, VD 1 and VS 1 are not, VS 0 is none. Questions: VD 1 is right, VD 0 and VS 0 are not.
    assert found["fAcc"] == pytest.approx(100 / 3) and found["qAcc"] == pytest.approx(100 / 3)
    assert found["mean"] == pytest.approx((400 / 6 + 200 / 3) / 3)
    assert (found["aAcc/VD"], found["fAcc/VD"], found["qAcc/VD"]) == (75, 50, 50)
    assert (found["aAcc/VS"], found["fAcc/VS"], found["qAcc/VS"]) == (50, 0, 0)


def test_hallusion_as_vlmevalkit_reads(scores):
    rows = [hallusion("VD", 0, 0, "no", "There is not."), hallusion("VD", 0, 1, "yes", "Certainly (yes)")]
    assert scores("hallusion", rows, quirks="published")["aAcc"] == 50
    assert scores("hallusion", rows)["aAcc"] == 100


def test_hallusion_with_a_judge(scores, answers):
    more = {"details": "It rises."}
    rows = [
        hallusion("VS", 0, 0, "yes", "?", "Verdict: unclear", **more),
        hallusion("VS", 1, 0, "yes", "?", "Verdict: unclear", **more),
        hallusion("VD", 0, 0, "yes", "?", "They agree.\nVerdict: correct", **more),
        hallusion("VD", 1, 0, "yes", "?", "This is not incorrect.", **more),
        hallusion("VD", 2, 0, "yes", "?", "A correct answer.", **more),
    ]
    scorer = metric("hallusion", judge=True)
    columns = scorer.columns(answers(*rows))
    assert columns["right"].tolist() == [1, 0, 1, 0, 0] and columns["parsed"].tolist() == [1, 1, 1, 0, 0]
    assert scores("hallusion", rows, judge=True, quirks="published")["aAcc"] == 60
    asked = scorer.question(answers(rows[0])[0].item, "It falls.")
    assert asked.values == {"question": "What?", "reference": "It rises.", "answer": "It falls."} and not asked.images
    assert metric("hallusion").question(answers(rows[0])[0].item, "x") is None
    with pytest.raises(MetricError, match="no 'details'"):
        scorer.question(answers(hallusion("VD", 0, 0, "yes", "?"))[0].item, "x")
    with pytest.raises(MetricError, match="no 'set_id'"):
        scores("hallusion", [({"category": "VS", "subcategory": "x", "answer": "yes"}, "yes")])


def mmbench(index, answer, text, **more):
    return {"answer": answer, "choices": ["x", "y"], "index": index, "category": "colour"} | more, text


def test_mmbench(scores, answers):
    rows = [
        mmbench(7, "A", "A"),
        mmbench(1_000_007, "B", "B"),
        mmbench(8, "A", "A"),
        mmbench(1_000_008, "B", "A"),
        mmbench(9, "A", "B"),
    ]
    found = scores("mmbench", rows)
    assert found["circular"] == pytest.approx(100 / 3) and found["accuracy"] == pytest.approx(200 / 3)
    assert found["circular/colour"] == found["circular"]
    assert metric("mmbench").columns(answers(*rows))["group"].tolist() == [0, 0, 1, 1, 2]


def test_a_single_group_has_no_interval(answers):
    scorer = metric("mmbench")
    rows = [mmbench(7, "A", "A"), mmbench(1_000_007, "B", "A")]
    assert summarise(scorer.columns(answers(*rows)), scorer.figures, draws=10)["circular"].interval is None
    two = [*rows, mmbench(8, "A", "A")]
    assert summarise(scorer.columns(answers(*two)), scorer.figures, draws=10)["circular"].interval is not None


def test_mmbench_by_names_and_without_rolls(scores):
    rows = [
        mmbench(None, "A", "A", rolled_from="p", roll=0),
        mmbench(None, "B", "A", rolled_from="p", roll=1),
        mmbench(None, "A", "A"),
    ]
    assert (scores("mmbench", rows)["circular"], scores("mmbench", rows)["accuracy"]) == (50, 100)
    assert scores("mmbench", rows[2:])["circular"] == 100
    rows = [mmbench(1, "A", "A dog, to be sure")]
    assert scores("mmbench", rows)["circular"] == 0
    assert scores("mmbench", rows, quirks="published")["circular"] == 100


def test_two_models_are_compared_by_groups(answers):
    scorer = metric("mme")
    before, after = (
        scorer.columns(answers(*MME)),
        scorer.columns(answers(*MME[:6], *mme("code_reasoning", "3.png", "Yes", "No"))),
    )
    gain = compare(before, after, scorer.figures, draws=200)
    assert gain["total"].value == 200 and gain["score/OCR"].value == 0
    assert gain["score/OCR"].interval.low == gain["score/OCR"].interval.high == 0
    assert np.isfinite(gain["cognition"].interval.low)
