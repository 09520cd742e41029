# SPDX-License-Identifier: Apache-2.0
"""`tree_forward`: what is chosen, what is said about it, and that it changes nothing but the time."""

import json

import pytest

from llamafactory_mmself.tree import packed


pytestmark = pytest.mark.filterwarnings("default")

SHERLOCK = {"stage": "sherlock_dpo", "strategy": None, "dataset": "mmself_sherlock_full", "learning_rate": 1e-4}


@pytest.fixture
def told(monkeypatch):
    """What the choice says."""
    from llamafactory_mmself import _autoload

    _autoload.activate()
    from llamafactory_mmself.stages import forward

    lines: list[str] = []
    monkeypatch.setattr(forward.logger, "info_rank0", lines.append)
    monkeypatch.setattr(forward.logger, "warning_rank0", lines.append)
    return lines


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("qwen2_vl", {"use_reentrant_gc": False}),
        ("qwen2_5_vl", {"finetuning_type": "full", "learning_rate": 1e-4}),
        ("qwen3_vl", {"finetuning_type": "full", "freeze_vision_tower": False, "learning_rate": 1e-4}),
        ("llava", {"disable_gradient_checkpointing": True}),
        ("qwen2_vl", SHERLOCK),
    ],
    ids=["qwen2_vl-lora", "qwen2_5_vl-full", "qwen3_vl-full-with-tower", "llava-lora", "sherlock"],
)
def test_packed_and_dense_learn_alike(settings, train, told, family, changes):
    common = {**changes, "max_samples": 5, "max_steps": 4}
    dense, found, chosen = (
        train(settings(family, **common, tree_forward=forward)) for forward in ("dense", "packed", "auto")
    )
    assert found.losses == pytest.approx(dense.losses, abs=1e-5)
    explicit, automatic = told
    assert explicit == "tree_forward: packed. As the run's arguments say."
    assert "tower passes" in automatic
    same = found if automatic.startswith("tree_forward: packed.") else dense  # where the rows' lengths say so
    assert chosen.losses == same.losses


def test_evaluation_alone(settings, train, told):
    evaluation = {"do_train": False, "do_eval": True, "eval_dataset": "ovip_eval", "dataset": None, "max_steps": None}
    pairs = {"strategy": "dpo", "pref_loss": "simpo"}  # without a reference, which would be the model itself
    losses = []
    for forward in ("dense", "auto"):
        folder = train(settings(**evaluation, **pairs, tree_forward=forward)).folder
        losses.append(json.loads((folder / "eval_results.json").read_text())["eval_loss"])
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert told[-1].startswith("tree_forward: packed.")


def test_models_that_cannot_are_dense_and_the_log_says_why(settings, train, told):
    train(settings("mllama"))
    assert told[0].startswith("tree_forward: dense. Models of type `mllama` are not among those that run packed")
    with pytest.raises(ValueError, match="`tree_forward: packed` is impossible: models of type `mllama`"):
        train(settings("mllama", tree_forward="packed"))


def test_nothing_to_share_is_nothing_to_pack(settings, train, told):
    train(settings(strategy="sft"))
    assert told[0].startswith("tree_forward: dense. Packing its rows would not pay")


def test_a_layout_that_scores_otherwise_is_found_out(settings, train, told, monkeypatch):
    dense = train(settings(tree_forward="dense"))
    original = packed.PackedCollator._positions
    monkeypatch.setattr(packed.PackedCollator, "_positions", lambda *args: original(*args).flip(-1))
    found = train(settings())
    assert told[0].startswith("tree_forward: dense. Log-probs of the first batch differ by")
    assert found.losses == dense.losses


def test_plain_attention_is_kept_unless_packing_is_asked_for(settings, train, told):
    plain = train(settings(flash_attn="disabled"))
    assert "`flash_attn: disabled` asks for plain attention" in told[0]
    found = train(settings(flash_attn="disabled", tree_forward="packed"))
    assert told[1] == "The decoder's attention is `node_tree` now: `eager` takes no tree's mask."
    assert found.losses == pytest.approx(plain.losses, abs=1e-5)
