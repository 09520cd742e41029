# SPDX-License-Identifier: Apache-2.0
"""Cached reference log-probs give the run that live ones give, and are computed once."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from llamafactory_mmself.plugin import lf
from llamafactory_mmself.stages import reference_cache
from llamafactory_mmself.stages.reference_key import MODEL_ARGUMENTS


pytestmark = pytest.mark.filterwarnings("default")

EVALUATED = {"eval_dataset": "ovip_eval", "do_eval": True}
KINDS = {
    "lora": {"finetuning_type": "lora"},
    "full": {"finetuning_type": "full"},
    "freeze": {"finetuning_type": "freeze", "freeze_trainable_layers": 1},
    "ref_model": {"finetuning_type": "full", "ref_model": "llava"},
}


@pytest.fixture
def cached(settings, tmp_path):
    """Arguments of a run with a cache of its own."""

    def make(*args, **changes):
        return settings(*args, **{"ref_logps": "cache", "ref_logps_dir": str(tmp_path / "cache"), **changes})

    return make


@pytest.fixture
def computed(tmp_path):
    """How many samples the runs since the last call have written."""
    seen = 0

    def count() -> int:
        nonlocal seen
        before = seen
        seen = sum(len(shard.read_bytes().splitlines()) for shard in (tmp_path / "cache").glob("*/*.logps"))
        return seen - before

    return count


@pytest.fixture
def moved(tiny_models, tmp_path):
    """A model in a folder of its own, with other weights."""

    def make(family: str) -> Path:
        folder = tmp_path / "moved"
        shutil.copytree(tiny_models(family), folder)
        weights = load_file(folder / "model.safetensors")
        name = next(name for name in weights if name.endswith("q_proj.weight") and "vis" not in name)
        weights[name] = weights[name] + 0.05
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_cached_log_probs_give_the_same_run(settings, cached, train, computed, moved, monkeypatch, kind):
    changes = {**KINDS[kind], **EVALUATED}
    if "ref_model" in changes:
        changes["ref_model"] = str(moved("llava"))
    live = train(settings("llava", **changes))

    loaded = []
    load = lf.create_ref_model
    monkeypatch.setattr(lf, "create_ref_model", lambda *args: loaded.append(args) or load(*args))
    for rows, models in ((8, 1 if kind == "ref_model" else 0), (0, 0)):
        loaded.clear()
        found = train(cached("llava", **changes))
        assert found.losses == pytest.approx(live.losses, abs=1e-5)
        assert found.logged("rewards/margins") == pytest.approx(live.logged("rewards/margins"), abs=1e-5)
        assert found.logged("eval_loss") == pytest.approx(live.logged("eval_loss"), abs=1e-5)
        assert computed() == rows
        assert len(loaded) == models


def test_what_changes_log_probs_is_computed_anew(cached, train, computed, moved, project_root, tmp_path):
    """A picture, a prompt, the precision, the model: but not what training does with them."""
    data = tmp_path / "data"
    shutil.copytree(project_root / "data", data)
    base = {"dataset_dir": str(data), "max_steps": 1}

    def misses(**changes) -> int:
        train(cached("llava", **{**base, **changes}))
        return computed()

    assert misses() == 4
    assert misses(learning_rate=1e-5, strategy="orm", per_device_train_batch_size=1, lora_rank=2) == 0

    rows = json.loads((data / "mmself_pairs.json").read_text())
    picture = data / rows[0]["images"][0]
    Image.new("RGB", Image.open(picture).size, "black").save(picture)
    shown = sum(rows[0]["images"][0] in row["images"] for row in rows[:4])
    assert misses() == shown > 0

    rows[1]["conversations"][0]["value"] += " Look twice."
    (data / "mmself_pairs.json").write_text(json.dumps(rows))
    assert misses() == 1
    assert misses(bf16=True, use_cpu=True) == 4
    assert misses(model_name_or_path=str(moved("llava"))) == 4
    assert misses() == 0


def test_streamed_rows_and_random_crops_are_cached(settings, cached, train, computed):
    changes = {"strategy": "ori-mdpo", "streaming": True, "max_samples": None, "max_steps": 3}
    live = train(settings("llava", **changes))
    assert train(cached("llava", **changes)).losses == pytest.approx(live.losses, abs=1e-5)
    assert computed() == 40
    train(cached("llava", **changes, seed=8))
    assert computed() == 40, "another seed draws other crops"


def test_a_cut_off_or_damaged_cache_is_mended(cached, train, computed, tmp_path, monkeypatch):
    whole = train(cached("llava"))
    (shard,) = (tmp_path / "cache").glob("*/*.logps")
    lines = shard.read_bytes().splitlines(keepends=True)
    shard.write_bytes(lines[0] + lines[1].replace(b'"', b"'", 1) + lines[2] + lines[3][:-9])
    assert computed() == 4
    told = []
    monkeypatch.setattr(reference_cache.logger, "warning_rank0", told.append)
    assert train(cached("llava")).losses == whole.losses
    assert computed() == 2
    assert "2 entries were cut short" in told[0]


def test_a_resumed_run_reads_its_cache_and_never_takes_trained_weights_for_the_start(
    cached, train, computed, tmp_path
):
    arguments = cached("llava", finetuning_type="full", save_strategy="steps", save_steps=1, max_steps=2)
    whole = train(arguments)
    shutil.rmtree(tmp_path / "run" / "checkpoint-2")
    resumed = {**arguments, "resume_from_checkpoint": str(tmp_path / "run" / "checkpoint-1")}
    assert computed() == 4
    again = train(resumed)
    assert not computed() and again.losses == whole.losses
    assert all(torch.equal(value, again.weights[name]) for name, value in whole.weights.items())

    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(ValueError, match=r"has trained already, and 4 reference log-probs are not in"):
        train(resumed)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strategy": "sft"}, "this loss has no reference"),
        ({"pref_loss": "simpo", "strategy": "dpo"}, "this loss has no reference"),
        ({"do_train": False, "do_eval": True, "eval_dataset": "ovip_eval"}, "is for training"),
        ({"ref_logps": "live"}, "`ref_logps_dir` would do nothing"),
        ({"ref_logps": "disk"}, "Unknown ref_logps `disk`"),
        ({"vision_cache_mb": -1}, "0 or more"),
    ],
)
def test_settings_that_cannot_work_say_why(cached, changes, words):
    from llamafactory_mmself import _autoload

    _autoload.activate()
    from llamafactory.hparams import get_train_args

    with pytest.raises(ValueError, match=words):
        get_train_args(cached("llava", **changes))


def test_every_model_argument_is_part_of_the_key_or_changes_no_log_prob():
    """A new argument of LLaMA-Factory has to be put on one side."""
    import dataclasses

    from llamafactory.hparams import ModelArguments

    looked_at_apart = {
        *("model_name_or_path", "adapter_name_or_path", "adapter_folder", "model_revision", "cache_dir"),
        *("model_max_length", "image_max_pixels", "image_min_pixels", "image_do_pan_and_scan", "crop_to_patches"),
        *("video_max_pixels", "video_min_pixels", "video_fps", "video_maxlen"),
    }
    harmless = {
        *("use_fast_tokenizer", "split_special_tokens", "low_cpu_mem_usage", "use_unsloth_gc", "moe_aux_loss_coef"),
        *("disable_gradient_checkpointing", "use_reentrant_gc", "infer_backend", "offload_folder", "use_kv_cache"),
        *("infer_dtype", "hf_hub_token", "ms_hub_token", "om_hub_token", "print_param_status", "trust_remote_code"),
        *("quantization_device_map", "use_audio_in_video", "audio_sampling_rate", "device_map", "block_diag_attn"),
    }
    names = {field.name for field in dataclasses.fields(ModelArguments)}
    names = {name for name in names if not name.startswith(("export_", "vllm_", "sglang_", "kt_"))}
    assert names == looked_at_apart | harmless | set(MODEL_ARGUMENTS)
