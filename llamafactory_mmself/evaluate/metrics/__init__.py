# SPDX-License-Identifier: Apache-2.0
"""Metrics of public benchmarks, as pure functions of items and answers.

```python
scorer = metric("textvqa", quirks="published")
columns = scorer.columns([Answer(item, text) for item, text in zip(items, texts)])
summarise(columns, scorer.figures)["accuracy"]  # a value in percent with its interval
```
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from .accuracy import AOKVQA, Accuracy, CVBench, Options, ScienceQA, Toy
from .amber import AmberGenerative
from .base import Answer, Item, Metric, MetricError
from .hallusion import Hallusion
from .judged import Judged
from .llava_bench import LlavaBench
from .mathvista import MathVista
from .mmbench import MMBench
from .mme import MME
from .mmhal import MMHal
from .mmmu import MMMU
from .mmvet import MMVet
from .object_hal import ObjectHal
from .rationale import TextOverlap
from .textvqa import TextVQA
from .toy_captions import ToyCaptions
from .win_rate import WinRate
from .yes_no import AmberDiscriminative, YesNo


__all__ = ["METRICS", "Answer", "Item", "Judged", "Metric", "MetricError", "metric", "options"]

_ALL: tuple[Any, ...] = (
    Accuracy,
    AmberDiscriminative,
    AmberGenerative,
    AOKVQA,
    CVBench,
    Hallusion,
    LlavaBench,
    MathVista,
    MMBench,
    MME,
    MMHal,
    MMMU,
    MMVet,
    ObjectHal,
    Options,
    ScienceQA,
    TextOverlap,
    TextVQA,
    Toy,
    ToyCaptions,
    WinRate,
    YesNo,
)
METRICS: Mapping[str, Callable[..., Metric]] = MappingProxyType({made.name: made for made in _ALL})


def options(name: str) -> tuple[str, ...]:
    """The names of the options that a metric takes, such as `quirks`.

    Raises:
        MetricError: there is no such metric.
    """
    if name not in METRICS:
        raise MetricError(f"There is no metric {name!r}. Known: {', '.join(METRICS)}.")
    return tuple(inspect.signature(METRICS[name]).parameters)


def metric(name: str, **given: Any) -> Metric:
    """Makes a metric; files and models that it needs are opened when it scores the first answer.

    Args:
        name: one of `METRICS`.
        given: its options; see the metric's class.

    Raises:
        MetricError: there is no such metric or option, or an option that it cannot do without is missing.
    """
    known = options(name)
    if unknown := [option for option in given if option not in known]:
        raise MetricError(
            f"The metric {name!r} has no option {', '.join(map(repr, unknown))}. "
            f"Its options: {', '.join(known) or 'none'}."
        )
    required = [
        option
        for option, parameter in inspect.signature(METRICS[name]).parameters.items()
        if parameter.default is inspect.Parameter.empty and option not in given
    ]
    if required:
        raise MetricError(f"The metric {name!r} needs the option {', '.join(map(repr, required))}.")
    return METRICS[name](**given)
