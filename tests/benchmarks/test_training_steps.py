# SPDX-License-Identifier: Apache-2.0
"""The benchmark of training steps compares like with like, and counts and judges rightly."""

import json
import subprocess
import sys
from types import SimpleNamespace

import naive
import pytest
import torch
from steps.group import GroupStage, advantages
from steps.report import judge, ratio
from steps.settings import SUITES, Setting, contenders_of, tree_forwards
from steps.shapes import SHAPES, write_model
from steps.work import Load, language_flops, loads, step_flops, tower_flops
from torch.utils.flop_counter import FlopCounterMode

from llamafactory_mmself.losses.mdpo import mdpo_loss
from llamafactory_mmself.losses.sherlock import ROLES, sherlock_loss
from llamafactory_mmself.tree.sample import Media, TreeBuilder
from llamafactory_mmself.tree.scores import Scores


IMAGE = 9
TOKENS = 5


def _tables(roles):
    """Policy and reference: role -> log-probs of a sample's tokens."""
    torch.manual_seed(0)
    return [{role: -torch.rand(TOKENS, dtype=torch.float64) for role in roles} for _ in range(2)]


def _naive_loss(method, tables, **about):
    sample = naive.Sample([], **about)
    return naive._loss(method, sample, *({role: (logp, TOKENS) for role, logp in table.items()} for table in tables))


@pytest.mark.parametrize(
    ("method", "strategy", "mode"),
    [
        ("dpo", "dpo", "single"),
        ("ovip", "orm", "single"),
        ("svco_single", "svco-ref", "single"),
        ("svco", "svco-ref", "sameBatch"),
    ],
)
def test_the_baseline_has_the_same_preference_losses(method, strategy, mode):
    tables = _tables(("cc", "cr", "rc", "rr", "cn", "rn"))
    sums = [{role: logp.sum()[None] for role, logp in table.items()} for table in tables]
    wanted = mdpo_loss(*sums, strategy=strategy, mode=mode, beta=naive.BETA, anchor_ratio=0.0).loss
    assert torch.allclose(_naive_loss(method, tables), wanted, rtol=1e-12)


def test_the_baseline_has_the_same_sherlock_loss():
    tables = _tables(ROLES)
    sums = [{role: logp.sum()[None] for role, logp in table.items()} for table in tables]
    wanted = sherlock_loss(*sums, weights=torch.tensor([0.7], dtype=torch.float64)).loss
    assert torch.allclose(_naive_loss("sherlock", tables, weight=0.7), wanted, rtol=1e-12)


def test_the_baseline_has_the_same_group_loss():
    tables = _tables([f"sample.{place}" for place in range(4)])
    mask = torch.ones(1, TOKENS, dtype=torch.bool)
    policy, reference = [{role: Scores(logp[None], mask) for role, logp in table.items()} for table in tables]
    side = {"advantages": torch.tensor([advantages(4)], dtype=torch.float64)}
    wanted = GroupStage().loss(policy, reference, side, SimpleNamespace()).loss
    given = dict(zip(policy, advantages(4), strict=True))
    assert torch.allclose(_naive_loss("group", tables, advantages=given), wanted, rtol=1e-12)


def _tree():
    """Two answers of 3 and 2 tokens after a prompt of 6, four of which are a picture's; both begin alike."""
    builder = TreeBuilder("one")
    prompt = builder.add([1, *[IMAGE] * 4, 2], media=[Media("image", "picture.png")])
    start = builder.add([3], prompt)
    builder.score("cc", [4, 5], start, given=prompt)
    builder.score("cr", [6], start, given=prompt)
    return builder.build()


def test_loads_count_tokens_pairs_scored_tokens_and_patches():
    found = loads([_tree(), _tree()], Setting("dpo", "qwen2-vl-tiny"), IMAGE)
    assert found["packed"] == Load(tokens=20, pairs=2 * (21 + 7 + 8 + 9 + 8), scored=8, pictures=2, patches=32)
    assert found["dense"] == Load(tokens=34, pairs=2 * (45 + 36), scored=10, pictures=2, patches=32)
    assert found["naive"] == Load(tokens=34, pairs=2 * (45 + 36), scored=34, pictures=4, patches=64)


