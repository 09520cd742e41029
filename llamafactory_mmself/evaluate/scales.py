# SPDX-License-Identifier: Apache-2.0
"""From where to where a figure goes, and which end is good; shares in percent unless they are listed here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """The range of a figure.

    Attributes:
        top: the largest value that it can have; the smallest is 0.
        lower: whether smaller is better.
        neutral: whether neither end is better.
    """

    top: float = 100.0
    lower: bool = False
    neutral: bool = False

    @property
    def digits(self) -> int:
        """Digits behind the point in tables."""
        return 3 if self.top <= 1 else 2 if self.top < 20 else 1

    def text(self, value: float, sign: bool = False) -> str:
        """The value as tables show it."""
        return f"{value:{'+' if sign else ''}.{self.digits}f}"

    def share(self, value: float) -> float:
        """Where the value stands between the bad end, 0, and the good end, 1; for plots."""
        share = min(max(value / self.top, 0.0), 1.0)
        return 1 - share if self.lower else share


def scale_of(metric: str, figure: str, values: Sequence[float] = (), lower: Collection[str] = ()) -> Scale:
    """The scale of a metric's figure; figures of categories have that of the whole.

    Args:
        metric: name of the metric.
        figure: name of the figure.
        values: found ones, for metrics that do not tell their range: the smallest usual one that holds them all.
        lower: figures of such metrics for which smaller is better.
    """
    whole = figure.partition("/")[0]
    if metric == FOREIGN:
        largest = max(values, default=0.0)
        return Scale(next((top for top in _USUAL if largest <= top), largest), lower=figure in lower)
    return _SCALES.get((metric, whole), Scale())


FOREIGN = "lmms_eval"  # the metric of results that another harness computed
_USUAL = (1.0, 100.0)
_LOWER, _NEUTRAL = Scale(lower=True), Scale(neutral=True)
_SCALES: dict[tuple[str, str], Scale] = {
    **{("amber_generative", name): _LOWER for name in ("chair", "hal", "cog")},
    ("amber_discriminative", "yes_ratio"): _NEUTRAL,
    ("yes_no", "yes_ratio"): _NEUTRAL,
    ("mmhal", "score"): Scale(6),
    ("mmhal", "hallucination_rate"): _LOWER,
    **{("object_hal", name): _LOWER for name in ("chair_i", "chair_s")},
    ("object_hal", "length"): _NEUTRAL,
    ("llava_bench", "answer"): Scale(10),
    ("llava_bench", "reference"): Scale(10, neutral=True),
    **{("mme", name): Scale(top) for name, top in {"total": 2800, "perception": 2000, "cognition": 800}.items()},
    ("mme", "score"): Scale(200),
    **{("toy_captions", name): _LOWER for name in ("chair_i", "chair_s", "unread")},
    ("win_rate", "lose"): _LOWER,
    ("win_rate", "tie"): _NEUTRAL,
}
