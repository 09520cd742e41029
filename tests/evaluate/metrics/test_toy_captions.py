# SPDX-License-Identifier: Apache-2.0
"""Captions of the toy world."""

import pytest

from llamafactory_mmself.evaluate.metrics import MetricError, metric


SCENE = {"scene": "red circle, - / blue square, red circle"}


def test_figures(scores, answers):
    rows = [
        (
            SCENE,
            "The top row holds a red circle, then nothing. The bottom row holds a blue square, then a red circle.",
        ),
        (SCENE, "The top row holds a green circle, then nothing. It is a fine picture."),
        (SCENE, "A nice day."),
    ]
    found = scores("toy_captions", rows)
    assert found["chair_i"] == 25 and found["coverage"] == pytest.approx(100 / 3)
    assert found["chair_s"] == pytest.approx(100 / 3) and found["unread"] == pytest.approx(200 / 3)
    assert found["f1"] == pytest.approx(2 * 75 * (100 / 3) / (75 + 100 / 3))
    assert metric("toy_captions").columns(answers(*rows))["parsed"].tolist() == [1, 1, 0]


def test_nothing_said_is_not_honest(scores):
    assert scores("toy_captions", [(SCENE, "")])["f1"] == 0


def test_scenes_are_checked(scores):
    with pytest.raises(MetricError, match=r"Item 'q0', 'scene': 'pink circle'"):
        scores("toy_captions", [({"scene": "pink circle"}, "")])
    with pytest.raises(MetricError, match="no 'scene'"):
        scores("toy_captions", [({}, "")])
