# SPDX-License-Identifier: Apache-2.0
"""Where the time goes: spans of each phase, and the share of it that training waited."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from ....generate.services import (
    DescribeItem,
    Describer,
    Painter,
    PaintFailure,
    PaintRequest,
    Picture,
    ResponseScorer,
    ScoreItem,
    Services,
)


#: Under the published tags, but for `train`, which was `forward` and `backward`, and `wait`, which nobody took.
Phase = Literal["sample", "score", "desc", "neg_img", "train", "wait"]


@dataclass(frozen=True)
class Span:
    """A line of time_log.jsonl.

    Attributes:
        rank: of the process.
        tag: what was done.
        start: seconds since 1970.
        seconds: how long.
        step: optimizer steps done by then.
        items: how many prompts, responses or pictures.
    """

    rank: int
    tag: Phase
    start: float
    seconds: float
    step: int
    items: int


class Clock:
    """Takes the time of phases, in all threads of a rank.

    Args:
        rank: of this process.

    Attributes:
        step: optimizer steps done.
    """

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._lock = threading.Lock()
        self._spans: list[Span] = []
        self._seconds: Counter[str] = Counter()
        self._since = time.perf_counter()
        self.step = 0

    @contextmanager
    def measure(self, tag: Phase, items: int = 1) -> Iterator[None]:
        """Takes the time of a block."""
        start, begun = time.time(), time.perf_counter()
        try:
            yield
        finally:
            self.add(tag, start, time.perf_counter() - begun, items)

    def add(self, tag: Phase, start: float, seconds: float, items: int = 1) -> None:
        """Notes a span that was measured elsewhere."""
        with self._lock:
            self._spans.append(Span(self._rank, tag, start, seconds, self.step, items))
            self._seconds[tag] += seconds

    def pop_spans(self) -> list[Span]:
        """The spans since the last call."""
        with self._lock:
            spans, self._spans = self._spans, []
        return spans

    def figures(self) -> dict[str, float]:
        """For the log: seconds of each phase since the last call, and the share of them that training waited."""
        with self._lock:
            seconds, self._seconds = self._seconds, Counter()
        now = time.perf_counter()
        passed, self._since = max(now - self._since, 1e-9), now
        names: tuple[Phase, ...] = ("sample", "score", "desc", "neg_img", "train", "wait")
        return {**{f"time/{name}": seconds[name] for name in names}, "wait_share": min(seconds["wait"] / passed, 1.0)}


def timed(services: Services, clock: Clock) -> Services:
    """The same services, with the time of their work taken."""
    return replace(
        services,
        scorer=_TimedScorer(services.scorer, clock),
        describer=_TimedDescriber(services.describer, clock),
        painter=_TimedPainter(services.painter, clock),
    )


class _Timed:
    def __init__(self, inner: Any, clock: Clock) -> None:
        self._inner = inner
        self._clock = clock

    @property
    def policy(self) -> str:
        """See `ResponseScorer.policy`."""
        policy: str = self._inner.policy
        return policy

    def counts(self) -> Mapping[str, int]:
        """See `ResponseScorer.counts`."""
        counts: Mapping[str, int] = self._inner.counts()
        return counts


class _TimedScorer(_Timed):
    _inner: ResponseScorer

    def score(self, items: Sequence[ScoreItem]) -> list[float | None]:
        """See `ResponseScorer.score`."""
        with self._clock.measure("score", len(items)):
            return self._inner.score(items)


class _TimedDescriber(_Timed):
    _inner: Describer

    def describe(self, items: Sequence[DescribeItem]) -> list[str | None]:
        """See `Describer.describe`."""
        with self._clock.measure("desc", len(items)):
            return self._inner.describe(items)


class _TimedPainter(_Timed):
    _inner: Painter

    def paint(self, requests: Sequence[PaintRequest]) -> list[Picture | PaintFailure]:
        """See `Painter.paint`."""
        with self._clock.measure("neg_img", len(requests)):
            return self._inner.paint(requests)
