# SPDX-License-Identifier: Apache-2.0
"""The engine of a run: it stays loaded as long as consecutive steps ask the same model."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..generate.config import EngineConfig
from ..generate.engines import build_engine
from ..generate.jobs import SampleJob, run_job
from ..generate.types import Engine, EngineError
from .steps import LoopError


class Sampler:
    """Runs sampling jobs, one loaded engine at a time; to be closed, or used with `with`.

    On a GPU the engine lives in a process of its own, because only the end of a process gives back its GPU memory for
    certain, and training needs it next. Without a GPU it lives in this one.
    """

    def __init__(self) -> None:
        self._config: EngineConfig | None = None
        self._run: Callable[[SampleJob], Path] | None = None
        self._close: Callable[[bool], None] | None = None

    def __enter__(self) -> Sampler:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(now=kind is not None)

    def run(self, job: SampleJob, config: EngineConfig) -> Path:
        """Samples a job; returns the finished file."""
        if config.name == "openai":  # takes no memory, so it need not send the loaded one away
            return run_job(job, config)
        if self._run is None or config != self._config:
            self.close()
            self._config = config
            self._run, self._close = _isolated(config) if _uses_gpu(config) else _local(config)
        return self._run(job)

    def close(self, *, now: bool = False) -> None:
        """Frees the engine; the next job loads one again.

        Args:
            now: do not wait for a job that is at work.
        """
        if self._close is not None:
            self._close(now)
        self._config = self._run = self._close = None


def _uses_gpu(config: EngineConfig) -> bool:
    if config.name == "openai" or config.device == "cpu":
        return False
    import torch

    return torch.cuda.device_count() > 0


def _local(config: EngineConfig) -> tuple[Callable[[SampleJob], Path], Callable[[bool], None]]:
    if config.workers > 1 or config.ray:  # the job starts processes of its own
        return (lambda job: run_job(job, config)), (lambda now: None)
    engine: Engine = build_engine(config)
    return (lambda job: run_job(job, config, engine=engine)), (lambda now: engine.close())


def _isolated(config: EngineConfig) -> tuple[Callable[[SampleJob], Path], Callable[[bool], None]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, config, os.getpid()))
    process.start()
    theirs.close()

    def run(job: SampleJob) -> Path:
        try:
            ours.send(job)
            kind, value = ours.recv()
        except (EOFError, BrokenPipeError) as error:
            process.join()
            raise LoopError(
                f"The sampling process ended with status {process.exitcode} (out of memory?). Finished batches are "
                "kept: run the same command again, perhaps with a smaller engine.batch_size."
            ) from error
        if kind == "user error":
            raise EngineError(value)
        if kind == "error":
            raise LoopError(f"Sampling failed:\n{value}")
        return Path(value)

    def close(now: bool) -> None:
        try:
            if now:
                process.terminate()
            with suppress(BrokenPipeError):  # it has ended by itself
                ours.send(None)
            process.join(5 if now else 30)
        finally:
            if process.is_alive():
                process.kill()

    return run, close


def _serve(pipe: Connection, config: EngineConfig, parent: int) -> None:
    """The loop of the sampling process: jobs in, paths or errors out, None to end. What it prints goes to stderr."""
    os.dup2(2, 1)  # standard output is for what a command has to say
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    run: Any = None
    close: Any = None
    while True:
        try:
            job = pipe.recv()
        except EOFError:  # the loop was killed
            break
        if job is None:
            break
        try:
            if run is None:
                run, close = _local(config)
            pipe.send(("path", str(run(job))))
        except (ValueError, OSError) as error:
            pipe.send(("user error", str(error)))
        except KeyboardInterrupt:
            break
        except Exception:
            pipe.send(("error", traceback.format_exc()))
    if close is not None:
        close(False)


def _end_with(parent: int) -> None:
    """Ends this process when the loop is gone: it would hold the GPU and the job's files."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
