# SPDX-License-Identifier: Apache-2.0
"""Numbers over several benchmarks, as the papers define them.

All of them take headline figures by task: `amber_generative` F1, `mmhal` score, `object_hal` F1, `llava_bench`
relative score, `amber_discriminative` F1, `mme` total; the others in percent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from .base import MetricError


HRI = ("amber_generative", "mmhal", "object_hal", "llava_bench", "amber_discriminative")
GENERAL = ("realworldqa", "textvqa", "cvbench", "mmstar")
SHERLOCK = ("mmbench", "mmvet", "hallusion", "mmmu", "mmstar", "ai2d", "mathvista", "mme")
MME_SCALE = 28  # brings MME's 2800 points to 100


def hri(scores: Mapping[str, float], base: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """OViP's hallucination reduction index: 2 * the sum of (score - base) / (reference - base) over five benchmarks.

    The reference row has 10 by definition, the base 0. The paper takes its own method's values as the reference, so
    the number means nothing without the row that is reported beside it.

    Args:
        scores: of the model.
        base: of the model that training started from.
        reference: of the stated reference row.

    Raises:
        MetricError: a benchmark is missing, or reference and base are equal on one.
    """
    for row, name in ((scores, "scores"), (base, "base"), (reference, "reference")):
        _check(row, HRI, f"HRI's {name}")
    equal = [task for task in HRI if reference[task] == base[task]]
    if equal:
        raise MetricError(
            f"HRI: reference and base are both {base[equal[0]]:g} on {equal[0]}; take another reference."
        )
    return 2 * sum((scores[task] - base[task]) / (reference[task] - base[task]) for task in HRI)


def general_difference(
    scores: Mapping[str, float], base: Mapping[str, float], how: Literal["mean", "sum"] = "mean"
) -> float:
    """OViP's general accuracy difference: the change of accuracy over RealWorldQA, TextVQA, CV-Bench and MMStar.

    Args:
        scores: of the model, in percent.
        base: of the model that training started from.
        how: the mean of the four changes, in percentage points, or their sum, which the published code forms. Which of
            them the paper prints is not known.

    Raises:
        MetricError: a benchmark is missing.
    """
    _check(scores, GENERAL, "The general difference's scores")
    _check(base, GENERAL, "The general difference's base")
    total = sum(scores[task] - base[task] for task in GENERAL)
    return total if how == "sum" else total / len(GENERAL)


def sherlock_average(scores: Mapping[str, float]) -> float:
    """Sherlock's average of eight benchmarks, MME's total divided by 28; from 0 to 100.

    Args:
        scores: `mmbench`, `mmvet`, `hallusion` (the mean of its three), `mmmu`, `mmstar`, `ai2d`, `mathvista`, `mme`.

    Raises:
        MetricError: a benchmark is missing.
    """
    _check(scores, SHERLOCK, "Sherlock's average")
    return sum(scores[task] / (MME_SCALE if task == "mme" else 1) for task in SHERLOCK) / len(SHERLOCK)


def _check(row: Mapping[str, float], tasks: Collection[str], what: str) -> None:
    missing = [task for task in tasks if task not in row]
    if missing:
        raise MetricError(f"{what} needs {', '.join(tasks)}; {', '.join(missing)} is missing.")
