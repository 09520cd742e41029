# SPDX-License-Identifier: Apache-2.0
"""Data-parallel sampling on one machine: processes with an engine each, which share a job's batches.

A worker reads its task from standard input and reports finished batches on standard output, a JSON object a line. It
inherits the job's lock, and it ends when its standard input is closed, so that a killed job leaves no worker behind.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from .config import EngineConfig
from .engines import build_engine
from .jobs import Plan, Report, sample_batches
from .types import EngineError


Messages = queue.SimpleQueue[tuple[int, dict[str, Any] | None]]


def sample_with_workers(plan: Plan, pending: Sequence[int], lock: int, report: Report) -> None:
    """Samples batches with `plan.config.workers` processes.

    Raises:
        EngineError: a worker failed; the others are stopped, finished batches are kept.
    """
    messages: Messages = queue.SimpleQueue()
    with _processes(plan, pending, lock) as processes:
        for rank, process in enumerate(processes):
            threading.Thread(target=_listen, args=(rank, process, messages), daemon=True).start()
        running = len(processes)
        while running:
            rank, message = messages.get()
            if message is None:
                running -= 1
                _check_status(rank, processes[rank].wait())
            elif "error" in message:
                raise EngineError(f"Sampling worker {rank}: {message['error']}")
            else:
                report(message["samples"], message["tokens"])


def _check_status(rank: int, status: int) -> None:
    if status:
        raise EngineError(
            f"Sampling worker {rank} ended with status {status} (out of memory?). Finished batches are kept: run the "
            "same command again, perhaps with a smaller `batch_size` or fewer `workers`."
        )


def _listen(rank: int, process: subprocess.Popen[bytes], messages: Messages) -> None:
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            with suppress(ValueError):  # the half line of a killed worker
                messages.put((rank, json.loads(line)))
    messages.put((rank, None))


@contextmanager
def _processes(plan: Plan, pending: Sequence[int], lock: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Starts the workers, each with every n-th batch, and stops them at the end."""
    count = min(plan.config.workers, len(pending))
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(count):
            process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | _environment(plan.config, rank),
                pass_fds=(lock,),
            )
            processes.append(process)
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # its status tells
                pickle.dump((plan, list(pending[rank::count]), rank, sys.path), process.stdin)
                process.stdin.flush()
        yield processes
    finally:
        for process in processes:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environment(config: EngineConfig, rank: int) -> Mapping[str, str]:
    threads = {"OMP_NUM_THREADS": str(config.threads)}
    if config.device == "cpu" or config.name == "openai":
        return threads
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(place) for place in range(torch.cuda.device_count())]
    return threads | ({"CUDA_VISIBLE_DEVICES": devices[rank % len(devices)]} if any(devices) else {})


def _work() -> int:
    """The life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # LLaMA-Factory logs to standard output
    plan, batches, rank, path = pickle.load(sys.stdin.buffer)
    sys.path[:] = path
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def send(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=pipe, flush=True)

    try:
        engine = build_engine(plan.config)
        sample_batches(
            plan, batches, engine, rank, lambda samples, tokens: send({"samples": samples, "tokens": tokens})
        )
        engine.close()
    except (ValueError, OSError) as error:
        send({"error": str(error)})
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(_work())
