# SPDX-License-Identifier: Apache-2.0
"""Pairs of scored responses: the published choices, the paper's rule, and groups of two kinds."""

import json

import pytest

from llamafactory_mmself.recipes.ovip_pairs import PairError, choose_pairs, distinct, sigma_within


BIMODAL = [10, 0, 10, 0, 10]

#: Column of the published choices -> what they were made with.
SETTINGS = {
    "buffer": {},
    "buffer_online_only": {"online_only": True},
    "buffer_online_only_addtional": {"online_only": True, "online_only_strategy": "addtional"},
    "no_buffer_first3": {"limit": 3},
}


def places(pairs):
    return [(pair.chosen, pair.rejected) for pair in pairs]


@pytest.mark.parametrize("column", SETTINGS)
def test_the_published_choices(shared_golden, column):
    for case in json.loads((shared_golden / "ovip.json").read_text())["pair_selection"]:
        found = choose_pairs(case["scores"], rule="published", **SETTINGS[column])
        names = [
            {"chosen": "GROUND_TRUTH" if chosen is None else f"r{chosen}", "rejected": f"r{rejected}"}
            for chosen, rejected in places(found)
        ]
        assert names == case[column], case["scores"]


def test_the_correct_spelling_does_the_same():
    settings = {"online_only": True, "rule": "published"}
    one = choose_pairs([5, 1], online_only_strategy="additional", **settings)
    assert one == choose_pairs([5, 1], online_only_strategy="addtional", **settings)
    assert one[0].how == "relaxed"


def test_scores_in_any_order_keep_their_places():
    (pair,) = choose_pairs([2, 5, 9, 5, 5, 5, 5], rule="paper")
    assert (pair.chosen, pair.rejected, pair.chosen_score, pair.rejected_score) == (2, 0, 9, 2)


def test_the_paper_wants_bad_negatives():
    assert places(choose_pairs([10, 10, 7, 7, 6], rule="published")) == [(0, 4)]
    assert choose_pairs([10, 10, 7, 7, 6], rule="paper") == []
    assert choose_pairs([9, 4], rule="paper") == []  # 5 is less than twice their sample deviation, 3.5
    assert places(choose_pairs([10, 9, 9, 9, 9, 9, 9, 4], rule="paper")) == [(0, 7)]


def test_where_the_paper_falls_back():
    assert places(choose_pairs([5, 5, 3], rule="paper")) == [(None, 2)]
    assert choose_pairs([5, 5, 4], rule="paper") == []
    assert choose_pairs([5, 5, 3], rule="paper", online_only=True) == []


def test_bimodal_groups():
    for rule in ("published", "paper"):
        assert places(choose_pairs(BIMODAL, rule=rule)) == [(None, 3)]
    assert places(choose_pairs(BIMODAL, rule="robust")) == [(0, 3), (2, 1)]
    assert places(choose_pairs([9, 8, 1], rule="robust")) == [(0, 2)]


def test_spread_groups_need_a_gap_in_every_rule():
    for rule in ("published", "paper", "robust"):
        assert places(choose_pairs([6, 6, 5, 5, 5, 5, 3], rule=rule)) == [(None, 6)]


def test_what_is_left_of_the_deviation():
    assert sigma_within([10, 10, 10, 0, 0]) == 0
    assert sigma_within([7, 7, 7]) == 0
    assert sigma_within([10, 8, 0, 0]) == pytest.approx(1)  # two squares of 1 over two degrees of freedom


def test_single_and_missing_responses():
    for rule in ("published", "paper", "robust"):
        assert choose_pairs([], rule=rule) == []
        assert places(choose_pairs([3], rule=rule)) == [(None, 0)]
        assert choose_pairs([3], rule=rule, online_only=True, online_only_strategy="additional") == []


def test_what_cannot_be_compared():
    with pytest.raises(PairError, match="published, paper, robust"):
        choose_pairs([1, 2], rule="papers")
    with pytest.raises(PairError, match="additional"):
        choose_pairs([1, 2], online_only_strategy="more")
    with pytest.raises(PairError, match="finite"):
        choose_pairs([1, float("nan")])


def test_equal_texts_are_taken_once_in_order():
    assert distinct(["b", "a", "b", "c", "a"]) == [0, 1, 3]
