# SPDX-License-Identifier: Apache-2.0
"""Accuracies against counts made by hand."""

import math

import pytest

from llamafactory_mmself.evaluate.metrics import MetricError, metric
from llamafactory_mmself.verify import VerifyError


def test_accuracy_with_categories(scores):
    rows = [
        ({"answer": "4", "category": "sum"}, "Answer: 4"),
        ({"answer": "5", "category": "sum"}, "Answer: 6"),
        ({"answer": "7", "category": "product"}, "Answer: 7"),
        ({"answer": "9"}, ""),
    ]
    found = scores("accuracy", rows, profile="clevr")
    assert found == {"accuracy": 50, "accuracy/product": 100, "accuracy/sum": 50}


def test_several_keys_are_told_apart_and_lists_are_several_categories(scores):
    rows = [
        ({"answer": "1", "grade": "1", "skills": ["count", "add"]}, "1"),
        ({"answer": "1", "grade": "2", "skills": ["add"]}, "2"),
    ]
    found = scores("accuracy", rows, profile="clevr", category=("grade", "skills"))
    assert found == {
        "accuracy": 50,
        "accuracy/grade=1": 100,
        "accuracy/grade=2": 0,
        "accuracy/skills=add": 50,
        "accuracy/skills=count": 100,
    }


def test_numbers_as_truth_are_numbers_without_options_and_places_with_them(scores):
    assert scores("accuracy", [({"answer": 4}, "4")], profile="number")["accuracy"] == 100
    rows = [({"answer": 1, "choices": ["x", "y"]}, "B")]
    assert scores("accuracy", rows, profile="letters")["accuracy"] == 100


def test_unparsed_answers_are_wrong_and_counted(answers):
    scorer = metric("options", rule="mmstar")
    columns = scorer.columns(answers(({"answer": "A"}, "An apple"), ({"answer": "A"}, "A")))
    assert columns["parsed"].tolist() == [0, 1] and scorer.figures(columns)["accuracy"] == 50
    published = metric("options", rule="mmstar", quirks="published")
    assert published.figures(published.columns(answers(({"answer": "A"}, "An apple"))))["accuracy"] == 100


def test_options_with_a_profile(scores):
    rows = [({"answer": "B", "choices": ["58.0", "68.0"]}, "... Answer: (B) 68.0")]
    assert scores("options", rows, profile="geoqa")["accuracy"] == 100
    with pytest.raises(MetricError, match="rule 'mmbar'"):
        metric("options", rule="mmbar")
    with pytest.raises(VerifyError, match="no verification profile"):
        metric("options", profile="geo")
    with pytest.raises(MetricError, match="either a rule or a profile"):
        metric("options", profile="geoqa", rule="mmstar")
    with pytest.raises(MetricError, match="quirks is 'fixed' or 'published'"):
        metric("options", quirks="both")


def cvbench(source, task, right, text="A"):
    return {"answer": "(A)" if right else "(B)", "choices": ["3", "4"], "source": source, "task": task}, text


def test_cvbench_is_the_mean_of_two_and_three_dimensions(scores):
    rows = [cvbench("ADE20K", "Count", n < 1) for n in range(4)]  # 25
    rows += [cvbench("COCO", "Relation", n < 3) for n in range(4)]  # 75
    rows += [cvbench("Omni3D", "Depth", n < 1) for n in range(5)]  # 20
    found = scores("cvbench", rows)
    assert (found["2d"], found["3d"], found["accuracy"]) == (50, 20, 35)
    assert found["accuracy/source=COCO"] == 75 and found["accuracy/task=Depth"] == 20


