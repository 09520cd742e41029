# SPDX-License-Identifier: Apache-2.0
"""first look"""
import pytest
pytestmark = pytest.mark.filterwarnings("default")

@pytest.mark.parametrize("family", ["qwen2_vl", "llava"])
def test_x(settings, train, family, capfd):
    runs = {forward: train(settings(family, tree_forward=forward, max_steps=4, num_train_epochs=2.0, max_samples=7)) for forward in ("dense", "auto", "packed")}
    print({k: v.losses for k, v in runs.items()})
    out = capfd.readouterr()
    for line in (out.out + out.err).splitlines():
        if "tree_forward" in line: print("LOG", line)
    assert runs["auto"].losses == pytest.approx(runs["dense"].losses, abs=1e-5)
