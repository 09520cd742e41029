# SPDX-License-Identifier: Apache-2.0
"""One trajectory, however it is computed: packed, dense, accumulation, two ranks, ZeRO-2, ZeRO-3, killed, resumed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml


pytestmark = [pytest.mark.slow, pytest.mark.dist]

STAGES = {
    "orm": {"strategy": "orm", "not_half_dpo_loss": True},
    "svco-textref": {"strategy": "svco-textref", "vtcl_mode": "sameBatch"},
    # Squares of margins: at the others' learning rate this loss rises, and rises apart by rounding alone.
    "sherlock_dpo": {
        "stage": "sherlock_dpo",
        "strategy": None,
        "dataset": "mmself_sherlock_full",
        "learning_rate": 1e-4,
    },
}

#: Seven rows in global batches of four, two epochs: every second step is ragged.
COMMON = {"max_samples": 7, "max_steps": None, "num_train_epochs": 2.0, "tree_forward": "packed"}
LAYOUTS = {
    "accumulation": (1, {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}),
    "two ranks": (2, {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}),
    "dense, two ranks": (2, {"tree_forward": "dense"}),
    "ZeRO-2, two ranks": (2, {"gradient_accumulation_steps": 1, "deepspeed": 2}),
    "ZeRO-3, one rank": (1, {"gradient_accumulation_steps": 2, "deepspeed": 3, "tree_forward": "auto"}),
}


@pytest.fixture
def environment(deepspeed_config):
    """What a layout needs from outside."""

    def make(changes):
        if "deepspeed" not in changes:
            return {}
        changes["deepspeed"] = deepspeed_config(changes["deepspeed"])
        return {"DS_ACCELERATOR": "cpu"}

    return make


#: All layouts with one stage; those that differ by stage (rows of one batch meet in the loss) with each.
BY_STAGE = {"orm": tuple(LAYOUTS), **dict.fromkeys(("svco-textref", "sherlock_dpo"), ("accumulation", "two ranks"))}


@pytest.mark.trajectory
@pytest.mark.parametrize("stage_name", STAGES)
def test_ranks_micro_batches_and_packing_change_nothing(
    settings, train, train_cli, environment, recorded, stage_name, tmp_path
):
    stage = STAGES[stage_name]
    alone = {**stage, **COMMON, "tree_forward": "dense", "per_device_train_batch_size": 4}
    whole = train(settings(**alone, output_dir=str(tmp_path / "whole")))
    assert len(whole.losses) == 4
    recorded(stage_name, whole, "rewards/margins", "rewards/accuracies")
    for place, name in enumerate(BY_STAGE[stage_name]):
        ranks, changes = LAYOUTS[name]
        changes = dict(changes)
        env = environment(changes)
        arguments = settings(**{**stage, **COMMON, **changes}, output_dir=str(tmp_path / str(place)))
        found = train(arguments) if name == "accumulation" else train_cli(arguments, ranks, env=env)
        assert found.losses == pytest.approx(whole.losses, abs=1e-4), name
        for metric in ("rewards/margins", "rewards/accuracies"):
            assert found.logged(metric) == pytest.approx(whole.logged(metric), abs=2e-3), (name, metric)


#: Where cached reference log-probs are filled by several ranks, with and without a second model that they replace.
CACHED = [("two ranks", "lora"), ("two ranks", "full"), ("ZeRO-2, two ranks", "full")]


@pytest.mark.parametrize(("layout", "finetuning_type"), CACHED)
def test_cached_reference_log_probs_change_nothing(
    settings, train, train_cli, environment, layout, finetuning_type, tmp_path
):
    base = {**STAGES["orm"], **COMMON, "finetuning_type": finetuning_type, "learning_rate": 2e-4}
    whole = train(settings(**base, output_dir=str(tmp_path / "whole"), per_device_train_batch_size=4))
    ranks, changes = LAYOUTS[layout]
    changes = dict(changes)
    env = environment(changes)
    cache = tmp_path / "cache"
    written = []
    for name in ("first", "second"):
        keys = {"ref_logps": "cache", "ref_logps_dir": str(cache), "output_dir": str(tmp_path / name)}
        found = train_cli(settings(**{**base, **changes, **keys}), ranks, env=env)
        assert found.losses == pytest.approx(whole.losses, abs=1e-4)
        assert found.logged("rewards/margins") == pytest.approx(whole.logged("rewards/margins"), abs=2e-3)
        written.append([_lines(shard) for shard in sorted(cache.glob("*/*.logps"))])
    assert sum(written[0]) == 7 and len(written[0]) == ranks
    assert written[1] == written[0]


def test_a_cache_whose_filling_was_killed_is_filled_up(settings, train, train_cli, killed_cli, tmp_path):
    """What the killed run wrote stays as it is; the next run adds what is missing, and no more."""
    cache = tmp_path / "cache"
    arguments = settings(
        **STAGES["orm"], max_samples=24, per_device_train_batch_size=1, ref_logps="cache", ref_logps_dir=str(cache)
    )

    def filling() -> bool:
        return sum(map(_lines, cache.glob("*/*.logps"))) >= 5

    killed_cli({**arguments, "output_dir": str(tmp_path / "killed")}, filling, ranks=2)
    before = {shard: shard.read_bytes() for shard in cache.glob("*/*.logps")}
    there = sum(map(_lines, before))
    assert 5 <= there < 24

    found = train_cli(arguments, ranks=2)
    assert all(shard.read_bytes() == content for shard, content in before.items())
    assert sum(map(_lines, cache.glob("*/*.logps"))) == 24
    del arguments["ref_logps"], arguments["ref_logps_dir"]
    live = train({**arguments, "output_dir": str(tmp_path / "live"), "per_device_train_batch_size": 2})
    assert found.losses == pytest.approx(live.losses, abs=1e-5)


def _lines(shard: Path) -> int:
    return shard.read_bytes().count(b"\n")


KILLED = [
    ("orm", "one rank"),
    ("sherlock_dpo", "two ranks"),
    ("orm", "ZeRO-2, two ranks"),
]


@pytest.mark.parametrize(("stage_name", "layout"), KILLED)
def test_a_killed_run_ends_with_the_same_weights(
    settings, train_cli, killed_cli, environment, stage_name, layout, tmp_path
):
    stage = STAGES[stage_name]
    ranks, changes = {"one rank": (1, {}), **LAYOUTS}[layout]
    changes = dict(changes)
    env = environment(changes)
    saving = {"save_strategy": "steps", "save_steps": 1, "max_samples": 7, "max_steps": 6, "num_train_epochs": 3.0}
    whole = train_cli(settings(**{**stage, **changes, **saving}, output_dir=str(tmp_path / "whole")), ranks, env=env)

    killed = settings(**{**stage, **changes, **saving}, output_dir=str(tmp_path / "killed"))
    killed_cli(killed, (tmp_path / "killed/checkpoint-3/trainer_state.json").exists, ranks, env)

    resumed = train_cli(killed, ranks, env=env)
    assert resumed.losses == whole.losses
    assert all(torch.equal(value, resumed.weights[name]) for name, value in whole.weights.items())


@pytest.fixture
def killed_cli(clean_environment, tmp_path):
    """Starts a run and kills it with all its processes as soon as something has happened."""

    def run(arguments, happened, ranks=1, env=None):
        config = tmp_path / "killed.yaml"
        config.write_text(yaml.safe_dump(arguments))
        if ranks > 1:
            env = {**(env or {}), "FORCE_TORCHRUN": "1", "NPROC_PER_NODE": str(ranks), "OMP_NUM_THREADS": "1"}
        command = [str(Path(sys.executable).parent / "llamafactory-cli"), "train", str(config)]
        with (tmp_path / "killed.log").open("w") as log:
            process = subprocess.Popen(command, env=clean_environment(**(env or {})), stdout=log, stderr=log)
            _wait_for(happened, process)
            _kill_all(str(config))
            process.wait(timeout=30)

    return run


def _wait_for(happened: Callable[[], bool], process: subprocess.Popen) -> None:
    for _ in range(12000):
        if happened():
            return
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    raise AssertionError("what the run was to be killed at never came")


def _kill_all(marker: str) -> None:
    """SIGKILL to every process that has the marker in its command line."""
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().decode(errors="replace") if entry.name.isdigit() else ""
        except OSError:
            continue
        if marker in line and int(entry.name) != os.getpid():
            os.kill(int(entry.name), signal.SIGKILL)
