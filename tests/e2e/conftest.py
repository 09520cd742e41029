# SPDX-License-Identifier: Apache-2.0
"""Whole runs: through LLaMA-Factory's own entry function, or through its command line."""

import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from llamafactory_mmself.toyworld.models import TEMPLATES
from tests.e2e.trajectories import RECORD, Trajectories


@dataclass(frozen=True)
class Result:
    """What a run left behind."""

    folder: Path

    @property
    def history(self) -> list[dict[str, Any]]:
        """Logged steps."""
        state: dict[str, Any] = json.loads((self.folder / "trainer_state.json").read_text())
        return state["log_history"]

    @property
    def losses(self) -> list[float]:
        """Training losses in order."""
        return [entry["loss"] for entry in self.history if "loss" in entry]

    def logged(self, name: str) -> list[float]:
        """All values of a metric."""
        return [entry[name] for entry in self.history if name in entry]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """Final weights."""
        adapter = self.folder / "adapter_model.safetensors"
        return load_file(adapter if adapter.exists() else self.folder / "model.safetensors")


def same_weights(one: Result, other: Result) -> bool:
    """Bit for bit."""
    first, second = one.weights, other.weights
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def settings(tiny_models, project_root, tmp_path) -> Callable[..., dict[str, Any]]:
    """Arguments of a small run on the shipped rows; keyword arguments change them, None removes one."""

    def make(family: str = "qwen2_vl", **changes: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model_name_or_path": str(tiny_models(family)),
            "stage": "mdpo",
            "strategy": "orm",
            "do_train": True,
            "finetuning_type": "lora",
            "dataset": "mmself_pairs",
            "dataset_dir": str(project_root / "data"),
            "template": TEMPLATES[family],
            "output_dir": str(tmp_path / "run"),
            "report_to": "none",
            "logging_steps": 1,
            "save_strategy": "no",
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 2,
            "max_samples": 4,
            "max_steps": 2,
            "seed": 7,
        }
        return {name: value for name, value in {**arguments, **changes}.items() if value is not None}

    return make


@pytest.fixture
def train() -> Callable[[dict[str, Any]], Result]:
    """Runs in this process."""
    from llamafactory_mmself import _autoload

    _autoload.activate()
    from llamafactory.train.tuner import run_exp

    def run(arguments: dict[str, Any]) -> Result:
        folder = Path(arguments["output_dir"])
        shutil.rmtree(folder, ignore_errors=True) if "resume_from_checkpoint" not in arguments else None
        run_exp(dict(arguments))
        return Result(folder)

    return run


@pytest.fixture
def recorded(tiny_models) -> Callable[..., None]:
    """Compares curves of a run with the recorded ones of this stack: `recorded(name, result, metric, ...)`."""
    trajectories = Trajectories(record=RECORD in os.environ)

    def check(name: str, result: Result, *metrics: str, family: str = "qwen2_vl") -> None:
        trajectories.check(name, tiny_models(family), result.logged, ("loss", *metrics))

    return check


@pytest.fixture
def deepspeed_config(project_root) -> Callable[[int], str]:
    """The shipped configuration of ZeRO-2 or ZeRO-3."""

    def find(stage: int) -> str:
        if importlib.util.find_spec("deepspeed") is None:
            pytest.skip("needs the extra `deepspeed`; `make test` installs it")
        return str(project_root / "examples" / "deepspeed" / f"ds_z{stage}.json")

    return find


@pytest.fixture
def train_cli(run_cli, tmp_path) -> Callable[..., Result]:
    """Runs `llamafactory-cli train` on a YAML, as a user does; `ranks` processes."""

    def run(arguments: dict[str, Any], ranks: int = 1, env: Any = None, command: str = "llamafactory-cli") -> Result:
        config = tmp_path / "run.yaml"
        config.write_text(yaml.safe_dump(arguments))
        distributed = ranks > 1 or "deepspeed" in arguments
        more = {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": str(ranks), "OMP_NUM_THREADS": "1"} if distributed else {}
        if "deepspeed" in arguments:
            more["DS_ACCELERATOR"] = "cpu"
        done = run_cli(command, "train", config, timeout=280, env={**more, **(env or {})})
        assert done.returncode == 0
        return Result(Path(arguments["output_dir"]))

    return run
