# SPDX-License-Identifier: Apache-2.0
"""A circuit breaker: an endpoint that fails several times in a row is left alone for a while, then tried carefully."""

from __future__ import annotations

from typing import Literal


#: Failures in a row that open a breaker.
THRESHOLD = 5
FIRST_REST = 1.0  # seconds that an endpoint is left alone; doubled each time
LONGEST_REST = 15.0

State = Literal["closed", "open", "trial"]


class Breaker:
    """Says whether an endpoint may be asked.

    `closed`: it may. `open`: it may not, until a probe after `due` finds it alive. `trial`: one request at a time may,
    and decides: an answer closes the breaker, a failure opens it for twice as long.

    Attributes:
        state: see above.
        due: when a probe may look at an open one, on the clock of the caller.
    """

    def __init__(self) -> None:
        self.state: State = "closed"
        self.due = 0.0
        self._failures = 0
        self._rest = FIRST_REST

    def admits(self, busy: int) -> bool:
        """Whether a further request may go out while `busy` ones are under way."""
        return self.state == "closed" or (self.state == "trial" and not busy)

    def succeeded(self) -> None:
        """A request was answered."""
        self.state = "closed"
        self._failures = 0
        self._rest = FIRST_REST

    def failed(self, now: float) -> bool:
        """A request was lost; returns whether that has just opened the breaker."""
        self._failures += 1
        if self.state == "trial" or (self.state == "closed" and self._failures >= THRESHOLD):
            self._open(now)
            return True
        return False

    def probed(self, alive: bool, now: float) -> None:
        """What a probe of an open one has found."""
        if alive:
            self.state = "trial"
        else:
            self._open(now)

    def _open(self, now: float) -> None:
        self.state = "open"
        self.due = now + self._rest
        self._rest = min(2 * self._rest, LONGEST_REST)
