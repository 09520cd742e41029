# SPDX-License-Identifier: Apache-2.0
"""HallusionBench (Guan et al. 2024): `HallusionBench.json` and its folder `hallusion_bench` of pictures."""

from __future__ import annotations

from collections.abc import Iterator

from ...metrics.base import Item
from .common import Place, free_item, json_rows


ANSWERS = {"0": "no", "1": "yes"}


def read(place: Place) -> Iterator[Item]:
    """Yields the questions; those of `visual_input` 0 have no picture.

    Truth: `answer` (yes or no), `details` (the answer in a sentence), `category` (VD, VS), `subcategory`, and the
    numbers `set_id`, `figure_id`, `question_id`, `visual_input`.
    """
    for row in json_rows(place.find("HallusionBench.json", "*/HallusionBench.json")):
        keys = ("category", "subcategory", "set_id", "figure_id", "question_id")
        facts = {name: row.text(name) for name in (*keys, "visual_input")}
        images = []
        if facts["visual_input"] != "0":
            name = row.text("filename")
            images = [place.picture(row, name, "hallusion_bench", "images", "", key="filename")]
        yield free_item(
            "-".join(facts[name] for name in keys),
            row.text("question"),
            images,
            answer=row.one_of("gt_answer", ANSWERS),
            details=row.text("gt_answer_details", default=""),
            **facts,
        )
