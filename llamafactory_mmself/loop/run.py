# SPDX-License-Identifier: Apache-2.0
"""One run of a loop, from a recipe to a report."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..files import unwritten, write_json
from ..generate.config import read_engine
from ..processes import Identity, identity
from .methods import make_steps
from .recipe import Evaluation, Recipe
from .report import write_report
from .sampler import Sampler
from .steps import LoopError, Runner


LOCK = ".lock"  # of a run's folder; holds the number and the start of the process that works on it


def run_loop(
    recipe: Recipe, *, dry_run: bool = False, restart_from: str | None = None, say: Callable[[str], None] = print
) -> None:
    """Runs a recipe, or goes on with a run that was stopped.

    Steps that were finished with the same settings and inputs are left alone, so the same call again does nothing, and
    a changed setting redoes what depends on it.

    Args:
        recipe: what to run.
        dry_run: only say what would be done.
        restart_from: name of a step to do again, with all that follow it.
        say: takes lines for the user.

    Raises:
        LoopError: another process works on the run, or a step failed.
    """
    folder = recipe.output_dir
    sampler = Sampler()
    steps = make_steps(recipe, sampler)
    if dry_run:
        for step, status in Runner(folder, steps).plan(restart_from):
            say(f"{status:8} {step.name}")
        return
    _check_extras(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        runner = Runner(folder, steps)
        if restart_from is not None:
            runner.restart(restart_from)
        write_json(folder / "run.json", recipe_values(recipe))
        with sampler:
            runner.run(say)
        say(write_report(folder))


def _check_extras(recipe: Recipe) -> None:
    """Sees that optional packages are there before hours of sampling, not after."""
    trained = [recipe.train, *recipe.rounds.values()]
    engines = [recipe.engine, recipe.judge]
    if recipe.evaluate.tasks_judge is not None:
        engines.append(read_engine(Path(recipe.evaluate.tasks_judge)).to_dict())
    wanted = {
        "deepspeed": any(given.get("deepspeed") for given in trained),
        "xformers": any(given.get("attn") == "xformers" for given in trained),
        "vllm": any(engine.get("name") == "vllm" for engine in engines),
        "ray": any(engine.get("ray") for engine in engines),
    }
    missing = [name for name, needed in wanted.items() if needed and find_spec(name) is None]
    if missing:
        extras = ",".join(missing)
        raise LoopError(f"The recipe needs {', '.join(missing)}: pip install 'llamafactory-mmself[{extras}]'")


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON values, every default spelt out."""
    values = {item.name: _plain(vars(recipe)[item.name]) for item in fields(recipe)}
    return values | {"evaluate": {item.name: vars(recipe.evaluate)[item.name] for item in fields(Evaluation)}}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the run's lock; the system frees it when the process ends, however that happens."""
    with open(folder / LOCK, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LoopError(f"Another process works on {folder}. Wait for it, or stop it first.") from error
        if (own := identity(os.getpid())) is not None:
            _tell_holder(folder / LOCK, own)
        yield


def _tell_holder(lock: Path, own: Identity) -> None:
    """Writes who holds the lock."""
    try:
        lock.write_text(f"{own.pid} {own.started}\n", encoding="utf-8")
    except OSError as error:
        raise unwritten(lock, error, "Nothing was begun.") from error


def holder(folder: Path) -> Identity | None:
    """The process that holds, or held, a run's lock; whether it still runs says `Identity.running`."""
    try:
        pid, started = (folder / LOCK).read_text().split()
        return Identity(int(pid), int(started))
    except (OSError, ValueError):
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return dict(value) if isinstance(value, Mapping) else value