def test_cvbench_without_hits_and_without_items(scores):
    rows = [cvbench("ADE20K", "Count", False), cvbench("COCO", "Count", False), cvbench("Omni3D", "Depth", True)]
    assert scores("cvbench", rows)["accuracy"] == 50
    assert math.isnan(scores("cvbench", rows[:2])["accuracy"]) and scores("cvbench", rows[:2])["2d"] == 0
    rows = [cvbench("ADE20K", "Count", True, "A. 3"), cvbench("COCO", "Count", True), cvbench("Omni3D", "Depth", True)]
    assert scores("cvbench", rows)["accuracy"] == 100
    assert scores("cvbench", rows, quirks="published")["2d"] == 50
    with pytest.raises(MetricError, match=r"'source' is one of ADE20K, COCO, Omni3D, not 'LVIS'"):
        scores("cvbench", [cvbench("LVIS", "Count", True)])


SCIENCE = {"choices": ["x", "y", "z"], "subject": "natural science", "grade": "grade7", "hint": ""}


def test_scienceqa_pictures_may_be_the_items_own(scores):
    rows = [(SCIENCE | {"answer": 0, "images": ["a.png"]}, "A"), (SCIENCE | {"answer": "B"}, "C")]
    found = scores("scienceqa", rows)
    assert found["accuracy/image"] == 100 and found["accuracy/no_context"] == 0
    assert found["accuracy/grade_7_12"] == 50 and "accuracy/grade_1_6" not in found and "accuracy/text" not in found


def test_scienceqa_reads_more_than_the_published_pattern(scores):
    rows = [
        (SCIENCE | {"answer": "B"}, text)
        for text in ("The answer is (B).", "The answer is B.", "B", "The answer is (A).")
    ]
    assert scores("scienceqa", rows)["accuracy"] == 75
    assert scores("scienceqa", rows, quirks="published")["accuracy"] == 25
    thirds = scores("scienceqa", rows[1:], quirks="published") | scores("scienceqa", rows[:3], quirks="published")
    assert thirds["accuracy"] == 33.33
    with pytest.raises(MetricError, match=r"'grade' looks like 'grade7', not 'seven'"):
        scores("scienceqa", [(SCIENCE | {"answer": "B", "grade": "seven"}, "B")])
    with pytest.raises(MetricError, match="no 'subject'"):
        scores("scienceqa", [({"answer": "B"}, "B")])


def test_aokvqa_options(scores):
    truth = {"answer": 1, "choices": ["cat", "dog", "cow", "pig"]}
    rows = [(truth, "dog"), (truth, "B"), (truth, "Answer: (B) dog"), (truth, "cat"), (truth, "")]
    assert scores("aokvqa", rows)["accuracy"] == 60
    assert scores("aokvqa", rows, quirks="published")["accuracy"] == 20


def test_aokvqa_direct_answers(scores):
    people = {"direct_answers": ["sky"] * 2 + ["the sky"] + ["air"] + ["cloud"] * 6}
    rows = [(people, "Sky."), (people, "air"), (people, "cloud"), (people, "Answer: sky"), (people, "")]
    # "sky" has three in normal form and two as it is.
    assert scores("aokvqa", rows, setting="direct")["accuracy"] == pytest.approx(100 * (1 + 1 / 3 + 1 + 1) / 5)
    assert scores("aokvqa", rows, setting="direct", quirks="published")["accuracy"] == pytest.approx(
        100 * (1 / 3 + 1) / 5
    )
    rows.append((people | {"difficult_direct_answer": True}, "no idea"))
    assert scores("aokvqa", rows, setting="direct")["accuracy"] == pytest.approx(100 * (3 + 1 / 3) / 5)
    with pytest.raises(MetricError, match="'choice' or 'direct'"):
        metric("aokvqa", setting="both")


def test_the_toy_world(scores):
    rows = [
        ({"answer": "B", "choices": ["1", "2"], "category": "count"}, "That makes 2.\nAnswer: B"),
        ({"answer": "A", "choices": ["1", "2"], "category": "count"}, "hm"),
    ]
    assert scores("toy", rows) == {"accuracy": 50, "accuracy/count": 50}
