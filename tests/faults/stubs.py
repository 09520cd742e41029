# SPDX-License-Identifier: Apache-2.0
"""What stands in for slow parts in the processes of commands: a trainer by script, short waits, a served policy."""

from __future__ import annotations

import errno
import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llamafactory_mmself.commands import COMMANDS


#: Imported before the forks.
IMPORTED = (
    *(f"llamafactory_mmself.commands.{name}" for name in COMMANDS),
    *(f"llamafactory_mmself.evaluate.{name}" for name in ("benchmark", "correct", "curves", "rationales", "turns")),
    *(f"llamafactory_mmself.generate.{name}" for name in ("chat_service", "openai", "painting", "remote_teacher")),
    *(f"llamafactory_mmself.recipes.{name}" for name in ("ares", "ovip", "sherlock_online")),
    *(f"llamafactory_mmself.{name}" for name in ("evaluate.summary", "loop.run", "loop.presets", "toyworld.training")),
    *("anyio._backends._asyncio", "filelock", "httpcore", "importlib.resources.readers", "matplotlib.figure"),
)
#: Files of a loop that say when something happened.
TIMED = ("manifest.json", "report")
#: Files that grow line by line as answers arrive.
CACHES = ("cache.jsonl", "judge.jsonl", "_pairs.jsonl", "scores.jsonl", "descriptions.jsonl", "teacher.jsonl")
TRAININGS = "trainings.txt"  # a line for each training that has ended, in the working directory

TRAINER = Path(__file__).with_name("llamafactory_stub.py")


def install() -> None:
    """Puts the stubs in place; for a process that does nothing else."""
    import matplotlib.figure

    from llamafactory_mmself import files
    from llamafactory_mmself.generate import breaker, client, jobs
    from llamafactory_mmself.loop import method, methods, run, training

    files._FULL = frozenset({errno.EFBIG})  # a limit of file sizes stands for a full disk
    client.FIRST_PAUSE = 0.05
    breaker.FIRST_REST = 0.1
    training._POLL = 0.02
    training.program = lambda: [sys.executable, "-S", str(TRAINER)]
    method.token_limit = methods.token_limit = lambda recipe: None  # needs a tokenizer
    run.Sampler = ServedSampler
    matplotlib.figure.Figure = Drawing
    jobs.version = lambda package: "1"
    os.fsync = lambda handle: None  # a kill of a process loses nothing that the system has
    ssl.SSLContext.load_verify_locations = lambda *where, **more: None  # nothing here is behind TLS


class Drawing:
    """Stands in for a chart and all that is in it."""

    def __init__(self, **how: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return self

    def __getitem__(self, place: Any) -> Any:
        return self

    def __call__(self, *what: Any, **how: Any) -> Any:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def savefig(self, file: Any, **how: Any) -> None:
        """Writes a chart."""
        file.write(b"a chart")


class ServedSampler:
    """Stands in for the loop's sampler: each policy is asked at the service by its name."""

    def run(self, job: Any, config: Any) -> Path:
        """Samples a job as the loop's sampler does, in batches that survive a kill."""
        from llamafactory_mmself.generate.config import EngineConfig
        from llamafactory_mmself.generate.jobs import run_job
        from llamafactory_mmself.generate.openai import OpenAIEngine
        from llamafactory_mmself.generate.policy import policy_of

        served = EngineConfig(name="openai", api_base=config.api_base, api_model=policy_of(config))
        return run_job(job, config, engine=OpenAIEngine(served), progress=False)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to free."""
