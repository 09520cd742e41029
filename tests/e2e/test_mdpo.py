# SPDX-License-Identifier: Apache-2.0
"""Stage `mdpo` from arguments to weights."""

import json
import math
import shutil

import pytest
import torch
from PIL import Image

from llamafactory_mmself.losses.mdpo import STRATEGIES


pytestmark = pytest.mark.filterwarnings("default")

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava", "mllama")


@pytest.mark.parametrize("family", FAMILIES)
def test_policy_and_reference_agree_before_the_first_step(settings, train, family):
    result = train(settings(family, not_half_dpo_loss=True, max_samples=2))
    assert result.losses[0] == pytest.approx(3 * math.log(2), abs=1e-5)
    assert result.logged("rewards/margins")[0] == pytest.approx(0, abs=1e-5)
    assert result.losses[1] < result.losses[0]


@pytest.mark.parametrize("finetuning_type", ["full", "freeze"])
def test_full_and_freeze_tuning_start_from_their_reference(settings, train, finetuning_type):
    result = train(
        settings(finetuning_type=finetuning_type, not_half_dpo_loss=True, freeze_trainable_layers=1, max_samples=2)
    )
    assert result.losses[0] == pytest.approx(3 * math.log(2), abs=1e-5)
    assert result.losses[1] < result.losses[0]


@pytest.mark.parametrize("mode", ["single", "sameBatch"])
@pytest.mark.parametrize("strategy", ["sft", "dpo", "mdpo", "vtcl", "svco-noref", "svco-ref", "svco-textref", "orm"])
def test_every_offline_strategy_learns(settings, train, strategy, mode):
    result = train(settings("llava", strategy=strategy, vtcl_mode=mode, max_steps=2, max_samples=2))
    assert all(map(math.isfinite, result.losses))
    assert result.losses[-1] < result.losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_trains_on_published_rows(settings, train, shared_data, tmp_path, family, strategy):
    """OViP's own sample of rows and photos."""
    folder = shared_data / "ovip_sample" / "data"
    columns = {"messages": "conversations", "images": "images", "chosen": "chosen", "rejected": "rejected"}
    entry = {"file_name": str(folder / "ovip_sample.json"), "formatting": "sharegpt", "ranking": True}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"ovip": {**entry, "columns": columns}}))
    data = {"dataset": "ovip", "dataset_dir": str(tmp_path), "media_dir": str(folder), "image_max_pixels": 40000}
    result = train(settings(family, strategy=strategy, max_samples=2, max_steps=2, **data))
    assert all(map(math.isfinite, result.losses))
    if strategy in ("svco-ref", "svco-textref"):
        # Both slots hold the real photo: "the photo over none" and "none over the photo" cancel out.
        assert result.losses == pytest.approx([math.log(2)] * 2, abs=1e-5)
    else:
        assert result.losses[1] < result.losses[0]


