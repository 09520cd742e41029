# SPDX-License-Identifier: Apache-2.0
"""What all metrics promise: names, versions, documents, errors, intervals and speed."""

import json
import time

import numpy as np
import pytest

from llamafactory_mmself.evaluate.metrics import METRICS, Answer, Item, MetricError, metric, options
from llamafactory_mmself.evaluate.metrics.base import summarise


NAMES = {
    "amber_generative", "amber_discriminative", "mmhal", "object_hal", "llava_bench", "yes_no", "options", "cvbench",
    "textvqa", "hallusion", "mme", "mmbench", "mmmu", "mmvet", "mathvista", "accuracy", "scienceqa", "aokvqa", "toy",
    "toy_captions", "text_overlap", "win_rate",
}  # fmt: skip

TRUTH = {
    "answer": "yes", "choices": ["a", "yes"], "category": "OCR", "type": "relation", "subcategory": "map", "set_id": 1,
    "figure_id": 1, "question_id": 1, "source": "COCO", "task": "Count", "answers": ["yes"] * 10, "subject": "natural",
    "grade": "grade2", "scene": "red circle, - / -, -", "reference": "yes it is", "capabilities": ["ocr"],
    "baseline": "no", "truth": ["dog"], "hallu": ["cat"], "objects": ["dog"], "answer_type": "text", "context": "c",
}  # fmt: skip
REQUIRED = {"accuracy": {"profile": "toy"}}


@pytest.fixture
def every(tmp_path):
    """Any metric, ready to score."""
    (tmp_path / "relation.json").write_text(json.dumps({"dog": ["puppy"], "cat": []}))
    (tmp_path / "words.txt").write_text("dog, puppy\ncat\n")
    given = REQUIRED | {
        "amber_generative": {
            "association": tmp_path / "relation.json",
            "safe_words": tmp_path / "words.txt",
            "nouns": str.split,
            "similarity": lambda one, other: float(one == other),
        },
        "object_hal": {"synonyms": tmp_path / "words.txt", "tagger": lambda text: ()},
    }
    return lambda name: metric(name, **given.get(name, {}))


def test_the_names_are_there():
    assert set(METRICS) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_has_a_version_a_headline_and_a_description(name, every):
    scorer = every(name)
    assert scorer.name == name and scorer.version >= 1
    text = type(scorer).__doc__
    assert "Truth:" in text and ("percent" in text or "from 0 to" in text or "100 *" in text), name
    verdict = {"mmhal": "Rating: 4", "llava_bench": "8 7", "mmvet": "1", "object_hal": '["dog"]'}.get(
        name, '["A", "B"]'
    )
    answers = [Answer(Item(str(n), "Is it?", ("a.png",), TRUTH), "yes it is so", verdict) for n in range(4)]
    columns = scorer.columns(answers)
    assert "parsed" in columns and all(len(column) == 4 and column.dtype == np.float64 for column in columns.values())
    assert not any(np.isnan(column).any() for column in columns.values())
    figures = summarise(columns, scorer.figures, draws=5)
    assert scorer.headline in figures and all(isinstance(one.value, float | int) for one in figures.values())


def test_wrong_names_and_options_are_told():
    with pytest.raises(MetricError, match="no metric 'pope'"):
        metric("pope")
    with pytest.raises(MetricError, match=r"'yes_no' has no option 'rule'\. Its options: category, quirks"):
        metric("yes_no", rule="x")
    with pytest.raises(MetricError, match=r"'toy_captions' has no option 'quirks'\. Its options: none"):
        metric("toy_captions", quirks="fixed")
    with pytest.raises(MetricError, match="'accuracy' needs the option 'profile'"):
        metric("accuracy")
    assert options("mme") == ("quirks",) and "quirks" not in options("win_rate")


def test_categories_that_are_not_drawn_leave_their_interval_alone():
    items = [Item(str(n), "", (), {"answer": "1", "category": "rare" if n == 0 else "common"}) for n in range(20)]
    scorer = metric("accuracy", profile="number")
    found = summarise(scorer.columns([Answer(item, "1") for item in items]), scorer.figures, draws=50)
    assert found["accuracy/rare"].interval.low == found["accuracy/rare"].interval.high == 100


def test_a_figure_without_items_has_no_value_and_no_interval():
    items = [Item(id, "", (), {"answer": "A", "source": "COCO", "task": "Count"}) for id in "12"]
    scorer = metric("cvbench")
    found = summarise(scorer.columns([Answer(item, "A") for item in items]), scorer.figures, draws=5)
    assert np.isnan(found["accuracy"].value) and found["accuracy"].interval is None
    assert found["accuracy/source=COCO"].interval.low == 100


LONG = "The picture shows a street with two cars, a man who walks a dog, and a sign that reads stop. "


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NAMES))
def test_ten_thousand_answers_take_seconds(name, every):
    scorer = every(name)
    verdict = LONG + "\nRating: 4"
    verdict = {"llava_bench": "8 7", "mmvet": "1", "object_hal": '["dog"]', "win_rate": '["A", "B"]'}.get(
        name, verdict
    )
    answers = [
        Answer(
            Item(str(n), "Is it?", (f"{n // 2}.png",), TRUTH | {"reference": LONG * 2}),
            f"{LONG}Answer: yes {n}",
            verdict,
        )
        for n in range(10_000)
    ]
    start = time.perf_counter()
    columns = scorer.columns(answers)
    assert time.perf_counter() - start < 20
    start = time.perf_counter()
    summarise(columns, scorer.figures, draws=100)
    assert time.perf_counter() - start < 10
