# SPDX-License-Identifier: Apache-2.0
"""Signals that end a command: which are taken, which are left alone, and what is there again afterwards."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from llamafactory_mmself.stopping import Stops


@contextmanager
def set_to(number: signal.Signals, handler: Any) -> Iterator[None]:
    """What a signal does; a runner in the background may have some ignored."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_and_is_known(number) -> None:
    with set_to(number, signal.SIG_DFL):
        with Stops() as stops, pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        assert stops.number == number
        assert signal.getsignal(number) == signal.SIG_DFL


def test_work_of_asyncio_is_cancelled_in_order() -> None:
    ended = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)
        finally:
            ended.append("in order")

    with set_to(signal.SIGINT, signal.default_int_handler), Stops(), pytest.raises(KeyboardInterrupt):
        asyncio.run(work())
    assert ended == ["in order"]


def test_it_ends_where_a_shell_has_ctrl_c_ignored() -> None:
    with set_to(signal.SIGINT, signal.SIG_IGN), Stops(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)


def test_nohup_stays_in_force() -> None:
    with set_to(signal.SIGHUP, signal.SIG_IGN), Stops():
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_threads_take_none() -> None:
    seen = []

    def work() -> None:
        with Stops():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
