# SPDX-License-Identifier: Apache-2.0
"""Yes/no questions: POPE, where yes is the positive class, and AMBER's discriminative part, where no is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .base import PARSED, Answer, Column, Columns, Figures
from .columns import PART, Keys, Quirks, by_part, check_quirks, column, groups, harmonic, mean, need, parts, share
from .reading import pope_published, read_yes_no, yes_or_no


def _answered(answers: Sequence[Answer], said: Sequence[bool | None]) -> dict[str, Column]:
    """What is true and what was said; an unparsed answer is neither yes nor no."""
    return {
        "truth": column(yes_or_no(answer.item) for answer in answers),
        "yes": column(value is True for value in said),
        "no": column(value is False for value in said),
        PARSED: column(value is not None for value in said),
    }


@dataclass(frozen=True)
class YesNo:
    """POPE (arXiv 2305.10355), and other yes/no questions where yes is the positive class.

    Figures, in percent: `accuracy`; `precision` = right yes / answered yes; `recall` = right yes / true yes; `f1`;
    `yes_ratio` = answered yes / all; each also as `f1/CATEGORY`; and with categories `f1_mean`, the mean of their F1,
    which LLaVA-1.5's table has. Unparsed answers are wrong, and neither yes nor no.
    Truth: `answer` (yes or no); `category` (random, popular, adversarial).

    With quirks="published" all texts but those with "No", "no" or "not" before the first full stop are a yes, empty
    ones too.

    Attributes:
        category: keys of the truth to report by.
        quirks: how texts are read.
    """

    category: Keys = "category"
    quirks: Quirks = "fixed"
    name: ClassVar[str] = "yes_no"
    headline: ClassVar[str] = "f1"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_quirks(self.quirks)

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        read = pope_published if self.quirks == "published" else read_yes_no
        said = [read(answer.text) for answer in answers]
        return {**_answered(answers, said), **parts(answers, self.category), **groups(answers)}

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        found = by_part(columns, _pope)
        of_parts = [found[f"f1/{name.removeprefix(PART)}"] for name in columns if name.startswith(PART)]
        return found | ({"f1_mean": float(np.mean(of_parts))} if of_parts else {})


def _pope(columns: Columns) -> dict[str, float]:
    truth, yes, no = columns["truth"], columns["yes"], columns["no"]
    precision, recall = share((truth * yes).sum(), yes.sum()), share((truth * yes).sum(), truth.sum())
    return {
        "accuracy": 100 * mean(truth * yes + (1 - truth) * no),
        "precision": precision,
        "recall": recall,
        "f1": harmonic(precision, recall),
        "yes_ratio": 100 * mean(yes),
    }


KINDS = {
    "discriminative-hallucination": ("existence",),
    "discriminative-attribute-state": ("attribute", "state"),
    "discriminative-attribute-number": ("attribute", "number"),
    "discriminative-attribute-action": ("attribute", "action"),
}
RELATION = ("relation",)  # all other types: `discriminative-relation` and `relation`
START = 0.001  # where the official counters of answers begin
FLOOR = {"existence": 0.001}  # what the official F1 adds to P + R
COUNTERS = {"attribute": 3}  # those of the attributes are sums of three counters


@dataclass(frozen=True)
class AmberDiscriminative:
    """AMBER's yes/no questions (arXiv 2311.07397), where no is the positive class.

    Figures, in percent: `accuracy`; `precision` = right no / answered no; `recall` = right no / true no; `f1`; each
    also for the dimensions, as `f1/existence`, `/attribute`, `/state`, `/number`, `/action`, `/relation`. Unparsed
    answers are wrong, and no "no".
    Truth: `answer` (yes or no), `type` as in the official annotations.

    With quirks="published" only the texts "Yes" and "No" are answers, denominators begin at 0.001, F1 has 0.0001 added
    to P + R (existence: 0.001), and each figure is rounded to one decimal before it is used.

    Attributes:
        quirks: how texts are read and shares are computed.
    """

    quirks: Quirks = "fixed"
    name: ClassVar[str] = "amber_discriminative"
    headline: ClassVar[str] = "f1"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_quirks(self.quirks)

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        published = {"Yes": True, "No": False}
        said = [
            published.get(answer.text) if self.quirks == "published" else read_yes_no(answer.text)
            for answer in answers
        ]
        types = [str(need(answer.item, "type", "the type of the annotation")) for answer in answers]
        kinds = {kind: column(kind in KINDS.get(one, RELATION) for one in types) for kind in _DIMENSIONS}
        marked = {PART + kind: marks for kind, marks in kinds.items() if marks.any() or self.quirks == "published"}
        return {**_answered(answers, said), **marked, **groups(answers)}

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        if self.quirks == "fixed":
            return by_part(columns, _amber)
        found = _amber_published(columns, "")
        for name, inside in columns.items():
            if name.startswith(PART):
                kind = name.removeprefix(PART)
                some = {key: columns[key][inside > 0] for key in ("truth", "yes", "no")}
                found |= {f"{figure}/{kind}": value for figure, value in _amber_published(some, kind).items()}
        return found


_DIMENSIONS = ("existence", "attribute", "state", "number", "action", "relation")


def _amber(columns: Columns) -> dict[str, float]:
    truth, yes, no = columns["truth"], columns["yes"], columns["no"]
    right = ((1 - truth) * no).sum()
    precision, recall = share(right, no.sum()), share(right, (1 - truth).sum())
    return {
        "accuracy": 100 * mean(truth * yes + (1 - truth) * no),
        "precision": precision,
        "recall": recall,
        "f1": harmonic(precision, recall),
    }


def _amber_published(columns: Columns, kind: str) -> dict[str, float]:
    truth, yes, no = columns["truth"], columns["yes"], columns["no"]
    start = START * COUNTERS.get(kind, 1)
    right_no = ((1 - truth) * no).sum()

    def percent(part: float, whole: float) -> float:
        return round(float(part) / (float(whole) + start) * 100, 1)

    precision, recall = percent(right_no, no.sum()), percent(right_no, (1 - truth).sum())
    over = precision / 100 + recall / 100 + FLOOR.get(kind, 0.0001)
    return {
        "accuracy": percent((truth * yes).sum() + right_no, len(truth)),
        "precision": precision,
        "recall": recall,
        "f1": round(2 * (precision / 100) * (recall / 100) / over * 100, 1),
    }
