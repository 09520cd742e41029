# SPDX-License-Identifier: Apache-2.0
"""Stage `reflection_sft` from arguments to weights."""

import itertools
import json
import math
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from llamafactory_mmself.stages.base import SettingError
from tests.e2e.conftest import same_weights


pytestmark = pytest.mark.filterwarnings("default")

KINDS = ("cot", "refine", "select")


@pytest.fixture
def data(project_root, tmp_path):
    """The shipped rows with kinds and pairs, beside the same rows without."""
    folder = tmp_path / "data"
    shutil.copytree(project_root / "data", folder)
    info = json.loads((folder / "dataset_info.json").read_text())
    rows = json.loads((folder / "mmself_sft.json").read_text())
    for place, row in enumerate(rows):
        row["kind"], row["pair"] = KINDS[place % 3], f"pair {place // 2}"
    (folder / "kinds.json").write_text(json.dumps(rows))
    entry = info["mmself_sft"]
    info["kinds"] = {**entry, "file_name": "kinds.json"}
    info["kinds"]["columns"] = {**entry["columns"], "kind": "kind", "pair": "pair"}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


@pytest.fixture
def reflect(settings, data, tmp_path) -> Callable[..., dict[str, Any]]:
    """Arguments of a small run on rows with kinds; each has an output folder of its own."""
    numbers = itertools.count()

    def make(family: str = "llava", **changes: Any) -> dict[str, Any]:
        changes = {"output_dir": str(tmp_path / f"run-{next(numbers)}"), **changes}
        common = {"stage": "reflection_sft", "strategy": None, "dataset": "kinds", "dataset_dir": str(data)}
        return settings(family, **{**common, "max_samples": 6, "lora_target": "all", **changes})

    return make


def stock(arguments, tmp_path):
    """The same run by LLaMA-Factory's own stage."""
    return {**arguments, "stage": "sft", "output_dir": str(tmp_path / "stock")}


@pytest.mark.parametrize("finetuning_type", ["lora", "full", "freeze"])
@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_equal_weights_are_stage_sft(reflect, train, tmp_path, family, finetuning_type):
    """Bit for bit, with accumulation and a ragged last step."""
    arguments = reflect(family, finetuning_type=finetuning_type, max_samples=5, max_steps=3)
    arguments |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 3, "freeze_trainable_layers": 1}
    ours, theirs = train(arguments), train(stock(arguments, tmp_path))
    assert ours.losses == theirs.losses and ours.logged("grad_norm") == theirs.logged("grad_norm")
    assert same_weights(ours, theirs)


@pytest.mark.parametrize("weights", [None, "cot=2,refine=2,select=2"])
def test_kinds_are_logged_as_means_over_their_tokens(reflect, train, weights):
    """Their weighted mean is the loss, when a step is one batch."""
    result = train(reflect(max_samples=6, per_device_train_batch_size=6, max_steps=2, kind_weights=weights))
    names = [f"loss_{kind}" for kind in KINDS]
    for entry in [entry for entry in result.history if "loss" in entry]:
        assert {name for name in entry if name.startswith("loss_")} == set(names)
        assert min(entry[name] for name in names) < entry["loss"] < max(entry[name] for name in names)


def test_no_kinds_no_extra_metrics(reflect, train):
    history = train(reflect(dataset="mmself_sft")).history
    assert not [name for entry in history for name in entry if name.startswith("loss_")]


def test_a_kind_without_weight_is_not_trained(reflect, train, data, tmp_path):
    """Its rows change nothing but the batches."""
    rows = json.loads((data / "kinds.json").read_text())[:6]
    names = {"max_samples": None, "max_steps": 2, "disable_shuffling": True, "per_device_train_batch_size": 6}
    (data / "kinds.json").write_text(json.dumps(rows))
    weighted = train(reflect(**names, kind_weights='{"refine": 0, "select": 0}'))
    kept = [row for row in rows if row["kind"] == "cot"]
    (data / "kinds.json").write_text(json.dumps(kept))
    alone = train(reflect(**names, output_dir=str(tmp_path / "alone")))
    assert weighted.losses == pytest.approx(alone.losses, abs=1e-5)
    assert weighted.logged("loss_cot") == pytest.approx(alone.losses, abs=1e-5)
    for name, value in weighted.weights.items():
        assert torch.allclose(value, alone.weights[name], atol=1e-5), name


