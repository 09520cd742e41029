# SPDX-License-Identifier: Apache-2.0
"""Object HalBench as RLHF-V publishes it: `obj_halbench_300_with_image.jsonl`, rows with a picture inside.

What is in the pictures, the metric reads from COCO's annotations of 2014 and from `synonyms_refine.txt`.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...metrics.base import Item
from .common import Place, free_item, json_rows


def read(place: Place) -> Iterator[Item]:
    """Yields the prompts. Truth: `image_id`, COCO's."""
    for row in json_rows(place.find("obj_halbench_300_with_image.jsonl", "*/obj_halbench_300_with_image.jsonl")):
        image = place.keep(row, row.get("image"))
        yield free_item(f"{row.number}", row.text("question"), [image], image_id=row.whole("image_id"))
