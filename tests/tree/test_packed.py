# SPDX-License-Identifier: Apache-2.0
"""first look"""
import pytest, torch
from llamafactory_mmself.tree.packed import PackedCollator, PackedScorer
from llamafactory_mmself.tree.attention import set_text_attention


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava"])
@pytest.mark.parametrize("strategy", ["orm", "svco-ref", "dpo"])
def test_x(make_lab, family, strategy):
    lab = make_lab(family)
    trees = lab.trees(strategy, "sameBatch")
    dense = lab.batch(trees)
    pb = PackedCollator(lab.collate)(trees)
    pb = {n: v.double() if torch.is_tensor(v) and v.is_floating_point() else v for n, v in pb.items()}
    with torch.no_grad():
        a = PackedScorer()(lab.model, dense)
        b = PackedScorer()(lab.model, pb)
    for r in a:
        print(r, (a[r].sums - b[r].sums).abs().max(), dense["input_ids"].shape, pb["input_ids"].shape)
        assert (a[r].sums - b[r].sums).abs().max() < 1e-9
        assert torch.equal(a[r].mask, b[r].mask)
