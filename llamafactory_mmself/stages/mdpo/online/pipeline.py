# SPDX-License-Identifier: Apache-2.0
"""Worker threads that annotate groups while training goes on."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from .entries import Group, Outcome


class Pipeline:
    """A fixed number of threads between groups that wait, whose number `Plan.bound` limits, and outcomes.

    Threads are daemons: a request that hangs does not keep a stopped run alive.

    Args:
        annotate: what to do with a group.
        workers: threads.

    Attributes:
        failure: what an annotation has raised; nothing is annotated after that.
    """

    def __init__(self, annotate: Callable[[Group], Outcome], workers: int) -> None:
        self._annotate = annotate
        self._waiting: queue.SimpleQueue[Group | None] = queue.SimpleQueue()
        self._ready: list[Outcome] = []
        self._changed = threading.Condition()
        self._under_way = 0
        self._closed = False
        self.failure: Exception | None = None
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    @property
    def under_way(self) -> int:
        """Groups that are waiting or at work."""
        with self._changed:
            return self._under_way

    def submit(self, group: Group) -> None:
        """Hands a group over."""
        with self._changed:
            self._under_way += 1
        self._waiting.put(group)

    def deliver(self, outcome: Outcome) -> None:
        """Puts an outcome that is known already among those that are ready."""
        with self._changed:
            self._ready.append(outcome)
            self._changed.notify_all()

    def ready(self) -> list[Outcome]:
        """Outcomes since the last call."""
        with self._changed:
            found, self._ready = self._ready, []
        return found

    def wait(self, seconds: float, everything: bool = False) -> None:
        """Waits until something is ready, or until nothing is under way any more; or for some seconds."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self.failure is None and self._under_way and (everything or not self._ready):
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return

    def close(self) -> None:
        """Ends the threads as soon as they have finished what they are at; groups that wait are left."""
        self._closed = True
        for _ in self._threads:
            self._waiting.put(None)

    def _work(self) -> None:
        while True:
            group = self._waiting.get()
            if group is None or self._closed or self.failure is not None:
                return
            try:
                outcome = self._annotate(group)
            except Exception as error:  # told to all ranks, which stop
                with self._changed:
                    self.failure = self.failure or error
                    self._changed.notify_all()
                return
            with self._changed:
                self._ready.append(outcome)
                self._under_way -= 1
                self._changed.notify_all()
