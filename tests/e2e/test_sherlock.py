# SPDX-License-Identifier: Apache-2.0
"""Stage `sherlock_dpo` from arguments to weights."""

import json
import math

import pytest
import torch


pytestmark = pytest.mark.filterwarnings("default")

FAMILIES = ("qwen2_vl", "llava", "mllama")
START = 1.7386294361


@pytest.fixture
def sherlock(settings):
    """Arguments of a small run on the shipped rows; keyword arguments change them, None removes one."""

    def make(family="qwen2_vl", **changes):
        common = {"stage": "sherlock_dpo", "strategy": None, "dataset": "mmself_sherlock_full"}
        return settings(family, **common | changes)

    return make


@pytest.mark.parametrize("family", FAMILIES)
def test_policy_and_reference_agree_before_the_first_step(sherlock, train, family):
    """Then neither the weights nor the betas of the rows matter."""
    result = train(sherlock(family))
    assert result.losses[0] == pytest.approx(START, abs=1e-5)
    assert result.logged("losses/sc_l")[0] == pytest.approx(1, abs=1e-5)
    assert result.logged("losses/sc_w")[0] == pytest.approx(1, abs=1e-5)
    assert result.logged("losses/dpo")[0] == pytest.approx(math.log(2), abs=1e-5)
    assert result.losses[1] < result.losses[0]
