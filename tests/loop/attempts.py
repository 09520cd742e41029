# SPDX-License-Identifier: Apache-2.0
"""Runs a recipe again and again until it ends, and kills it inside a given step each time.

    python attempts.py RECIPE.yaml [STEP=SECONDS ...]

Sherlock's recipes are sampled by `scripted.py` and trained by a stub, all others by the model and LLaMA-Factory.

Each attempt is a fork of this process, so that libraries are imported once. `STEP=SECONDS` kills an attempt with
SIGKILL that long after the step began; what the loop had started is left running, as a real kill would do. Prints
one line for each attempt: `killed STEP` or `ended 0`.
"""

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import torch  # noqa: F401  imported before the forks
import transformers  # noqa: F401
from scripted import ScriptedSampler

from llamafactory_mmself.loop import methods, run, training
from llamafactory_mmself.loop.recipe import load_recipe


TRAINER = Path(__file__).parent.parent / "faults" / "llamafactory_stub.py"


def attempt(path: Path, step: str | None, seconds: float) -> int:
    """Runs the loop in a fork; returns its wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    make_steps = methods.make_steps

    def timed(action):
        def start():
            threading.Thread(target=kill_later, daemon=True).start()
            action()
            os.kill(os.getpid(), signal.SIGKILL)  # it was quicker: its files are written, but nobody knows yet

        return start

    def kill_later() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    def with_trap(recipe, sampler):
        steps = make_steps(recipe, sampler)
        return [replace(item, action=timed(item.action)) if item.name == step else item for item in steps]

    recipe = load_recipe(path)
    if recipe.method == "sherlock":
        run.Sampler = lambda: ScriptedSampler(recipe.train_data, recipe.test_data)
        training.program = lambda: [sys.executable, str(TRAINER)]
    run.make_steps = with_trap
    try:
        run.run_loop(recipe)
    except BaseException as error:
        print(f"failed: {error!r}", flush=True)
        os._exit(1)
    os._exit(0)


def main() -> None:
    path = Path(sys.argv[1])
    for pair in sys.argv[2:]:
        step, _, seconds = pair.partition("=")
        status = attempt(path, step, float(seconds))
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(f"killed {step}" if killed else f"ended {os.waitstatus_to_exitcode(status)}", flush=True)
    print(f"ended {os.waitstatus_to_exitcode(attempt(path, None, 0))}", flush=True)


if __name__ == "__main__":
    main()
