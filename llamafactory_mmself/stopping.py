# SPDX-License-Identifier: Apache-2.0
"""Stopping in order: what a cluster's scheduler or a closed terminal sends is taken as Ctrl-C is."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Stops:
    """Within `with Stops():`, SIGTERM and SIGHUP interrupt as SIGINT does, so that all of them end a command alike.

    A signal that is ignored, as under `nohup`, or taken by somebody else is left alone; so are all of them outside of
    the main thread, where Python takes none.

    Attributes:
        number: the signal that came last; SIGINT if none did.
    """

    def __init__(self) -> None:
        self.number = signal.SIGINT
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stops:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) == signal.SIG_DFL:
                    self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.number = signal.Signals(number)
        interrupt = signal.getsignal(signal.SIGINT)  # asyncio has its own while it runs
        if callable(interrupt):
            interrupt(signal.SIGINT, frame)
        else:  # Ctrl-C is ignored, as in a shell's background jobs
            raise KeyboardInterrupt
