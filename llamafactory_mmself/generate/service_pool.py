# SPDX-License-Identifier: Apache-2.0
"""Several endpoints of one service: requests go where the fewest are under way, and around those that fail.

What a request goes through: it takes the least busy endpoint whose breaker admits it; when the attempt is lost, it
waits a little and takes another one. It is given up after `retries` further attempts. Attempts that met silence while
nobody else was answered either do not count: the service is away, and the request waits for it to come back, until
nothing at all has been answered for `dead_after` seconds. Then the service is dead.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tqdm import tqdm

from .breaker import Breaker
from .client import Connection, Endpoint, Lost, Refused, backoff
from .services import ServiceDead
from .types import EngineError


T = TypeVar("T")

PROBE_TIMEOUT = 5.0  # seconds in which a server says that it is alive


class Unanswered(EngineError):
    """A request that was given up while its service went on answering others."""


@dataclass
class _Place:
    """An endpoint and what is going on there."""

    endpoint: Endpoint
    connection: Connection
    breaker: Breaker = field(default_factory=Breaker)
    busy: int = 0
    probing: bool = False

    @property
    def free(self) -> bool:
        return self.busy < self.endpoint.concurrency and self.breaker.admits(self.busy)


@dataclass(frozen=True)
class Answer:
    """What a server has answered, and the connection that it came by, for what the answer points to."""

    body: dict[str, Any]
    connection: Connection


class ServicePool:
    """Asks the endpoints of a service, from any thread; all that is under way runs on one event loop of its own.

    Args:
        name: what messages call the service: `judge`, `describer`, `painter`.
        endpoints: where it is; equal servers behind several addresses.
        dead_after: seconds without any answer, while there was something to answer, after which the service is dead.

    Raises:
        EngineError: the environment variable that should hold a key is not set.
    """

    def __init__(self, name: str, endpoints: Sequence[Endpoint], dead_after: float) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self._dead_after = dead_after
        self._retries = max(endpoint.retries for endpoint in endpoints)
        self._thread = _LoopThread()
        self._places = [_Place(endpoint, endpoint.connect()) for endpoint in endpoints]
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._answered = False  # ever
        self._heard = 0.0  # when a server last said something that was no failure
        self._problem = ""
        self._silence = _Silence()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the service is, in alphabetical order."""
        return tuple(sorted(place.endpoint.base for place in self._places))

    @property
    def answered(self) -> bool:
        """Whether there ever was a good answer."""
        return self._answered

    def run(self, works: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
        """Runs pieces of work side by side on the pool's loop, to the end of the last; their results, in order.

        Raises:
            Whatever the first one that fails raises; the others are given up.
        """
        return self._thread.run(self._all(works))

    def close(self) -> None:
        """Ends connections and the loop; may be called twice."""
        self._thread.close(self._disconnect())

    async def post(self, path: str, field: str, body: Mapping[str, Any]) -> Answer:
        """Sends a request until it is answered with a JSON object that has a list in `field`.

        Raises:
            Refused: a server says that the request is wrong.
            Unanswered: other requests were answered, this one was not.
            ServiceDead: nothing was answered for too long.
        """
        content = json.dumps(body).encode()
        start, attempts = time.monotonic(), 0
        avoid: _Place | None = None
        self._silence.begin(start)
        try:
            while True:
                place, began = await self._free_place(avoid), time.monotonic()
                try:
                    return await self._attempt(place, path, field, content)
                except Lost as lost:
                    avoid = place
                    attempts += self._counts_against(place, lost, began)
                    self._lost(place, lost)
                    if attempts > self._retries:
                        raise Unanswered(
                            f"The {self.name} at {place.endpoint.base} did not answer a request in {attempts} "
                            f"attempts and {time.monotonic() - start:.1f} s; the last one: {lost.problem}."
                        ) from None
                    await self._pause(max(lost.pause, backoff(attempts)))
        finally:
            self._silence.end(time.monotonic())

    async def _all(self, works: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
        async def one(work: Callable[[], Awaitable[T]]) -> T:
            return await work()

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(work)) for work in works]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _attempt(self, place: _Place, path: str, field: str, content: bytes) -> Answer:
        place.busy += 1
        try:
            body = await place.connection.attempt("POST", path, field, content, self._left())
        except Refused:
            self._good(place)
            raise
        finally:
            place.busy -= 1
            self._wake()
        self._answered = True
        self._good(place)
        return Answer(body, place.connection)

    def _good(self, place: _Place) -> None:
        now = time.monotonic()
        if place.breaker.state != "closed":
            self._tell(f"{place.endpoint.base} answers again.")
        place.breaker.succeeded()
        self._heard = now
        self._silence.broken(now)
        self._wake()

    def _counts_against(self, place: _Place, lost: Lost, began: float) -> bool:
        """Whether a lost attempt says something about the request, and not only about a service that is away."""
        return lost.answered or place.breaker.state == "trial" or self._heard >= began

    def _lost(self, place: _Place, lost: Lost) -> None:
        self.counts["lost"] += 1
        self._problem = lost.problem
        self._silence.failed = True
        if place.breaker.failed(time.monotonic()):
            self.counts["outages"] += 1
            self._tell(f"{place.endpoint.base} does not answer ({lost.problem}); waiting for it to come back.")
        self._check()

    async def _free_place(self, avoid: _Place | None) -> _Place:
        """The least busy endpoint that may be asked; not the one that has just failed if there are others."""
        while True:
            self._probe_due()
            free = [place for place in self._places if place.free]
            if free:
                return min(free, key=lambda place: (place is avoid and len(free) > 1, place.busy))
            await self._pause(self._next_probe(), wake=True)

    async def _pause(self, seconds: float, *, wake: bool = False) -> None:
        """Waits, with `wake` until something changes, but no longer than the service may be silent."""
        left = self._left()
        seconds = seconds if left is None else min(seconds, left)
        changed = self._changed if wake else asyncio.Event()
        try:
            async with asyncio.timeout(max(seconds, 0.01)):
                await changed.wait()
        except TimeoutError:
            pass
        self._check()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _left(self) -> float | None:
        """Seconds until the service counts as dead; None while nothing has failed."""
        if not self._silence.failed:
            return None
        return max(self._dead_after - self._silence.seconds(time.monotonic()), 0.0)

    def _check(self) -> None:
        if self._left() == 0.0:
            self._silence.dead = True
            raise ServiceDead(
                self.name,
                f"The {self.name} at {', '.join(self.addresses)} is dead: nothing was answered for "
                f"{self._dead_after:g} s (`dead_after`), the last problem: {self._problem}. Start it again, or "
                "correct `api_base`, then start the same command again; what is finished stays.",
            )

    def _next_probe(self) -> float:
        """Seconds until an endpoint may be probed; a long time where none waits for that."""
        due = [place.breaker.due for place in self._places if place.breaker.state == "open" and not place.probing]
        return max(min(due, default=time.monotonic() + 60.0) - time.monotonic(), 0.0)

    def _probe_due(self) -> None:
        now = time.monotonic()
        for place in self._places:
            if place.breaker.state == "open" and place.breaker.due <= now and not place.probing:
                place.probing = True
                task = asyncio.get_running_loop().create_task(self._probe(place))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _probe(self, place: _Place) -> None:
        try:
            alive = await place.connection.alive(min(PROBE_TIMEOUT, place.endpoint.timeout))
            place.breaker.probed(alive, time.monotonic())
        finally:
            place.probing = False
            self._wake()

    async def _disconnect(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        for place in self._places:
            await place.connection.__aexit__()

    def _tell(self, text: str) -> None:
        tqdm.write(f"mmself: {self.name}: {text}", file=sys.stderr)


class _Silence:
    """How long a service has answered nothing while there was something to answer.

    Attributes:
        failed: whether an attempt was lost since the last answer.
        dead: whether it was too long; forgotten once nobody waits any more, so that a later call tries again.
    """

    def __init__(self) -> None:
        self.failed = False
        self.dead = False
        self._waiting = 0
        self._since = 0.0
        self._before = 0.0

    def begin(self, now: float) -> None:
        """A request wants an answer."""
        if not self._waiting:
            if self.dead:
                self.broken(now)
            self._since = now
        self._waiting += 1

    def end(self, now: float) -> None:
        """A request wants none any more."""
        self._waiting -= 1
        if not self._waiting:
            self._before += now - self._since

    def broken(self, now: float) -> None:
        """A server has answered."""
        self.failed, self.dead, self._before, self._since = False, False, 0.0, now

    def seconds(self, now: float) -> float:
        """Its length."""
        return self._before + (now - self._since if self._waiting else 0.0)


class _LoopThread:
    """An event loop in a thread of its own, started at its first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine to its end; a caller who is interrupted gives it up."""
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            return future.result()
        finally:
            future.cancel()

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Runs a last coroutine and stops."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            last.close()
            return
        asyncio.run_coroutine_threadsafe(last, loop).result()
        asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="mmself-service", daemon=True)
                self._thread.start()
            return self._loop
