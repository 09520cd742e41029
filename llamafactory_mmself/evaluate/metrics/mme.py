# SPDX-License-Identifier: Apache-2.0
"""MME: two questions a picture, accuracy plus accuracy of whole pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from .accuracy import RIGHT
from .base import PARSED, Answer, Columns, Figures, MetricError
from .columns import Quirks, by_part, check_quirks, column, groups, mean, need, parts, together
from .reading import mme_published, read_yes_no, yes_or_no


PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


@dataclass(frozen=True)
class MME:
    """MME (arXiv 2306.13394): a score of 200 for each of 14 categories.

    Figures: `score/CATEGORY` = 100 * (accuracy + accuracy+), from 0 to 200, where accuracy+ is the share of pictures
    with both questions right; `perception`, the sum of ten categories, at most 2000; `cognition`, of four, at most
    800; `total`, their sum, at most 2800, of the categories that there are; `accuracy` and `accuracy_plus` of all
    items, in percent. Unparsed answers are wrong.
    Truth: `answer` (yes or no), `category`. What belongs together is one category's questions about the same pictures,
    or those with the same `picture` in the truth.

    With quirks="published" a text is read by its first four characters, so "Not sure" is a no.

    Attributes:
        quirks: how texts are read.
    """

    quirks: Quirks = "fixed"
    name: ClassVar[str] = "mme"
    headline: ClassVar[str] = "total"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_quirks(self.quirks)

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        read = mme_published if self.quirks == "published" else read_yes_no
        said = [read(answer.text) for answer in answers]
        right = column(
            value is not None and value == yes_or_no(answer.item) for answer, value in zip(answers, said, strict=True)
        )
        keys = [_picture(answer) for answer in answers]
        plus, weight = together(right, keys)
        number = {answer.item.id: key for answer, key in zip(answers, keys, strict=True)}
        return {
            RIGHT: right,
            "picture": plus,
            "picture_share": weight,
            PARSED: column(value is not None for value in said),
            **parts(answers, "category"),
            **groups(answers, lambda item: number[item.id]),
        }

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        found = by_part(columns, _scores)
        sums = {
            kind: sum(found[f"score/{name}"] for name in names if f"score/{name}" in found)
            for kind, names in (("perception", PERCEPTION), ("cognition", COGNITION))
        }
        shown = {name: value for name, value in found.items() if name.startswith("score/") or "/" not in name}
        shown.pop("score")
        return {"total": sums["perception"] + sums["cognition"], **sums, **shown}


def _scores(columns: Columns) -> dict[str, float]:
    plain = 100 * mean(columns[RIGHT])
    plus = 100 * mean(columns["picture"], columns["picture_share"])
    return {"score": plain + plus, "accuracy": plain, "accuracy_plus": plus}


def _picture(answer: Answer) -> tuple[str, object]:
    item = answer.item
    category = str(need(item, "category", "the category"))
    if category not in PERCEPTION + COGNITION:
        known = ", ".join(PERCEPTION + COGNITION)
        raise MetricError(f"Item {item.id!r}: {category!r} is no category of MME. They are: {known}.")
    picture = item.truth.get("picture") or item.images
    if not picture:
        raise MetricError(f"Item {item.id!r} has neither pictures nor 'picture': which questions belong together?")
    return category, picture
