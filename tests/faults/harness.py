# SPDX-License-Identifier: Apache-2.0
"""Commands as processes that faults strike at random moments, a scripted service that counts, and folders compared.

A command is a fork of a server that has imported the package already, so that a run takes as long as its work does. A
moment is drawn as so many answers of the service and a little more, which hits the same place on every machine.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from random import Random
from typing import Any

from llamafactory_mmself import cli
from llamafactory_mmself.files import TORN, digest
from llamafactory_mmself.generate.cache import AnswerCache
from llamafactory_mmself.stopping import Stops
from tests.faults import stubs
from tests.generate.fake_server import Answer, FakeServer, Reply


SEED = os.environ.get("MMSELF_FAULT_SEED", "0")
PATIENCE = 30.0  # seconds until a command counts as hanging
DELAY = 0.015  # seconds that the service takes for an answer
JITTER = 0.04  # seconds, at most, from an answer to the fault

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["__main__", __name__, *stubs.IMPORTED])

Script = Callable[[dict[str, Any]], Reply]


class Child:
    """A run of `mmself`.

    Args:
        argv: what stands behind `mmself`.
        folder: the working directory.
    """

    def __init__(self, argv: list[str], folder: Path) -> None:
        self._pipe, theirs = _FORKS.Pipe(duplex=False)
        self._said: list[bytes] = []
        self._process = _FORKS.Process(target=_work, args=(theirs, argv, folder))
        self._process.start()
        theirs.close()
        os.read(self._pipe.fileno(), 1)  # it is about to begin
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, unless it has ended."""
        if self.running:
            os.kill(self._pid, number)

    def fill_disk(self) -> None:
        """From now on no file of the process may grow, as on a full disk."""
        if self.running:
            hard = resource.prlimit(self._pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (0, hard))

    def end(self) -> tuple[int, str]:
        """Waits for the end; returns the exit status, negative for a signal, and all that was printed."""
        self._process.join(PATIENCE)
        if self.running:
            os.kill(self._pid, signal.SIGKILL)
            self._process.join()
            raise AssertionError(f"The command was still running after {PATIENCE:g} s. It said:\n{self._text()}")
        self._reader.join(PATIENCE)
        status = self._process.exitcode
        assert status is not None
        self._process.close()
        return status, self._text()

    @property
    def _pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def _listen(self) -> None:
        while chunk := os.read(self._pipe.fileno(), 65536):
            self._said.append(chunk)
        self._pipe.close()

    def _text(self) -> str:
        return b"".join(self._said).decode(errors="replace")


def _work(pipe: Any, argv: list[str], folder: Path) -> None:
    """The life of a command, in its own process."""
    os.dup2(pipe.fileno(), 1)
    os.dup2(pipe.fileno(), 2)
    pipe.close()
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["mmself", *argv]
    stubs.install()
    cli.Stops = _Announced
    sys.exit(cli.main(argv))


class _Announced(Stops):
    """Tells the harness as soon as signals are taken in order."""

    def __enter__(self) -> Stops:
        super().__enter__()
        os.write(1, b".")
        return self


class _Endpoint(FakeServer):
    """A scripted server that drops its connections when it is closed, as one that ends does."""

    def __init__(self, answer: Answer, port: int = 0) -> None:
        self._connections: list[socket.socket] = []
        super().__init__(answer, port)

    def close(self) -> None:
        """See `FakeServer.close`."""
        super().close()
        for connection in self._connections:
            with suppress(OSError):  # the client has gone
                connection.shutdown(socket.SHUT_RDWR)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        connections = self._connections

        class Handler(super()._handler()):  # type: ignore[misc]
            def setup(self) -> None:
                super().setup()
                connections.append(self.connection)

        return Handler


class Service:
    """A scripted endpoint that may go away and come back.

    Attributes:
        answered: how often each request was answered, by a digest of its body.
        gate: open, or all requests but the first wait for it.

    Args:
        script: what it answers.
    """

    def __init__(self, script: Script) -> None:
        self.answered: Counter[str] = Counter()
        self.gate = threading.Event()
        self.gate.set()
        self._script = script
        self._progress = threading.Condition()
        self._server = _Endpoint(self._answer)
        self.base = self._server.base

    @property
    def total(self) -> int:
        """Answers so far."""
        return self.answered.total()

    def forget(self) -> None:
        """Counts from zero again."""
        self.answered = Counter()

    def wait(self, total: int, child: Child) -> None:
        """Waits until so many answers are given, or the command has ended."""
        deadline = time.monotonic() + PATIENCE
        with self._progress:
            while self.total < total and child.running and time.monotonic() < deadline:
                self._progress.wait(0.005)

    def go(self) -> None:
        """Refuses connections from now on and drops those that are open."""
        self._server.close()

    def come_back(self) -> None:
        """Serves at the same address again."""
        self._server = _Endpoint(self._answer, int(self.base.rpartition(":")[2].removesuffix("/v1")))

    def _answer(self, body: dict[str, Any], number: int) -> Reply:
        if not body:  # somebody asks whether it is alive
            return Reply({"data": []})
        reply = self._script(body)
        if self.total:
            self.gate.wait(PATIENCE)
        with self._progress:
            self.answered[key_of(body)] += 1
            self._progress.notify_all()
        return replace(reply, delay=DELAY)


