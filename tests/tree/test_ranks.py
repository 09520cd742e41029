# SPDX-License-Identifier: Apache-2.0
"""Packed and dense give the same gradients under what wraps a model on several ranks (DeepSpeed: tests/e2e)."""

from pathlib import Path

import pytest
import torch


@pytest.mark.slow
@pytest.mark.dist
@pytest.mark.parametrize("wrapper", ["ddp", "fsdp"])
def test_two_ranks(make_lab, run_cli, tmp_path, wrapper):
    """One rank packs ragged trees, the other does not: ranks need not agree."""
    lab = make_lab("qwen2_vl")
    lab.model.save_pretrained(tmp_path / "model")
    trees = lab.trees("orm", "sameBatch")
    for rank, part in enumerate((trees[:2], trees[2:])):
        packed, dense = lab.packed(part), lab.batch(part)
        layouts = {"dense": dense, "packed": packed, "mixed": packed if rank else dense}
        torch.save(layouts, tmp_path / f"batches-{rank}.pt")
    script = Path(__file__).with_name("ranks.py")
    done = run_cli("torchrun", "--standalone", "--nproc_per_node", "2", script, tmp_path, wrapper, timeout=280)
    assert done.returncode == 0
    expected = torch.load(tmp_path / "gradients-dense.pt")
    assert any("visual" in name for name in expected)
    for layout in ("packed", "mixed"):
        found = torch.load(tmp_path / f"gradients-{layout}.pt")
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            assert (found[name] - gradient).norm() <= 1e-6 * gradient.norm() + 1e-12, name
