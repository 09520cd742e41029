# SPDX-License-Identifier: Apache-2.0
"""A process that trains one contender on one setting, a step whenever it is told to.

It reads its job as JSON from its command line and words from standard input, and writes JSON lines to what was its
standard output; all else that is printed goes to standard error.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from .jobs import Job
from .settings import Setting


class Notes(logging.Handler):
    """Keeps what a run says about its `tree_forward`."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a line that begins with the argument's name."""
        if record.getMessage().startswith("tree_forward:"):
            self.lines.append(record.getMessage())


class PipeGate:
    """The gate of a worker; memory is in bytes."""

    def __init__(self, device: str, lines: TextIO, notes: Notes) -> None:
        self._notes = notes
        self._cuda = device == "cuda"
        self._lines = lines
        self._start = 0.0

    def ready(self) -> None:
        """See `Gate`."""
        gc.collect()
        self.say(event="ready", memory=self._now())
        self._forget_peak()
        self._wait()

    def stepped(self) -> None:
        """See `Gate`."""
        if self._cuda:
            import torch

            torch.cuda.synchronize()
        self.say(event="step", seconds=time.perf_counter() - self._start, memory=self._peak())
        self._wait()  # after the last step, too: saving the model must not disturb those that still take theirs

    def finished(self, losses: Sequence[float]) -> None:
        """See `Gate`."""
        self.say(event="end", losses=list(losses), notes=self._notes.lines)

    def say(self, **message: Any) -> None:
        """A line for the process that started this one."""
        print(json.dumps(message), file=self._lines, flush=True)

    def _wait(self) -> None:
        if sys.stdin.readline().strip() != "go":
            raise SystemExit("The process that wanted steps is gone.")
        self._start = time.perf_counter()

    def _now(self) -> int:
        """Memory in use: what the loaded model and optimizer take, and on a CPU the imported libraries too."""
        if self._cuda:
            import torch

            return torch.cuda.memory_allocated()
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    def _forget_peak(self) -> None:
        """Starts the peak anew: loading a checkpoint can take more for a moment than the model does afterwards."""
        if self._cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")

    def _peak(self) -> int:
        if self._cuda:
            import torch

            return torch.cuda.max_memory_allocated()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def load_job(data: dict[str, Any]) -> Job:
    """A job from JSON."""
    paths = {name: Path(data[name]) for name in ("model", "data", "out")}
    return Job(data["contender"], Setting(**data["setting"]), data["steps"], device=data["device"], **paths)


def dump_job(job: Job) -> dict[str, Any]:
    """A job for JSON."""
    plain = {name: str(getattr(job, name)) for name in ("contender", "model", "data", "out", "device")}
    return {**plain, "steps": job.steps, "setting": job.setting.to_dict()}


def main() -> None:
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    from llamafactory_mmself import _autoload

    _autoload.activate()
    from .contenders import run

    job = load_job(json.loads(sys.argv[1]))
    notes = Notes()
    logging.getLogger("llamafactory").addHandler(notes)
    gate = PipeGate(job.device, lines, notes)
    try:
        run(job, gate)
    except Exception as error:
        gate.say(event="failed", reason=f"{type(error).__name__}: {error}")
        raise


if __name__ == "__main__":
    main()
