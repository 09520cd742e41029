# SPDX-License-Identifier: Apache-2.0
"""Scores and descriptions in what chat models write."""

import json

import pytest

from llamafactory_mmself.generate.score_text import parse_description, parse_score


#: Cases of the published parser that rest on a defect: it cuts decimals off.
DEFECTS = {"7.5"}


def test_golden_scores(shared_golden):
    cases = json.loads((shared_golden / "ovip.json").read_text())["score_parsing"]
    assert len(cases) >= 10
    for case in cases:
        expected = None if case["critic"] == "none" else float(case["critic"])
        assert parse_score(case["text"], quirks="published") == expected, case
        if case["text"] not in DEFECTS:
            assert parse_score(case["text"]) == expected, case


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("7.5", 7.5),
        ("Score: 100", None),
        ("-2", None),
        ("Score: -2", None),
        ("**Score**: 4", 4.0),
        ("**Score: 4**", 4.0),
        ("Good on the whole.\nScore: [6.5]", 6.5),
        ("SCORE：[ 3 ]", 3.0),
        ("Score: 8/10.", 8.0),
        ("Score: 4/5", None),
        ("Score: 85%", None),
        ("Score: 3\nScore: 5", None),
        ("Score: 3\n...\nScore: 3", 3.0),
        ("The score is 6", None),
        ("2 dogs are missing", None),
        ("6, because the hat is red", 6.0),
        ("9 out of 10", 9.0),
        ('{"score": 7}', 7.0),
        ('```json\n{"score": "7"}\n```', 7.0),
        ('{"score": 11}', None),
        ('{"score": true}', None),
        ('{"score": null}', None),
        ("<think>Score: 2? No.</think>\nScore: 8", 8.0),
        ("underscore: 5", None),
        ("", None),
    ],
)
def test_scores(text, score):
    assert parse_score(text) == score


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Score: 100", 100.0),
        ("**Score**: 4", None),
        ("-2", None),
        ("7.5", 7.0),
        ("4 legs", 4.0),
        ("Score: 3\nScore: 5", 3),
    ],
)
def test_scores_as_published(text, score):
    assert parse_score(text, quirks="published") == score


@pytest.mark.parametrize(
    ("text", "cut", "description"),
    [
        ("A green bus.", False, "A green bus."),
        ("**Description:** A green\nbus.", False, "A green bus."),
        ("Picture description: A bus.", False, "A bus."),
        ('{"description": "A bus."}', False, "A bus."),
        ('{"description": ["A bus."]}', False, None),
        ("A bus. It is gre", True, "A bus."),
        ("A bus that is gre", True, None),
        ('{"description": "A bus"}', True, "A bus"),
        (" ... ", False, None),
        ("<think>Hm.</think>A bus.", False, "A bus."),
    ],
)
def test_descriptions(text, cut, description):
    assert parse_description(text, cut=cut) == description
