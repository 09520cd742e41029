# SPDX-License-Identifier: Apache-2.0
"""A run that is killed inside every one of its steps ends with the files of one that was not."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from llamafactory_mmself.files import digest, read_json


ATTEMPTS = Path(__file__).with_name("attempts.py")
# What may differ: times, logs, and checkpoints that a resumed training does not write again.
TIMED = ("manifest.json", "trainer_log.jsonl", "trainer_state.json", "training_args.bin", ".lock")
TIMED_SUFFIXES = (".log", "_results.json")


def data_files(run: Path) -> dict[str, str]:
    """SHA-256 of all files that a run learns from, trains, or reports from."""
    files = {}
    for path in sorted(run.rglob("*")):
        inside = path.relative_to(run)
        by_product = path.name in TIMED or path.name.endswith(TIMED_SUFFIXES) or inside.parts[0] == "report"
        if path.is_file() and not by_product and "checkpoint-" not in str(inside):
            files[str(inside)] = digest(path)
    return files


STL = {"method": "stl", "sampling__n": 6, "test_data": None}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"method": "r3v"},
        {**STL, "train__finetuning_type": "full"},
        # Round 1 goes on from the merged model of the warm-up, and two processes sample for it.
        {**STL, "sampling__n": 2, "start": "continue", "warmup": "train.json", "engine__workers": 2},
    ],
    ids=["r3v", "stl", "stl, warm-up, continue, two workers"],
)
def test_a_kill_inside_each_step_changes_no_file(changes, recipe, world, tmp_path, clean_environment) -> None:
    path = recipe(**changes | ({"warmup": str(world / changes["warmup"])} if "warmup" in changes else {}))
    run = tmp_path / "run"

    def work(*kills: str) -> list[str]:
        line = [sys.executable, str(ATTEMPTS), str(path), *kills]
        environment = clean_environment(OMP_NUM_THREADS="1")
        done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=900)
        print(done.stdout[-6000:], done.stderr[-6000:])
        return [text for text in done.stdout.splitlines() if text.startswith(("killed", "ended", "failed"))]

    assert work() == ["ended 0"]
    untouched = data_files(run)
    steps = read_json(run / "manifest.json")["steps"]
    run.rename(tmp_path / "untouched")

    chance = random.Random(0)
    kills = {name: chance.uniform(0, record["seconds"]) for name, record in steps.items()}
    outcomes = work(*(f"{name}={seconds:.4f}" for name, seconds in kills.items()))
    assert outcomes == [*(f"killed {name}" for name in steps), "ended 0"]
    assert data_files(run) == untouched