def test_weights_follow_the_formula(reflect, train):
    """Sum of weight × cross-entropy over sum of weights, at the first step, where both runs have the same model."""
    common = {"max_samples": 6, "per_device_train_batch_size": 6, "max_steps": 1}
    plain = train(reflect(**common))
    weights = {"cot": 1.0, "refine": 0.5, "select": 3.0}
    weighted = train(reflect(**common, kind_weights=weights))
    losses = {kind: plain.logged(f"loss_{kind}")[0] for kind in KINDS}
    assert {kind: weighted.logged(f"loss_{kind}")[0] for kind in KINDS} == pytest.approx(losses, abs=1e-6)
    assert weighted.losses[0] != pytest.approx(plain.losses[0], abs=1e-4)
    doubled = train(reflect(**common, kind_weights={name: 2 * weight for name, weight in weights.items()}))
    assert doubled.losses == weighted.losses


WEIGHTED = {"kind_weights": "cot=0.5,select=3", "max_samples": 8, "max_steps": 2}


@pytest.mark.trajectory
def test_accumulation_of_a_weighted_loss_changes_nothing(reflect, train, recorded):
    whole = train(reflect(**WEIGHTED, per_device_train_batch_size=4))
    recorded("reflection_sft", whole, *(f"loss_{kind}" for kind in KINDS), family="llava")
    parts = train(reflect(**WEIGHTED, per_device_train_batch_size=1, gradient_accumulation_steps=4))
    assert whole.losses == pytest.approx(parts.losses, abs=2e-5)
    for kind in KINDS:
        assert whole.logged(f"loss_{kind}") == pytest.approx(parts.logged(f"loss_{kind}"), abs=2e-5)


@pytest.mark.slow
@pytest.mark.dist
def test_two_ranks_with_accumulation_are_one_rank(reflect, train, train_cli, tmp_path):
    evaluation = {"eval_dataset": "kinds", "eval_strategy": "steps", "eval_steps": 2, "keep_pairs": True}
    arguments = reflect(**WEIGHTED, **evaluation, per_device_train_batch_size=4, per_device_eval_batch_size=8)
    one = train(arguments)
    spread = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "per_device_eval_batch_size": 3}
    two = train_cli({**arguments, **spread, "output_dir": str(tmp_path / "two")}, ranks=2)
    for name in ("loss", "eval_loss", *(f"{prefix}loss_{kind}" for prefix in ("", "eval_") for kind in KINDS)):
        assert one.logged(name) == pytest.approx(two.logged(name), abs=5e-5), name


def test_evaluation_is_weighted_and_named_by_kind(reflect, train):
    evaluation = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "eval_dataset": "kinds",
        "max_steps": 1,
        "plot_loss": True,
    }
    sizes = [train(reflect(**evaluation, kind_weights="select=2", per_device_eval_batch_size=size)) for size in (4, 6)]
    names = ["eval_loss", *(f"eval_loss_{kind}" for kind in KINDS)]
    first, second = ([result.logged(name)[0] for name in names] for result in sizes)
    assert first == pytest.approx(second, abs=1e-5)
    assert (sizes[0].folder / "training_loss_cot.png").exists()
    assert (sizes[0].folder / "training_eval_loss_cot.png").exists()


def test_unknown_kinds_and_bad_weights_are_refused(reflect, train):
    with pytest.raises(SettingError, match=r"`coat`.*cot, refine, select"):
        train(reflect(kind_weights="coat=2"))
    with pytest.raises(SettingError, match="every kind of this data weight 0"):
        train(reflect(kind_weights="cot=0,refine=0,select=0"))


def test_a_kind_that_is_no_text_names_its_row(reflect, train, data):
    rows = [{**row, "kind": 3} for row in json.loads((data / "kinds.json").read_text())]
    (data / "kinds.json").write_text(json.dumps(rows))
    with pytest.raises(SettingError, match=r"Data set `kinds`: a row \(id train-00-describe\) has kind 3"):
        train(reflect())


def test_stage_sft_reads_sets_that_declare_kinds(reflect, train, tmp_path):
    assert train(stock(reflect(), tmp_path)).losses == train(reflect(dataset="mmself_sft")).losses


@pytest.mark.parametrize("neat", [False, True])
def test_packing_keeps_the_kinds_of_tokens(reflect, train, tmp_path, neat):
    """Packed rows are those of stage `sft`; a kind's loss is what it is without packing (neat packing)."""
    packed = {"packing": True, "neat_packing": neat, "cutoff_len": 400, "max_steps": 1, "disable_shuffling": True}
    common = {**packed, "max_samples": 6, "per_device_train_batch_size": 6}
    ours = train(reflect(**common))
    assert ours.losses == train(stock(reflect(**common), tmp_path)).losses
    weighted = train(reflect(**common, kind_weights="cot=4"))
    assert weighted.losses != ours.losses
    if neat:
        plain = train(reflect(max_samples=6, max_steps=1, per_device_train_batch_size=6))
        for kind in KINDS:
            assert ours.logged(f"loss_{kind}") == pytest.approx(plain.logged(f"loss_{kind}"), abs=1e-4)


