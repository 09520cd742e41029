# SPDX-License-Identifier: Apache-2.0
"""The toy world's judge, describer and painter behind the latency of real ones, for `online_overlap.py`."""

import time
from collections.abc import Callable
from typing import Any

from llamafactory_mmself.toyworld import services


class _Late:
    """A service whose calls take longer.

    Args:
        inner: the service.
        seconds: added to each call.
    """

    def __init__(self, inner: Any, seconds: float) -> None:
        self._inner = inner
        self._seconds = seconds

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._late(found) if name in ("score", "describe", "paint", "check") else found

    def _late(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def later(*arguments: Any) -> Any:
            time.sleep(self._seconds)
            return call(*arguments)

        return later


def judge(seconds: float) -> Any:
    """The judge."""
    return _Late(services.judge(), seconds)


def describer(seconds: float) -> Any:
    """The describer."""
    return _Late(services.describer(), seconds)


def painter(seconds: float) -> Any:
    """The painter."""
    return _Late(services.painter(), seconds)


def checks() -> Any:
    """The checks, which are local and quick."""
    return services.checks()
