# SPDX-License-Identifier: Apache-2.0
"""A small toy world, a model that has just learnt the form of answers, and recipes over both."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llamafactory_mmself.toyworld.training import shipped_base
from llamafactory_mmself.toyworld.world import WorldOptions, write_world


RECIPE: dict[str, Any] = {
    "method": "r3v",
    "template": "qwen2_vl",
    "verifier": "toy",
    "iterations": 1,
    "engine": {"batch_size": 8, "device": "cpu"},
    "sampling": {"n": 2, "temperature": 0.9, "max_new_tokens": 96},
    "evaluate": {"samples": 2},
    "train": {
        "finetuning_type": "lora",
        "lora_rank": 4,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-3,
        "max_steps": 6,
        "save_steps": 2,
        "logging_steps": 1,
    },
}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few questions."""
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, WorldOptions(train=16, test=8, captions=2))
    return folder


@pytest.fixture(scope="session")
def beginner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that writes answers in the right form and is wrong now and then."""
    return shutil.copytree(shipped_base("qwen2_vl", WorldOptions()), tmp_path_factory.mktemp("models") / "beginner")


@pytest.fixture
def recipe(world: Path, beginner: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the YAML of a small run; keyword arguments change its keys, `__` stands for a dot."""

    def write(**changes: Any) -> Path:
        values = copy.deepcopy(RECIPE) | {
            "output_dir": str(tmp_path / "run"),
            "base_model": str(beginner),
            "train_data": str(world / "train.json"),
            "test_data": str(world / "test.json"),
        }
        for name, value in changes.items():
            *outer, last = name.split("__")
            place = values
            for key in outer:
                place = place.setdefault(key, {})
            place[last] = value
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write
