# SPDX-License-Identifier: Apache-2.0
"""Kills a run inside its steps, and compares its files with those of one that was left alone."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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


def kills_change_nothing(
    recipe: Path,
    run: Path,
    environment: dict[str, str],
    *,
    timeout: int,
    worth: Callable[[str], bool] = lambda step: True,
    look: Callable[[Path], None] = lambda run: None,
) -> None:
    """Runs a recipe untouched, then once more with a kill in each step.

    Args:
        recipe: its YAML.
        run: the folder that it writes.
        environment: of its processes.
        timeout: seconds for each of the two.
        worth: which steps to kill.
        look: checks the untouched run.
    """

    def work(*kills: str) -> list[str]:
        line = [sys.executable, str(ATTEMPTS), str(recipe), *kills]
        done = subprocess.run(
            line, cwd=recipe.parent, env=environment, capture_output=True, text=True, timeout=timeout
        )
        print(done.stdout[-6000:], done.stderr[-6000:])
        return [text for text in done.stdout.splitlines() if text.startswith(("killed", "ended", "failed"))]

    assert work() == ["ended 0"]
    untouched = data_files(run)
    steps = read_json(run / "manifest.json")["steps"]
    look(run)
    run.rename(run.with_name("untouched"))

    chance = random.Random(0)
    kills = {name: chance.uniform(0, record["seconds"]) for name, record in steps.items() if worth(name)}
    outcomes = work(*(f"{name}={seconds:.4f}" for name, seconds in kills.items()))
    assert outcomes == [*(f"killed {name}" for name in kills), "ended 0"]
    assert data_files(run) == untouched
