# SPDX-License-Identifier: Apache-2.0
"""Checkpoints are loaded whole: stopped runs end like others, and the best model is what is saved."""

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import Result, same_weights


pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "llava"])
@pytest.mark.parametrize("stage", ["mdpo", "reflection_sft"])
@pytest.mark.parametrize("finetuning_type", ["lora", "full"])
def test_a_stopped_run_ends_with_the_same_weights(settings, train, tmp_path, family, stage, finetuning_type):
    """Whole models too: some families are saved under other names than their own."""
    changes = {} if stage == "mdpo" else {"strategy": None, "dataset": "mmself_sft"}
    common = {"stage": stage, "finetuning_type": finetuning_type, "save_strategy": "steps", "save_steps": 1, **changes}
    whole = train(settings(family, output_dir=str(tmp_path / "whole"), **common))
    again = tmp_path / "again"
    shutil.copytree(whole.folder, again)
    shutil.rmtree(again / "checkpoint-2")
    for weights in again.glob("*.safetensors"):
        weights.unlink()
    resumed = train(
        settings(family, output_dir=str(again), resume_from_checkpoint=str(again / "checkpoint-1"), **common)
    )
    assert same_weights(whole, resumed)


@pytest.mark.parametrize("finetuning_type", ["lora", "full"])
def test_the_best_model_is_what_is_saved(settings, train, finetuning_type):
    evaluation = {"val_size": 0.5, "eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 2}
    saving = {"save_strategy": "steps", "save_steps": 1, "load_best_model_at_end": True}
    loaded = set()
    for higher in (True, False):  # one of them prefers the first step
        best = {"metric_for_best_model": "eval_loss", "greater_is_better": higher}
        run = train(settings("qwen2_vl", finetuning_type=finetuning_type, **evaluation, **saving, **best))
        checkpoint = Path(json.loads((run.folder / "trainer_state.json").read_text())["best_model_checkpoint"])
        assert same_weights(run, Result(checkpoint))
        loaded.add(checkpoint.name)
    assert loaded == {"checkpoint-1", "checkpoint-2"}
