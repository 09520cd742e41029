# SPDX-License-Identifier: Apache-2.0
"""Requests that arrive close together are worked on together, batch after batch, in one thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar


Job = TypeVar("Job")
Result = TypeVar("Result")


class QueueFull(Exception):
    """More requests wait than may."""


@dataclass(frozen=True)
class _Waiting(Generic[Job, Result]):
    job: Job
    future: asyncio.Future[Result]


class Batcher(Generic[Job, Result]):
    """Gathers jobs and works on those that go together.

    A job waits `window` seconds for others, unless a batch is full or one is being worked on. If a batch fails, its
    jobs are done one by one, so that one bad job spoils no other.

    Args:
        work: does jobs; one result a job, in order.
        alike: jobs with an equal key go into one batch.
        most: jobs in a batch.
        window: seconds to wait for more jobs.
        queue: jobs that wait or are worked on; for more, `submit` raises.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Job]], Sequence[Result]],
        *,
        alike: Callable[[Job], Hashable],
        most: int,
        window: float,
        queue: int,
    ) -> None:
        self._work = work
        self._alike = alike
        self._most = most
        self._window = window
        self._queue = queue
        self._waiting: deque[_Waiting[Job, Result]] = deque()
        self._running = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mmself-serve")
        self._task: asyncio.Task[None] | None = None
        self.batches = 0
        self.done = 0

    @property
    def open(self) -> int:
        """Jobs that wait or are worked on."""
        return len(self._waiting) + self._running

    async def submit(self, jobs: Sequence[Job]) -> list[Result]:
        """Has jobs done, perhaps in different batches; returns their results in order.

        Raises:
            QueueFull: not all of them have room.
            Exception: what the work raised for one of them alone.
        """
        if self.open + len(jobs) > self._queue:
            raise QueueFull
        loop = asyncio.get_running_loop()
        added = [_Waiting(job, loop.create_future()) for job in jobs]
        self._waiting += added
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())
        return list(await asyncio.gather(*(item.future for item in added)))

    def close(self) -> None:
        """Ends the thread, after what it is doing."""
        self._thread.shutdown(cancel_futures=True)

    async def _run(self) -> None:
        """Works until nothing waits."""
        while self._waiting:
            if len(self._waiting) < self._most:
                await asyncio.sleep(self._window)
            batch = self._take()
            self._running = len(batch)
            try:
                await self._do(batch)
            finally:
                self._running = 0

    def _take(self) -> list[_Waiting[Job, Result]]:
        """The first job and those behind it that go with it; jobs that nobody waits for any more are forgotten."""
        alive = [item for item in self._waiting if not item.future.done()]
        if not alive:
            self._waiting.clear()
            return []
        key = self._alike(alive[0].job)
        batch = [item for item in alive if self._alike(item.job) == key][: self._most]
        taken = set(map(id, batch))
        self._waiting = deque(item for item in alive if id(item) not in taken)
        return batch

    async def _do(self, batch: Sequence[_Waiting[Job, Result]]) -> None:
        if not batch:
            return
        loop = asyncio.get_running_loop()
        self.batches += 1
        try:
            results = await loop.run_in_executor(self._thread, self._work, [item.job for item in batch])
        except Exception as error:
            if len(batch) == 1:
                if not batch[0].future.done():
                    batch[0].future.set_exception(error)
                return
            for item in batch:
                await self._do([item])
            return
        for item, result in zip(batch, results, strict=True):
            self.done += 1
            if not item.future.done():
                item.future.set_result(result)
