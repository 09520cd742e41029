# SPDX-License-Identifier: Apache-2.0
"""Lets contenders take their steps by turns, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .jobs import Job
from .worker import dump_job


BENCHMARKS = Path(__file__).resolve().parent.parent


@dataclass
class Run:
    """What a contender did on a setting.

    Attributes:
        seconds: of each step, the ones to warm up included.
        losses: of each step.
        loaded: bytes in use before the first step.
        peak: most bytes in use during the steps.
        notes: what the run said about its `tree_forward`.
        failure: why there are no figures, or "".
    """

    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    loaded: int = 0
    peak: int = 0
    notes: list[str] = field(default_factory=list)
    failure: str = ""


class Worker:
    """A process that takes steps when it is told to."""

    def __init__(self, job: Job, log: Path, threads: int) -> None:
        variables = {
            "PYTHONPATH": os.pathsep.join([str(BENCHMARKS), str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")]),
            "HF_HOME": str(log.parent / "huggingface"),
            "HF_HUB_OFFLINE": "1",
            "LLAMAFACTORY_VERBOSITY": "INFO",
            "OMP_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
        }
        self._log = log
        with open(log, "ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "steps.worker", json.dumps(dump_job(job))],
                env=os.environ | variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        if self._process.poll() is None:
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process.stdout.close()

    def start(self, run: Run) -> None:
        """Waits until model and optimizer are there."""
        message = self._read(run)
        if not run.failure:
            run.loaded = message["memory"]

    def step(self, run: Run) -> None:
        """Takes one step."""
        self._go()
        message = self._read(run)
        if not run.failure:
            run.seconds.append(message["seconds"])
            run.peak = max(run.peak, message["memory"])

    def end(self, run: Run) -> None:
        """Lets the process end, and takes its losses and notes."""
        self._go()
        message = self._read(run)
        if not run.failure:
            run.losses, run.notes = message["losses"], message["notes"]

    def _go(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # reading says why
            self._process.stdin.write("go\n")
            self._process.stdin.flush()

    def _read(self, run: Run) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        died = {"event": "failed", "reason": f"the process died; {self._log.name} in the work folder says more"}
        message: dict[str, Any] = json.loads(line) if line else died
        if message["event"] == "failed":
            run.failure = message["reason"]
        return message


def race(jobs: Sequence[Job], logs: Path, threads: int, together: bool) -> dict[str, Run]:
    """Runs the jobs of a setting.

    Args:
        jobs: one for each contender, with as many steps.
        logs: folder for what the processes print.
        threads: of each process.
        together: whether contenders take turns, step by step; else one comes after the other, as where a card has
            room for one model only.

    Returns:
        contender -> what it did.
    """
    if not together:
        return {job.contender: race([job], logs, threads, together=True)[job.contender] for job in jobs}
    runs: dict[str, Run] = {job.contender: Run() for job in jobs}
    with ExitStack() as stack:
        workers = {
            job.contender: stack.enter_context(Worker(job, logs / f"{job.setting.name}-{job.contender}.log", threads))
            for job in jobs
        }
        for name, worker in workers.items():
            worker.start(runs[name])
        for _ in range(jobs[0].steps):
            for name, worker in workers.items():
                if not runs[name].failure:
                    worker.step(runs[name])
        for name, worker in workers.items():
            if not runs[name].failure:
                worker.end(runs[name])
    return runs