def test_a_killed_run_goes_on(reflect, train, tmp_path):
    """Bit for bit, past an epoch and with pairs kept together."""
    common = {**WEIGHTED, "keep_pairs": True, "max_steps": 7, "save_strategy": "steps", "save_steps": 5}
    whole = train(reflect(**common))
    again = reflect(**common, output_dir=str(tmp_path / "again"))
    train(again)
    shutil.rmtree(tmp_path / "again" / "checkpoint-7")
    resumed = train({**again, "resume_from_checkpoint": str(tmp_path / "again" / "checkpoint-5")})
    assert resumed.losses == whole.losses
    assert [resumed.logged(f"loss_{kind}") for kind in KINDS] == [whole.logged(f"loss_{kind}") for kind in KINDS]
    assert same_weights(resumed, whole)


def test_keep_pairs_needs_pairs_and_excludes_packing(reflect, train):
    with pytest.raises(SettingError, match="no row has a pair"):
        train(reflect(dataset="mmself_sft", keep_pairs=True))
    for name, value in {"packing": True, "neat_packing": True, "val_size": 2}.items():
        with pytest.raises(SettingError, match="exclude each other"):
            train(reflect(keep_pairs=True, **{name: value}))
    with pytest.raises(SettingError, match="`streaming` exclude each other"):
        train(reflect(keep_pairs=True, streaming=True, max_samples=None))


def test_streaming(reflect, train):
    with pytest.raises(SettingError, match="dataloader_num_workers"):
        train(reflect(streaming=True, max_samples=None))
    streamed = {"streaming": True, "max_samples": None, "max_steps": 2, "dataloader_num_workers": 1}
    assert "loss_cot" not in train(reflect(**streamed)).history[0]
    named = train(reflect(**streamed, kind_weights="cot=2,refine=1,select=1"))
    assert any(f"loss_{kind}" in named.history[0] for kind in KINDS)
    with pytest.raises(SettingError, match="name them all"):
        train(reflect(**streamed, kind_weights="cot=2"))


def test_tokenised_sets_keep_their_kinds(reflect, train, tmp_path):
    path = {"tokenized_path": str(tmp_path / "tokens"), "kind_weights": "cot=3"}
    first = train(reflect(**path))
    assert train(reflect(**path)).losses == first.losses == train(reflect(kind_weights="cot=3")).losses
    with pytest.raises(SettingError, match="coat"):
        train(reflect(**path | {"kind_weights": "coat=1"}))


def test_generation_and_accuracy(reflect, train, monkeypatch):
    from llamafactory.hparams import parser
    from llamafactory.train.sft import workflow

    # The stock scores of generated texts need packages that are no part of this environment.
    monkeypatch.setattr(parser, "_check_extra_dependencies", lambda *args: None)
    monkeypatch.setattr(workflow, "ComputeSimilarity", lambda tokenizer: lambda predictions: {})
    evaluation = {"do_train": False, "eval_dataset": "kinds", "dataset": None, "max_samples": 2, "max_steps": None}
    predicted = train(reflect(**evaluation, do_predict=True, predict_with_generate=True, max_new_tokens=4))
    assert len((predicted.folder / "generated_predictions.jsonl").read_text().splitlines()) == 2
    scored = train(reflect(**evaluation, do_eval=True, compute_accuracy=True))
    metrics = json.loads((scored.folder / "eval_results.json").read_text())
    assert {"eval_accuracy", "eval_loss", "eval_loss_cot"} <= metrics.keys()


def projector(result) -> dict[str, torch.Tensor]:
    """The trained projector of a run."""
    return {name: value for name, value in result.weights.items() if "projector" in name or "merger" in name}


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_the_projector_is_trained_beside_lora(reflect, train, tiny_models, family):
    """One step of Adam without decay moves each parameter by its learning rate, or not at all."""
    common = {"freeze_multi_modal_projector": False, "max_steps": 1, "lr_scheduler_type": "constant"}
    result = train(reflect(family, **common, projector_learning_rate=2e-5, learning_rate=2e-4, max_grad_norm=0.0))
    moved = projector(result)
    assert moved and len(result.weights) > len(moved)
    assert result.logged("projector_learning_rate") == [2e-5]
    assert result.logged("learning_rate") == [2e-4]
    before = load_file(tiny_models(family) / "model.safetensors")
    steps = torch.cat([(value - before[original(name, before)]).abs().flatten() for name, value in moved.items()])
    assert steps.max().item() == pytest.approx(2e-5, rel=0.02)
    assert (steps > 1.9e-5).float().mean() > 0.5
    others = [value for name, value in result.weights.items() if "lora_B" in name]
    assert max(value.abs().max().item() for value in others) == pytest.approx(2e-4, rel=0.02)


