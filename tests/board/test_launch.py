# SPDX-License-Identifier: Apache-2.0
"""The form that starts a loop stands for a command line."""

from pathlib import Path

import pytest
import yaml

from llamafactory_mmself.board import launch
from llamafactory_mmself.board.launch import LaunchError, loop_command, run_folder, shown_settings


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "recipe.yaml"
    values = {"method": "r3v", "train_data": "a.json", "output_dir": "runs/a", "iterations": 2, "template": "qwen2_vl"}
    values |= {"sampling": {"n": 3, "temperature": 0.7}, "train": {"learning_rate": 2.0e-3}, "base_model": "m"}
    path.write_text(yaml.safe_dump(values))
    return str(path)


def test_a_recipe_fills_the_form(recipe):
    shown = shown_settings(launch.recipe_values(recipe), recipe)
    assert shown["samples"] == "3" and shown["temperature"] == "0.7" and shown["learning_rate"] == "0.002"
    assert shown["output_dir"] == "runs/a" and shown["engine"] == "" and "domain" not in shown


def test_only_changes_become_arguments(recipe):
    shown = shown_settings(launch.recipe_values(recipe), recipe)
    assert loop_command(recipe, shown) == ["loop", recipe]
    assert loop_command(recipe, dict.fromkeys(shown, "")) == ["loop", recipe]
    changed = {**shown, "samples": " 5 ", "engine": "vllm", "output_dir": "runs/b", "domain": "ignored"}
    more = "evaluate.samples=5\n\n# a comment\nbuild.x=a b"
    assert loop_command(recipe, changed, more, " iter1/build ") == [
        *("loop", recipe, "--set", "engine.name=vllm", "sampling.n=5", "evaluate.samples=5", "build.x=a b"),
        *("--output_dir=runs/b", "--from=iter1/build"),
    ]
    for wrong in ("samples", "=5", "--output_dir=x"):
        with pytest.raises(LaunchError, match="KEY=VALUE"):
            loop_command(recipe, shown, wrong)


def test_presets_have_flags():
    shown = shown_settings(launch.recipe_values("stl"), "stl") | {"iterations": "2", "data_folder": "M3CoT"}
    shown |= {"domain": "commonsense", "batch_size": "4", "samples": "7"}
    assert loop_command("stl", shown) == [
        *("loop", "stl", "--m3cot_dir=M3CoT", "--domain=commonsense", "--iterations=2", "--batch_size=4"),
    ]
    assert run_folder("stl", shown) == Path("runs/stl/commonsense")
    assert run_folder("r3v-geoqa", {"output_dir": "x", "domain": "commonsense"}) == Path("x")
    with pytest.raises(LaunchError, match="no further settings"):
        loop_command("stl", shown, "a=b")
    with pytest.raises(LaunchError, match="folder"):
        run_folder("stl", {})


def test_files_that_are_no_recipes(tmp_path, monkeypatch):
    for name, content in {"a.yaml": "a: 1", "b.yaml": "[", "c.yaml": "- 1"}.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(LaunchError):
            launch.recipe_values(str(tmp_path / name))
    for path in ("", str(tmp_path), str(tmp_path / "gone.yaml"), "../../etc/passwd"):
        with pytest.raises(LaunchError, match="no recipe"):
            launch.recipe_values(path)
    monkeypatch.setattr(launch, "MOST_BYTES", 1)
    with pytest.raises(LaunchError, match="too large"):
        launch.recipe_values(str(tmp_path / "a.yaml"))


def test_the_examples_are_offered(project_root):
    found = launch.recipe_choices(project_root)
    assert {"r3v-geoqa", "stl", "examples/r3v/toy.yaml", "examples/sherlock/loop.yaml"} <= set(found)
    assert "examples/mdpo/orm_tiny.yaml" not in found


def test_a_dry_run_tells_steps_or_the_error(recipe):
    with pytest.raises(ValueError, match="train_data"):
        launch.dry_run(["loop", recipe])
    with pytest.raises(LaunchError, match="invalid choice"):
        launch.dry_run(["loop", "stl", "--engine=none"])