def test_crops_as_rejected_pictures(settings, train):
    """ori-mdpo, and the crop templates: the same seed gives the same crops."""
    runs = [train(settings("llava", strategy="ori-mdpo", seed=seed)).losses for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    plain = train(settings("llava", strategy="mdpo")).losses
    cropped = train(settings("llava", strategy="mdpo", template="llava_mdpo_r50")).losses
    assert plain[0] == pytest.approx(cropped[0], abs=1e-5)  # ln 2 each, before anything was learned
    assert plain[1] != cropped[1]


@pytest.mark.parametrize("template", ["llava_new", "llava_mdpo_r80", "llava_orm_r80"])
def test_published_templates(settings, train, template):
    assert len(train(settings("llava", template=template)).losses) == 2


@pytest.mark.parametrize("pref_loss", ["sigmoid", "hinge", "ipo", "orpo", "simpo"])
def test_every_pair_loss(settings, train, pref_loss):
    result = train(settings("llava", pref_loss=pref_loss, strategy="mdpo", max_steps=3, max_samples=2))
    assert result.losses[-1] < result.losses[0]


def test_a_second_lora_round_starts_from_the_merged_first(settings, train, tmp_path):
    first = settings(output_dir=str(tmp_path / "first"), not_half_dpo_loss=True)
    train(first)
    again = settings(
        output_dir=str(tmp_path / "second"), adapter_name_or_path=first["output_dir"], not_half_dpo_loss=True
    )
    with pytest.raises(ValueError, match="create_new_adapter: true"):
        train(again)
    second = train({**again, "create_new_adapter": True})
    assert second.losses[0] == pytest.approx(3 * math.log(2), abs=1e-5)
    named = train(
        {**again, "ref_model": again["model_name_or_path"], "ref_model_adapters": again["adapter_name_or_path"]}
    )
    assert named.losses[0] == pytest.approx(3 * math.log(2), abs=1e-5)


def test_a_changed_picture_changes_the_loss(settings, train, project_root, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(project_root / "data", data)
    before = train(settings(dataset_dir=str(data))).losses
    for picture in sorted((data / "images").iterdir()):
        with Image.open(picture) as image:
            Image.new("RGB", image.size, (200, 30, 90)).save(picture)
    after = train(settings(dataset_dir=str(data))).losses
    assert before[0] == pytest.approx(after[0], abs=1e-5)
    assert before[1] != after[1]


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_changes_nothing(settings, train, reentrant):
    plain = train(settings(disable_gradient_checkpointing=True))
    checked = train(settings(use_reentrant_gc=reentrant))
    assert plain.losses == pytest.approx(checked.losses, abs=1e-6)


def test_accumulation_changes_nothing_on_a_ragged_epoch(settings, train):
    """Seven rows in steps of four: the last step has three."""
    common = {"max_samples": 7, "max_steps": None, "num_train_epochs": 2.0}
    whole = train(settings(**common, per_device_train_batch_size=4))
    parts = train(settings(**common, per_device_train_batch_size=1, gradient_accumulation_steps=4))
    assert len(whole.losses) == 4
    assert whole.losses == pytest.approx(parts.losses, abs=2e-5)


def test_evaluation_is_a_mean_over_rows(settings, train):
    """Batches of 5 and of 12 rows give the same eval loss, and the best checkpoint is found by it."""
    results = [
        train(
            settings(
                eval_dataset="ovip_eval",
                per_device_eval_batch_size=size,
                eval_strategy="steps",
                eval_steps=1,
                save_strategy="steps",
                save_steps=1,
                load_best_model_at_end=True,
                metric_for_best_model="eval_loss",
                plot_loss=True,
                max_samples=None,
            )
        )
        for size in (5, 12)
    ]
    first, second = (result.logged("eval_loss") for result in results)
    assert first == pytest.approx(second, abs=1e-5)
    assert results[0].logged("eval_rewards/margins") == pytest.approx(
        results[1].logged("eval_rewards/margins"), abs=1e-5
    )
    assert (results[0].folder / "training_eval_loss.png").exists()
    assert (results[0].folder / "training_loss_cdpo.png").exists()


def test_evaluation_alone(settings, train, tmp_path):
    """With an adapter, the model without it is the reference."""
    train(settings(output_dir=str(tmp_path / "first"), max_steps=4))
    result = train(
        settings(
            output_dir=str(tmp_path / "eval"),
            adapter_name_or_path=str(tmp_path / "first"),
            do_train=False,
            do_eval=True,
            eval_dataset="mmself_pairs",
            dataset=None,
            max_steps=None,
        )
    )
    metrics = json.loads((result.folder / "eval_results.json").read_text())
    assert metrics["eval_rewards/margins"] > 0.001


def test_evaluation_alone_of_a_second_round_is_the_one_during_training(settings, train, tmp_path):
    """Its reference is the first round, not the raw base."""
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    train(settings(output_dir=first, max_steps=4))
    evaluation = {"eval_dataset": "ovip_eval", "max_samples": None}
    round_two = {"adapter_name_or_path": first, "create_new_adapter": True, "eval_strategy": "steps", "eval_steps": 4}
    trained = train(settings(**round_two, **evaluation, output_dir=second, max_steps=4))
    alone = train(
        settings(
            **evaluation,
            adapter_name_or_path=f"{first},{second}",
            do_train=False,
            do_eval=True,
            dataset=None,
            max_steps=None,
            output_dir=str(tmp_path / "alone"),
        )
    )
    metrics = json.loads((alone.folder / "eval_results.json").read_text())
    assert metrics["eval_loss"] == pytest.approx(trained.logged("eval_loss")[-1], abs=1e-5)
    assert metrics["eval_rewards/margins"] == pytest.approx(trained.logged("eval_rewards/margins")[-1], abs=1e-4)


def test_noise_on_the_embeddings_is_refused(settings, train):
    with pytest.raises(ValueError, match="neftune_noise_alpha"):
        train(settings(neftune_noise_alpha=5.0))


def test_a_half_written_checkpoint_is_passed_over(settings, train, tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6, "num_train_epochs": 3.0}
    whole = train(settings(**saving, output_dir=str(tmp_path / "whole")))
    broken = settings(**saving, output_dir=str(tmp_path / "broken"))
    train(broken)
    shutil.rmtree(tmp_path / "broken" / "checkpoint-6")
    (tmp_path / "broken" / "checkpoint-4" / "trainer_state.json").unlink()
    again = train({**broken, "resume_from_checkpoint": str(tmp_path / "broken" / "checkpoint-4")})
    assert again.losses == whole.losses


def test_masking_shared_tokens_scores_only_differences(settings, train):
    masked = train(settings(mask_same_sequence=True))
    assert masked.losses[1] != train(settings()).losses[1]


@pytest.mark.parametrize("batch", [1, 3])
def test_precision_bf16(settings, train, batch):
    result = train(settings(bf16=True, use_cpu=True, per_device_train_batch_size=batch, not_half_dpo_loss=True))
    assert result.losses[0] == pytest.approx(3 * math.log(2), abs=1e-3)
    assert all(torch.isfinite(value).all() for value in result.weights.values())


def test_text_models(settings, train, tiny_models, tmp_path):
    """Preferences between answers need no pictures."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_models("llava"))
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    row = {
        "conversations": [{"from": "human", "value": "Two and two?"}],
        "chosen": {"from": "gpt", "value": "Four."},
        "rejected": {"from": "gpt", "value": "Five."},
    }
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
    entry = {"file_name": "rows.jsonl", "formatting": "sharegpt", "ranking": True, "columns": columns}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"text": entry}))
    result = train(
        settings(
            model_name_or_path=str(tmp_path / "model"),
            template="llama2",
            dataset="text",
            dataset_dir=str(tmp_path),
            strategy="dpo",
            max_steps=2,
            max_samples=None,
        )
    )
    assert result.losses[0] == pytest.approx(math.log(2), abs=1e-5) and result.losses[1] < result.losses[0]


def test_features_kept_across_steps_change_nothing(settings, train):
    """Two epochs, of which the second computes no features; and what would do nothing is refused."""
    changes = {"max_steps": 4, "strategy": "mdpo"}
    plain = train(settings("qwen3_vl", **changes))
    kept = train(settings("qwen3_vl", **changes, vision_cache_mb=8))
    assert kept.losses == pytest.approx(plain.losses, abs=1e-5)
    with pytest.raises(ValueError, match="tower or the projector trains"):
        train(settings("llava", finetuning_type="full", freeze_multi_modal_projector=False, vision_cache_mb=8))
    with pytest.raises(ValueError, match="up to 100 MB"):
        train(settings("mllama", vision_cache_mb=8))