def original(name: str, before: dict[str, torch.Tensor]) -> str:
    """The name that a parameter of an adapter has in the model."""
    tail = name.split("projector.")[-1] if "projector" in name else name.split("merger.")[-1]
    (found,) = [key for key in before if key.endswith(tail) and ("projector" in key or "merger" in key)]
    return found


def test_the_projector_has_its_own_rate_in_full_tuning(reflect, train, tiny_models):
    common = {"freeze_multi_modal_projector": False, "max_steps": 1, "lr_scheduler_type": "constant"}
    result = train(reflect(**common, finetuning_type="full", projector_learning_rate=1e-4, max_grad_norm=0.0))
    before = load_file(tiny_models("llava") / "model.safetensors")
    steps = {name: (value - before[name]).abs().max().item() for name, value in result.weights.items()}
    assert max(step for name, step in steps.items() if "projector" in name) == pytest.approx(1e-4, rel=0.02)
    assert max(step for name, step in steps.items() if "layers" in name and "vision" not in name) > 9e-4


def test_the_projectors_rate_follows_the_schedule(reflect, train):
    common = {"freeze_multi_modal_projector": False, "projector_learning_rate": 1e-4, "max_steps": 4}
    result = train(reflect(**common, lr_scheduler_type="linear"))
    ratios = [rate / 1e-4 for rate in result.logged("projector_learning_rate")]
    assert ratios == pytest.approx([rate / 1e-3 for rate in result.logged("learning_rate")])
    assert ratios == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_a_frozen_projector_has_no_rate(reflect, train, tmp_path):
    with pytest.raises(SettingError, match="freeze_multi_modal_projector: false"):
        train(reflect(projector_learning_rate=1e-4))
    first = reflect(output_dir=str(tmp_path / "first"))
    train(first)
    again = {"adapter_name_or_path": first["output_dir"], "freeze_multi_modal_projector": False}
    with pytest.raises(SettingError, match="was made without it"):
        train(reflect(**again, projector_learning_rate=1e-4))
    assert projector(train(reflect(**again, create_new_adapter=True, projector_learning_rate=1e-4)))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"pref_beta": 0.3}, "would ignore `pref_beta`"),
        ({"use_dft_loss": True, "kind_weights": "cot=2"}, "`use_dft_loss`"),
        ({"kind_weights": "cot"}, "cannot be read"),
        ({"kind_weights": "cot=-1"}, "0 or more"),
        ({"kind_weights": "{cot: 1}"}, "is not JSON"),
        ({"loraplus_lr_ratio": 2.0, "projector_learning_rate": 1e-4, "freeze_multi_modal_projector": False}, "groups"),
        ({"attn": "xformers", "flash_attn": "sdpa"}, "both choose the attention"),
        ({"strategy": "dpo"}, "`strategy` belongs to mdpo"),
    ],
)
def test_settings_that_cannot_work_are_refused(reflect, train, changes, message):
    with pytest.raises(ValueError, match=message):
        train(reflect(**changes))


def test_missing_xformers_says_how_to_install_it(reflect, train, monkeypatch):
    from llamafactory_mmself.stages.reflection_sft import settings as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"pip install 'llamafactory-mmself\[xformers\]'"):
        train(reflect(attn="xformers"))


@pytest.mark.slow
def test_the_command_line(reflect, train_cli, run_cli, data, tmp_path):
    result = train_cli(reflect(stage="reflection-sft", kind_weights={"cot": 2.0}))
    assert all(map(math.isfinite, result.losses)) and result.logged("loss_cot")
    config = tmp_path / "data.yaml"
    config.write_text(yaml.safe_dump(reflect()))
    assert run_cli("mmself", "validate", config).returncode == 0
    rows = json.loads((data / "kinds.json").read_text())
    rows[1]["conversations"][-1]["value"] = 7
    (data / "kinds.json").write_text(json.dumps(rows))
    refused = run_cli("mmself", "validate", config)
    assert refused.returncode == 1 and "row 2  conversations[-1].value  This is a number (7)." in refused.stdout
    listed = run_cli("llamafactory-cli", "train", "--stage", "reflection_sft", "-h").stdout
    assert "--projector_learning_rate" in listed and "--kind_weights" in listed
