# SPDX-License-Identifier: Apache-2.0
"""Object HalBench with a small synonym list, a recorded tagger and small annotations."""

import json
import math

import pytest

from llamafactory_mmself.evaluate.metrics import MetricError, metric
from llamafactory_mmself.evaluate.metrics.object_hal import ObjectList
from llamafactory_mmself.evaluate.metrics.taggers import Token


SYNONYMS = """\
person, man, woman, child
dog, puppy
chair, seat
toilet, urinal
tie, bow tie
dining table, table
traffic light, stoplight
bottle
"""
LEMMAS = {"dogs": "dog", "puppies": "puppy", "men": "man"}
ADJECTIVES = {"a", "red", "old"}


def tagger(text):
    return [Token(LEMMAS.get(word, word), "JJ" if word in ADJECTIVES else "NN") for word in text.split()]


@pytest.fixture
def options(tmp_path):
    (tmp_path / "synonyms.txt").write_text(SYNONYMS)
    return {"synonyms": tmp_path / "synonyms.txt", "tagger": tagger, "words": lambda text: text.lower().split()}


def row(objects, listed, text="There is a lot to see.", **truth):
    verdict = listed if isinstance(listed, str) or listed is None else json.dumps(listed)
    return {"objects": objects} | truth, text, verdict


def test_figures(scores, options):
    rows = [
        # dog and puppy are two objects of one class; the bottle is wrong; the lamp is no COCO class.
        row(["dog", "person"], ["red dogs", "puppies", "bottle", "lamp", "dogs"]),
        row(["table"], ["dining table"]),
        row(["person", "tie"], ["lamp"]),
        row(["person"], None, "A man."),
    ]
    found = scores("object_hal", rows, **options)
    assert found["chair_i"] == 25 and found["precision"] == 75
    assert found["chair_s"] == 50  # of the two answers with a class
    assert found["recall"] == pytest.approx(100 * 2 / 6)
    assert found["f1"] == pytest.approx(2 * 75 * (200 / 6) / (75 + 200 / 6))
    assert found["length"] == (6 * 3 + 2) / 4


@pytest.mark.parametrize(
    ("listed", "classes"),
    [
        (["baby dog", "adult bear"], ["dog"]),
        (["bow tie"], ["tie"]),
        (["home plate"], []),
        (["toilet seat"], ["toilet"]),
        (["toilet", "seat"], ["toilet"]),
        (["seat"], ["chair"]),
        (["stoplight", "traffic light"], ["traffic light", "traffic light"]),
        (["table red chair"], ["dining table", "chair"]),
        (["dog bottle"], []),  # one noun in two words, which is no class
    ],
)
def test_objects_of_a_list(answers, options, listed, classes):
    columns = metric("object_hal", **options).columns(answers(row([], listed)))
    assert columns["objects"][0] == len(classes)
    columns = metric("object_hal", **options).columns(answers(row(classes, listed)))
    assert columns["wrong"][0] == 0 and columns["right_classes"][0] == len(set(classes))


def test_short_answers_need_no_judge(answers, options):
    scorer = metric("object_hal", **options)
    item = answers(row([], None))[0].item
    assert scorer.question(item, "Two red dogs") is None and scorer.question(item, "") is None
    asked = scorer.question(item, "There are two dogs")
    assert asked.values == {"question": "What?", "answer": "There are two dogs"} and asked.images == ()
    columns = scorer.columns(answers(row(["dog"], None, "Two red dogs")))
    assert columns["parsed"].tolist() == [1] and columns["objects"].tolist() == [0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('["dog", "cat"]', ["dog", "cat"]),
        ("[]", []),
        ('Here:\n```json\n["dog"]\n```\nDone.', ["dog"]),
        ('```\n["dog"]\n```', ["dog"]),
        ('The objects are\n["dog"]', ["dog"]),
        ('They are ["dog"]', ["dog"]),
        ("dog, cat", None),
        ("[1]", None),
        ('{"a": 1}', None),
        ("", None),
    ],
)
def test_lists_in_replies(text, found):
    assert ObjectList().parse(text) == found


def test_replies_without_a_list(scores, answers, options):
    rows = [row(["dog"], ["dog"]), row(["person"], "I see a man.")]
    assert metric("object_hal", **options).columns(answers(*rows))["parsed"].tolist() == [1, 0]
    found = scores("object_hal", rows, **options)
    assert (found["recall"], found["precision"], found["f1"]) == (100, 100, 100)
    found = scores("object_hal", rows, **options, quirks="published")
    assert (found["recall"], found["chair_i"]) == (50, 0)
    found = scores("object_hal", rows[1:], **options, quirks="published")
    assert (found["chair_i"], found["chair_s"], found["recall"], found["f1"]) == (0, 0, 0, 0)
    with pytest.raises(MetricError, match="object_hal needs a judge, and none of the 1 answers"):
        scores("object_hal", [row(["dog"], None)], **options)


@pytest.fixture
def annotations(tmp_path):
    def write(name, notes, **more):
        (tmp_path / name).write_text(json.dumps({"annotations": notes, **more}))

    categories = {"categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]}
    write(
        "instances_train2014.json",
        [{"image_id": 1, "category_id": 18}, {"image_id": 3, "category_id": 1}],
        **categories,
    )
    write("instances_val2014.json", [{"image_id": 2, "category_id": 1}], **categories)
    write("captions_train2014.json", [{"image_id": 1, "caption": "a man near the toilet seat"}])
    write(
        "captions_val2014.json", [{"image_id": 2, "caption": "a table"}, {"image_id": 2, "caption": "a passenger jet"}]
    )
    return tmp_path


def test_truth_from_cocos_annotations(scores, options, annotations):
    rows = [
        ({"image_id": 1}, "There is a lot to see.", '["dog", "man", "toilet", "chair"]'),
        ({"image_id": "2"}, "There is a lot to see.", '["woman", "table"]'),
    ]
    found = scores("object_hal", rows, **options, annotations=annotations)
    assert found["chair_i"] == pytest.approx(100 / 6) and found["recall"] == 100
    with pytest.raises(MetricError, match=r"no annotations of picture 9"):
        scores("object_hal", [({"image_id": 9}, *rows[0][1:])], **options, annotations=annotations)
    (annotations / "captions_val2014.json").unlink()
    with pytest.raises(MetricError, match=r"captions_val2014\.json.*cocodataset\.org"):
        scores("object_hal", rows, **options, annotations=annotations)
    with pytest.raises(MetricError, match="give their folder as `annotations`"):
        scores("object_hal", rows, **options)
    with pytest.raises(MetricError, match="no 'image_id'"):
        scores("object_hal", [({}, *rows[0][1:])], **options)


def test_wrong_files_and_names(scores, options, tmp_path):
    with pytest.raises(MetricError, match=r"the object 'lamp' is not in .*synonyms\.txt"):
        scores("object_hal", [row(["lamp"], [])], **options)
    with pytest.raises(MetricError, match=r"synonym list cannot be read.*RLHF-V"):
        scores("object_hal", [row([], [])], **options | {"synonyms": tmp_path / "none.txt"})
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(MetricError, match=r"empty\.txt has no classes"):
        scores("object_hal", [row([], [])], **options | {"synonyms": tmp_path / "empty.txt"})


def test_no_objects_at_all(scores, options):
    found = scores("object_hal", [row([], [])], **options)
    assert found["f1"] == found["precision"] == found["recall"] == 0 and not math.isnan(found["chair_s"])
