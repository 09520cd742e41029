# SPDX-License-Identifier: Apache-2.0
"""What all metrics promise: names, versions, documents, errors, intervals and speed."""

import json
import time

import numpy as np
import pytest

from llamafactory_mmself.evaluate.metrics import METRICS, Answer, Item, MetricError, metric, options
from llamafactory_mmself.evaluate.metrics.base import draws_of, summarise
from llamafactory_mmself.evaluate.stats import StatsError


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


KINDS = ("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR")


def crowd(name, n):
    """The truth of one of many items: in as many categories as benchmarks have, MMBench's options rolled round."""
    own = {"category": f"c{n % 30}", "reference": LONG * 2}
    if name == "mmbench":
        own |= {"category": f"c{n // 4 % 20}", "index": n // 4 + 1_000_000 * (n % 4)}
    elif name == "mmmu":
        own |= {"domain": f"d{n % 6}", "subject": f"s{n % 30}"}
    elif name in ("mme", "hallusion"):
        own |= {"category": KINDS[n % 10], "set_id": n // 10}
    elif name == "cvbench":
        own |= {"source": ("ADE20K", "COCO", "Omni3D")[n % 3]}
    return TRUTH | own


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NAMES))
def test_ten_thousand_answers_take_seconds(name, every):
    scorer = every(name)
    verdict = LONG + "\nRating: 4"
    verdict = {"llava_bench": "8 7", "mmvet": "1", "object_hal": '["dog"]', "win_rate": '["A", "B"]'}.get(
        name, verdict
    )
    answers = [
        Answer(Item(str(n), "Is it?", (f"{n // 2}.png",), crowd(name, n)), f"{LONG}Answer: yes {n}", verdict)
        for n in range(10_000)
    ]
    start = time.process_time()
    columns = scorer.columns(answers)
    assert time.process_time() - start < 20
    start = time.process_time()
    found = summarise(columns, scorer.figures)
    assert time.process_time() - start < 20
    assert found[scorer.headline].interval is not None


def test_draws_come_one_by_one_and_keep_groups_whole():
    columns = {"group": np.array([1.0, 0, 1, 2, 0, 1]), "right": np.arange(6.0)}
    draws = draws_of(columns, 10**12, 0)  # all of them at once would not fit into memory
    random = np.random.default_rng(0)
    members = [[1, 4], [0, 2, 5], [3]]
    for _ in range(20):
        expected = [place for group in random.integers(0, 3, 3) for place in members[group]]
        assert next(draws).tolist() == expected
    assert list(draws_of({"right": np.ones(1)}, 5, 0)) == []
    with pytest.raises(StatsError, match="no items"):
        list(draws_of({"right": np.ones(0)}, 0, 0))
