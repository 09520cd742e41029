# SPDX-License-Identifier: Apache-2.0
"""POPE (Li et al. 2023): `coco_pope_{random,popular,adversarial}.json` in JSON lines, and COCO's `val2014`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...metrics.base import Item
from .common import Place, free_item, json_rows


ANSWERS = {"yes": "yes", "no": "no"}


def read(place: Place, parts: Sequence[str] = ("random", "popular", "adversarial")) -> Iterator[Item]:
    """Yields the questions of all parts. Truth: `answer` (yes or no), `category` (the part)."""
    for part in parts:
        name = f"coco_pope_{part}.json"
        for row in json_rows(place.find(name, f"coco/{name}", f"output/coco/{name}")):
            yield free_item(
                f"{part}-{row.text('question_id')}",
                row.text("text"),
                [place.picture(row, row.text("image"), "val2014", "images", "")],
                answer=row.one_of("label", ANSWERS),
                category=part,
            )
