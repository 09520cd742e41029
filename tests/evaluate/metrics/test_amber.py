# SPDX-License-Identifier: Apache-2.0
"""AMBER's descriptions, with recorded nouns and similarities."""

import json

import pytest

from llamafactory_mmself.evaluate.metrics import MetricError, metric


ASSOCIATION = {
    "tree": ["trees", "forest"],
    "forest": [],
    "person": ["man", "woman"],
    "dog": ["puppy"],
    "cat": [],
    "sky": [],
}


@pytest.fixture
def options(tmp_path):
    (tmp_path / "relation.json").write_text(json.dumps(ASSOCIATION))
    (tmp_path / "safe_words.txt").write_text("sky\n")
    alike = [{"puppy", "cat"}, {"woman", "person"}, {"dog", "puppy"}]
    return {
        "association": str(tmp_path / "relation.json"),
        "safe_words": str(tmp_path / "safe_words.txt"),
        "nouns": lambda text: text.split(),
        "similarity": lambda one, other: 1.0 if one == other else 0.9 if {one, other} in alike else 0.8,
    }


def test_figures(scores, options):
    rows = [
        # trees and man cover, dog is hallucinated and imagined, sky is safe, table is no known object.
        ({"truth": ["tree", "person"], "hallu": ["dog", "cat"]}, "trees man dog sky table man"),
        # nothing is hallucinated, and nothing is covered
        ({"truth": ["forest"], "hallu": []}, "sky"),
        ({"truth": ["cat"], "hallu": ["person"]}, ""),
    ]
    found = scores("amber_generative", rows, **options)
    assert (found["chair"], found["cover"]) == (pytest.approx(100 / 6), 50)
    assert (found["hal"], found["cog"]) == (pytest.approx(100 / 3), pytest.approx(100 / 3))
    assert found["f1"] == pytest.approx(2 * (500 / 6) * 50 / (500 / 6 + 50))


def test_similar_words_are_found_among_imagined_objects_first_and_then_cover(scores, options):
    # puppy is similar to cat, which is imagined and also true of the picture's dog only by likeness.
    rows = [({"truth": ["cat"], "hallu": ["sky", "dog"]}, "puppy")]
    found = scores("amber_generative", rows, **options)
    assert (found["cog"], found["cover"], found["chair"]) == (50, 100, 0)
    assert scores("amber_generative", rows, **options, threshold=0.95)["chair"] == 100


def test_the_first_word_that_fits_counts_and_associates_stand_first(scores, options):
    rows = [({"truth": ["forest", "tree"], "hallu": []}, "forest")]
    found = scores("amber_generative", rows, **options)
    assert found["cover"] == 50 and found["chair"] == 0 and found["cog"] == 0


def test_a_second_mark_is_the_published_scorers_only(scores, options):
    # puppy is a word for dog, and similar to cat, which stands before it.
    rows = [({"truth": ["tree"], "hallu": ["cat", "dog"]}, "puppy")]
    assert scores("amber_generative", rows, **options)["cog"] == 50
    options["similarity"] = lambda one, other: 1.0 if one == other else 0.9 if {one, other} == {"puppy", "cat"} else 0
    rows = [({"truth": ["tree"], "hallu": ["dog", "cat"]}, "puppy")]
    assert scores("amber_generative", rows, **options, quirks="published")["cog"] == 50
    rows = [({"truth": ["tree"], "hallu": ["dog", "person"]}, "woman puppy")]
    options["similarity"] = lambda one, other: 1.0 if one == other else 0.9 if {one, other} == {"puppy", "man"} else 0
    assert scores("amber_generative", rows, **options)["cog"] == 100


def test_a_mention_may_mark_two_imagined_objects_as_published(scores, options):
    options["similarity"] = lambda one, other: 0.9 if {one, other} == {"dog", "man"} else float(one == other)
    rows = [({"truth": ["tree"], "hallu": ["person", "dog"]}, "dog")]
    assert scores("amber_generative", rows, **options)["cog"] == 50
    assert scores("amber_generative", rows, **options, quirks="published")["cog"] == 100.0


def test_published_figures_are_rounded_and_begin_at_a_thousandth(scores, options):
    rows = [({"truth": ["tree"], "hallu": ["dog"]}, "dog trees trees")] * 3
    found = scores("amber_generative", rows, **options, quirks="published")
    assert found["chair"] == 33.3 and found["cover"] == 100.0 and found["hal"] == 100.0 and found["cog"] == 100.0
    assert found["f1"] == pytest.approx(2 * 66.7 * 100 / 166.7)
    found = scores("amber_generative", rows[:1], **options, quirks="published")
    assert found["cover"] == 99.9


def test_files_are_read_when_they_are_needed_and_named_when_they_are_wrong(scores, options, tmp_path):
    row = ({"truth": ["tree"], "hallu": []}, "tree")
    metric("amber_generative", association="nowhere", safe_words="nowhere")
    with pytest.raises(MetricError, match=r"nowhere.*junyangwang0410/AMBER"):
        scores("amber_generative", [row], **options | {"association": "nowhere"})
    with pytest.raises(MetricError, match=r"safe words cannot be read"):
        scores("amber_generative", [row], **options | {"safe_words": tmp_path / "none.txt"})
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(MetricError, match=r"list\.json is not AMBER's relation\.json"):
        scores("amber_generative", [row], **options | {"association": tmp_path / "list.json"})
    with pytest.raises(MetricError, match=r"Item 'q0': 'lamp' of 'hallu' is not in"):
        scores("amber_generative", [({"truth": ["tree"], "hallu": ["lamp"]}, "")], **options)
    with pytest.raises(MetricError, match="no 'truth'"):
        scores("amber_generative", [({"hallu": []}, "")], **options)
    with pytest.raises(MetricError, match="needs the option 'association', 'safe_words'"):
        metric("amber_generative")


def test_empty_answers_are_unparsed(answers, options):
    scorer = metric("amber_generative", **options)
    rows = [({"truth": ["tree"], "hallu": []}, text) for text in ("", "tree")]
    assert scorer.columns(answers(*rows))["parsed"].tolist() == [0, 1]
