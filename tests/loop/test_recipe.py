# SPDX-License-Identifier: Apache-2.0
"""Recipes: what they are read into, and what is said about wrong ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from llamafactory_mmself.loop import run
from llamafactory_mmself.loop.recipe import Evaluation, Recipe, load_recipe
from llamafactory_mmself.loop.rounds import Rounds
from llamafactory_mmself.loop.sampler import Sampler
from llamafactory_mmself.loop.settings import training_arguments
from llamafactory_mmself.loop.steps import LoopError


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    for name in ("train.json", "test.json"):
        (tmp_path / name).write_text("[]")
    return {
        "method": "r3v",
        "output_dir": str(tmp_path / "run"),
        "base_model": "some/model",
        "template": "qwen2_vl",
        "train_data": str(tmp_path / "train.json"),
        "test_data": str(tmp_path / "test.json"),
        "train": {"learning_rate": 1e-5},
    }


@pytest.fixture
def load(tmp_path: Path):
    def load_values(values: dict[str, Any], **changes: Any) -> Recipe:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(values))
        return load_recipe(path, changes)

    return load_values


def test_defaults_and_paths(values, load, tmp_path) -> None:
    recipe = load(values)
    assert recipe.output_dir == tmp_path / "run"
    assert (recipe.iterations, recipe.start, recipe.export, recipe.evaluate) == (3, "restart", "last", Evaluation())


def test_the_verifier_follows_the_method(values, load) -> None:
    assert load(values).verifier == "letters"
    assert load({**values, "method": "stl"}).verifier == "stl"
    assert load({**values, "method": "stl", "build": {"caption": False}}).verifier == "stl-nocaption"


def test_the_training_arguments_may_be_a_file(values, load, tmp_path) -> None:
    (tmp_path / "train.yaml").write_text("learning_rate: 2.0e-5\n")
    assert load({**values, "train": str(tmp_path / "train.yaml")}).train == {"learning_rate": 2e-5}


def test_values_can_be_changed_from_outside(values, load) -> None:
    recipe = load(values, **{"iterations": 1, "sampling.n": 5, "train.seed": 3})
    assert (recipe.iterations, recipe.sampling["n"], recipe.train["seed"]) == (1, 5, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iteration": 2}, r"recipe.yaml: unknown key `iteration`. Did you mean `iterations`\?"),
        ({"method": "star"}, "key `method`: 'star' is none of r3v, stl"),
        ({"start": "again"}, "key `start`: 'again' is none of restart, continue"),
        ({"iterations": -1}, "key `iterations`: a whole number from 0 on"),
        ({"iterations": True}, "key `iterations`: a whole number"),
        ({"base_model": None}, "the key `base_model` is missing"),
        ({"train_data": "gone.json"}, r"key `train_data`: there is no file .*gone\.json"),
        ({"train": "gone.yaml"}, "gone.yaml cannot be read"),
        ({"global_batch": 0}, "key `global_batch`: a whole number from 1 on"),
        (
            {"global_batch": 8, "train": {"gradient_accumulation_steps": 2}},
            "gradient_accumulation_steps follows from `global_batch`",
        ),
        ({"train": {"output_dir": "x"}}, "the loop sets output_dir itself"),
        ({"train": {"overwrite_output_dir": True}}, "the loop sets overwrite_output_dir itself"),
        ({"train": {"template": "llava"}}, "template llava is not the recipe's qwen2_vl"),
        ({"train": {"save_only_model": True}}, "with save_only_model a killed training cannot go on"),
        ({"train": {"hf_hub_token": "secret"}}, "hf_hub_token would be written to the run's files"),
        ({"engine": {"llamafactory": {"hf_hub_token": "secret"}}}, "HF_TOKEN"),
        ({"engine": {"vllm": {"hf_token": "secret"}}}, "`engine`: hf_token would be written"),
        ({"engine": {"name": "openai"}}, "an endpoint goes on serving the model that it has"),
        ({"evaluate": {"samples": "3"}}, "Option `samples`: '3' is not a whole number"),
        ({"evaluate": {"form": "essay"}}, "Option `form`: 'essay' is not"),
        ({"engine": 3}, "key `engine`: keys and values are expected"),
        ({"evaluate": {"sample": 3}}, "unknown key `sample`. Did you mean `samples`"),
    ],
)
def test_mistakes_are_named(values, load, change, message) -> None:
    with pytest.raises(LoopError, match=message):
        load({**values, **change})


@pytest.fixture
def on_devices(monkeypatch: pytest.MonkeyPatch):
    """Pretends that there are so many devices."""
    import torch

    for name in ("FORCE_TORCHRUN", "NPROC_PER_NODE", "NNODES", "USE_RAY"):
        monkeypatch.delenv(name, raising=False)
    return lambda count: monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)


def test_accumulation_follows_from_global_batch_and_devices(values, load, on_devices, tmp_path, monkeypatch) -> None:
    recipe = load({**values, "global_batch": 64, "train": {"per_device_train_batch_size": 2}})

    def accumulation(devices: int) -> int:
        on_devices(devices)
        arguments = training_arguments(recipe, "base", tmp_path / "rows.json", tmp_path / "model")
        return arguments["gradient_accumulation_steps"]

    assert [accumulation(devices) for devices in (0, 1, 2, 4, 8, 32)] == [32, 32, 16, 8, 4, 1]
    with pytest.raises(LoopError, match="`global_batch` 64 cannot be dealt out to 5 devices with per_device_train_ba"):
        accumulation(5)
    monkeypatch.setenv("NNODES", "2")
    assert accumulation(4) == 4
    monkeypatch.setenv("FORCE_TORCHRUN", "1")
    monkeypatch.setenv("NPROC_PER_NODE", "2")
    assert accumulation(0) == 8


def test_other_devices_redo_no_training(values, load, on_devices, tmp_path) -> None:
    def settings(devices: int, batch: int) -> Mapping[str, Any]:
        on_devices(devices)
        recipe = load({**values, "global_batch": batch, "train": {"per_device_train_batch_size": 2}})
        return Rounds(recipe, Sampler()).train(1, tmp_path / "rows.json").settings

    assert settings(1, 64) == settings(4, 64) != settings(4, 32)


def test_files_that_are_no_recipes(tmp_path) -> None:
    path = tmp_path / "recipe.yaml"
    for text, message in (("a: [", "is not YAML"), ("- a", "keys and values are expected")):
        path.write_text(text)
        with pytest.raises(LoopError, match=message):
            load_recipe(path)
    with pytest.raises(LoopError, match="cannot be read"):
        load_recipe(tmp_path / "gone.yaml")


def test_missing_packages_are_told_before_anything_is_sampled(values, load, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    (tmp_path / "judge.yaml").write_text("{name: vllm, model: m, template: t, ray: true}")
    tasks = {"tasks": ["toy"], "tasks_data": str(tmp_path), "tasks_judge": str(tmp_path / "judge.yaml")}
    for changes, told in (
        ({"train": {"deepspeed": "z2.json"}}, "deepspeed"),
        (
            {"method": "sherlock", "rounds": {"online": {"deepspeed": "z2.json", "attn": "xformers"}}},
            "deepspeed, xformers",
        ),
        ({"method": "sherlock", "judge": {"name": "vllm"}}, "vllm"),
        ({"evaluate": tasks}, "vllm, ray"),
    ):
        with pytest.raises(LoopError, match=f"needs {told}: pip install"):
            run._check_extras(load({**values, **changes}))
