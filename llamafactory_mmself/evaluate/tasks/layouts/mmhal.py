# SPDX-License-Identifier: Apache-2.0
"""MMHal-Bench (Sun et al. 2023): `response_template.json`, and its pictures in `images`, named as in `image_src`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from ...metrics.base import Item
from .common import Place, free_item, json_rows


def read(place: Place) -> Iterator[Item]:
    """Yields the questions. Truth: `answer`, `image_content` (objects), `question_type`, `question_topic`."""
    for row in json_rows(place.find("response_template.json", "mmhal-bench_answer_template.json")):
        name = PurePosixPath(row.text("image_src")).name
        yield free_item(
            f"{row.number}",
            row.text("question"),
            [place.picture(row, name, "images", "", key="image_src")],
            answer=row.text("gt_answer"),
            image_content=list(row.texts("image_content")),
            question_type=row.text("question_type"),
            question_topic=row.text("question_topic", default=""),
        )
