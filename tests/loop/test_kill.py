# SPDX-License-Identifier: Apache-2.0
"""A run that is killed inside every one of its steps ends with the files of one that was not."""

import pytest

from tests.loop.kills import kills_change_nothing


STL = {"method": "stl", "sampling__n": 6, "test_data": None}
#: What no other run kills: a merge, two processes that sample, a training that goes on from a merged model.
CONTINUED = ("iter0/merge", "iter0/samples_train", "iter1/train")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "only"),
    [
        ({"method": "r3v"}, None),
        ({**STL, "train__finetuning_type": "full"}, None),
        # Round 1 goes on from the merged model of the warm-up, and two processes sample for it.
        ({**STL, "sampling__n": 2, "start": "continue", "warmup": "train.json", "engine__workers": 2}, CONTINUED),
    ],
    ids=["r3v", "stl", "stl, warm-up, continue, two workers"],
)
def test_a_kill_inside_each_step_changes_no_file(changes, only, recipe, world, tmp_path, clean_environment) -> None:
    path = recipe(**changes | ({"warmup": str(world / changes["warmup"])} if "warmup" in changes else {}))
    environment = clean_environment(OMP_NUM_THREADS="1")
    worth = (lambda step: True) if only is None else only.__contains__
    kills_change_nothing(path, tmp_path / "run", environment, timeout=900, worth=worth)