def key_of(body: dict[str, Any]) -> str:
    """A digest of a request."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Command:
    """A command that takes long.

    Attributes:
        name: for the test's name.
        line: what stands behind `mmself`, with `{inputs}` in the place of the inputs' folder; it writes into `out`.
        script: what the services answer that it asks.
        prepare: writes inputs that name the service's address; takes their folder and the address.
        batch: answers that a fault may cost, because they are written together.
    """

    name: str
    line: str
    script: Script
    prepare: Callable[[Path, str], None]
    batch: int


@dataclass(frozen=True)
class Trace:
    """What a run of a command has left.

    Attributes:
        files: path within `out` -> what it holds; see `tree`.
        answers: of the service.
        trainings: of the loop.
    """

    files: dict[str, str]
    answers: Counter[str]
    trainings: int

    @property
    def results(self) -> dict[str, str]:
        """The files without caches of services, which nobody reads any more once what was made of them is done."""
        return {path: content for path, content in self.files.items() if not path.startswith("cache/")}


class Bench:
    """A command with its service and inputs, and what it leaves when nothing disturbs it."""

    def __init__(self, command: Command, folder: Path) -> None:
        self.command = command
        self.service = Service(command.script)
        self._inputs, self.folder = folder / "inputs", folder / "work"
        self._inputs.mkdir(parents=True)
        command.prepare(self._inputs, self.service.base)
        self.untouched = self._untouched()

    @property
    def out(self) -> Path:
        """Where the command writes."""
        return self.folder / "out"

    def clear(self) -> None:
        """Begins anew: nothing is written, nothing was answered."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.service.forget()

    @property
    def line(self) -> list[str]:
        """What stands behind `mmself`."""
        return self.command.line.format(inputs=self._inputs).split()

    def start(self) -> Child:
        """Starts the command."""
        return Child(self.line, self.folder)

    def trace(self) -> Trace:
        """What all runs have left since `clear`."""
        trainings = self.folder / stubs.TRAININGS
        done = trainings.read_text().count("\n") if trainings.exists() else 0
        return Trace(tree(self.out), self.service.answered.copy(), done)

    def strike(self, child: Child, dice: Random) -> None:
        """Waits for a random moment of a run."""
        self.service.wait(self.service.total + dice.randint(0, self.untouched.answers.total()), child)
        time.sleep(dice.uniform(0.005, JITTER))

    def _untouched(self) -> Trace:
        self.clear()
        status, said = self.start().end()
        assert status == 0, said
        trace = self.trace()
        assert set(trace.answers.values()) == {1}, "an answer was asked for twice in an undisturbed run"
        return trace


def tree(folder: Path) -> dict[str, str]:
    """All files of a folder with their digests; logs, locks and what carries times are left out.

    Caches hold their answers in the order of arrival: theirs are compared without it.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and inside.parts[0] not in stubs.TIMED and not path.name.endswith((".lock", ".log")):
            found[str(inside)] = _cached(path) if path.name.endswith(stubs.CACHES) else digest(path)
    return found


def newest(folder: Path) -> Path | None:
    """The file that was written last; files that a kill has cut off and locks do not count."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith((TORN, ".lock"))]
    return max(files, key=lambda path: (path.stat().st_mtime_ns, str(path)), default=None)


def damage(path: Path, dice: Random) -> str:
    """Cuts a file short, puts garbage behind it, or changes a byte; returns which."""
    content = path.read_bytes()
    how = dice.choice(("cut", "garbage", "byte")) if content else "garbage"
    place = dice.randrange(max(len(content), 1))
    if how == "cut":
        content = content[:place]
    elif how == "garbage":
        content += dice.randbytes(dice.randint(1, 60))
    else:
        content = content[:place] + bytes([content[place] ^ dice.randint(1, 255)]) + content[place + 1 :]
    path.write_bytes(content)
    return f"{how} at {place} in {path}"


def _cached(path: Path) -> str:
    """A digest of what a cache knows, whatever the order of its lines."""
    cache, keys = AnswerCache(path), set()
    for line in path.read_bytes().split(b"\n"):
        with suppress(ValueError, KeyError):  # a line that a fault has damaged, and that is passed over
            keys.add(json.loads(line)["key"])
    known = [[key, cache.get(key)] for key in sorted(keys) if cache.get(key) is not None]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()
