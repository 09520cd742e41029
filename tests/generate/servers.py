# SPDX-License-Identifier: Apache-2.0
"""Real endpoints, started as a user starts them."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on.

    Servers take long until they listen: test processes side by side draw from ranges of their own.
    """
    first = 20_000 + 1_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for port in random.sample(range(first, first + 1_000), 100):
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"No port from {first} on is free.")


@contextmanager
def running(command: list[str], port: int, env: Mapping[str, str], log: Path, patience: float = 240) -> Iterator[str]:
    """Starts a console command of this environment and yields its address once it lists its models.

    Whatever it started is killed at the end. If it does not come up, the end of its output is in the error.
    """
    base = f"http://127.0.0.1:{port}/v1"
    with open(log, "w") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / command[0]), *command[1:]],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + patience
        while not _lists_models(base):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command} does not serve (exit {process.poll()}):\n{log.read_text()[-3000:]}")
            time.sleep(0.3)
        yield base
    finally:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _lists_models(base: str) -> bool:
    try:
        return httpx.get(f"{base}/models", timeout=5, trust_env=False).status_code in (200, 401)
    except httpx.TransportError:
        return False
