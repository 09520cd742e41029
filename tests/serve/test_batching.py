# SPDX-License-Identifier: Apache-2.0
"""Jobs that arrive close together are done together, and one bad job spoils no other."""

import asyncio
import threading
import time

import pytest

from llamafactory_mmself.serve.batching import Batcher, QueueFull


@pytest.fixture
def batcher():
    made = []

    def make(work, **changes):
        settings = {"alike": lambda job: job[0], "most": 4, "window": 0.02, "queue": 100, **changes}
        made.append(Batcher(work, **settings))
        return made[-1]

    yield make
    for item in made:
        item.close()


def test_jobs_that_go_together_are_one_batch(batcher):
    seen = []

    def work(jobs):
        seen.append(list(jobs))
        return [job.upper() for job in jobs]

    made = batcher(work)

    async def ask():
        return await asyncio.gather(*(made.submit([job]) for job in ("a1", "b1", "a2", "a3", "a4", "a5", "b2")))

    assert [found for (found,) in asyncio.run(ask())] == ["A1", "B1", "A2", "A3", "A4", "A5", "B2"]
    assert seen == [["a1", "a2", "a3", "a4"], ["b1", "b2"], ["a5"]]
    assert (made.batches, made.done, made.open) == (3, 7, 0)


def test_a_bad_job_fails_alone(batcher):
    def work(jobs):
        if "a-bad" in jobs:
            raise ValueError("bad job")
        return [job.upper() for job in jobs]

    made = batcher(work)

    async def ask():
        submitted = (made.submit([job]) for job in ("a1", "a-bad", "a2"))
        return await asyncio.gather(*submitted, return_exceptions=True)

    first, bad, second = asyncio.run(ask())
    assert (first, second) == (["A1"], ["A2"])
    assert isinstance(bad, ValueError)


def test_more_jobs_than_may_wait_are_turned_away(batcher):
    gate = threading.Event()

    def work(jobs):
        gate.wait(5)
        return list(jobs)

    made = batcher(work, queue=2, window=0.0)

    async def ask():
        first = asyncio.create_task(made.submit(["a1"]))
        second = asyncio.create_task(made.submit(["a2"]))
        await asyncio.sleep(0.05)
        with pytest.raises(QueueFull):
            await made.submit(["a3"])
        gate.set()
        assert await first == ["a1"] and await second == ["a2"]
        assert await made.submit(["a3", "a4"]) == ["a3", "a4"]

    asyncio.run(ask())


def test_jobs_that_nobody_waits_for_are_forgotten(batcher):
    seen = []

    def work(jobs):
        seen.extend(jobs)
        time.sleep(0.05)
        return list(jobs)

    made = batcher(work, window=0.0, most=1)

    async def ask():
        first = asyncio.create_task(made.submit(["a1"]))
        second = asyncio.create_task(made.submit(["a2"]))
        await asyncio.sleep(0.02)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        await first
        await made.submit(["a3"])

    asyncio.run(ask())
    assert seen == ["a1", "a3"]