def test_one_forward_of_the_model_takes_the_counted_operations(tmp_path):
    """Eager attention computes every pair of tokens, also those that its mask hides."""
    from transformers import AutoModelForImageTextToText

    shape = SHAPES["qwen2-vl-tiny"]
    folder = write_model("qwen2-vl-tiny", tmp_path / "model", "cpu")
    model = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager")
    image, patches, length = model.config.image_token_id, 64, 40
    ids = torch.tensor([[10] * 8 + [image] * 16 + [11] * 16])
    inputs = {
        "input_ids": ids,
        "mm_token_type_ids": (ids == image).int(),
        "pixel_values": torch.randn(patches, 3 * 2 * 14 * 14),
        "image_grid_thw": torch.tensor([[1, 8, 8]]),
    }
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**inputs)
    load = Load(length, length**2, length, 1, patches)
    expected = sum(language_flops(load, shape)) + tower_flops(load, shape)
    assert counter.get_total_flops() == pytest.approx(expected, rel=1e-3)  # rotary angles


def test_a_lora_step_is_two_forwards_and_a_backward_of_one_more():
    setting = Setting("dpo", "qwen2-vl-tiny")
    weights, attention = language_flops(Load(tokens=10, pairs=55, scored=3), SHAPES[setting.shape])
    assert step_flops(Load(tokens=10, pairs=55, scored=3), setting) == 3 * weights + 4 * attention


def test_a_ratio_is_paired_over_rounds():
    assert ratio([2.0, 4.0, 20.0], [1.0, 2.0, 10.0]) == {"median": 2.0, "low": 2.0, "high": 2.0}


def test_auto_must_not_be_slower_than_dense_anywhere():
    row = {
        "setting": {"method": "svco_single"},
        "median_seconds": {"auto": 1.0, "dense": 1.0},
        "ratios": {"auto/dense": {"median": 1.01, "low": 0.99, "high": 1.06}},
        "above_loaded_mib": {},
        "runs": {},
    }
    assert [check["passed"] for check in judge(row, with_bar=False)] == [False]


def test_stock_trainers_take_part_where_they_know_the_method_and_the_model():
    everyone = ("naive", "llamafactory", "trl", "dense", "packed", "auto")
    engines = list(tree_forwards())
    assert contenders_of(Setting("ovip", "qwen2-vl-tiny"), everyone) == ["naive", *engines]
    assert contenders_of(Setting("dpo", "llava-tiny"), everyone) == ["naive", "llamafactory", "trl", *engines]


def test_every_suite_names_each_setting_once():
    for suite in SUITES.values():
        names = [setting.name for setting in suite()]
        assert len(set(names)) == len(names)


@pytest.mark.slow
def test_a_quick_run_compares_contenders_that_compute_the_same_losses(project_root, clean_environment, tmp_path):
    script = project_root / "benchmarks" / "training_steps.py"
    line = [
        sys.executable,
        script,
        "--quick",
        "--methods",
        "dpo",
        "--rounds",
        "2",
        "--threads",
        "1",
        "--out",
        tmp_path,
        "--work",
        tmp_path / "work",
    ]
    done = subprocess.run(line, env=clean_environment(), capture_output=True, text=True, timeout=500, check=False)
    (file,) = tmp_path.glob("training_steps-quick-*.json")
    (row,) = json.loads(file.read_text())["rows"]
    assert set(row["median_seconds"]) == {"naive", "llamafactory", *tree_forwards()}, done.stderr
    same = [check for check in row["checks"] if check["what"].endswith("same losses")]
    assert len(same) == len(row["median_seconds"]) - 1
    assert all(check["passed"] for check in same)
    assert row["limit"] > 1
    assert file.with_suffix(".png").stat().st_size > 0
    assert "dpo-qwen2-vl-tiny" in done.stdout
    subprocess.run(line, env=clean_environment(), capture_output=True, timeout=500, check=False)
    (again,) = json.loads(file.read_text())["rows"]
    assert again["runs"] == row["runs"], "measured anew"
