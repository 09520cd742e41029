# SPDX-License-Identifier: Apache-2.0
"""AMBER (Wang et al. 2023), as its repository publishes it.

`data/query/query_*.json` have rows of `id`, `image`, `query`; `data/annotations.json` has the truth of each id. The
metric reads `data/relation.json`, which says what words go together, and `data/safe_words.txt` itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...metrics.base import Item
from .common import Place, free_item, json_rows


QUERIES = {
    "generative": ("data/query/query_generative.json", "query_generative.json"),
    "discriminative": ("data/query/query_discriminative.json", "query_discriminative.json"),
}
ANSWERS = {"yes": "yes", "no": "no"}


def read(place: Place, part: str) -> Iterator[Item]:
    """Yields the queries of one part.

    Truth of `generative`: `truth` and `hallu` (objects that are there, and that models make up). Truth of
    `discriminative`: `answer` (yes or no) and `type` (such as `discriminative-relation`).

    Args:
        place: AMBER's folder.
        part: `generative` or `discriminative`.
    """
    queries = place.find(*QUERIES[part])
    annotations = {row.text("id"): row for row in json_rows(place.find("data/annotations.json", "annotations.json"))}
    for row in json_rows(queries):
        id = row.text("id")
        if id not in annotations:
            raise row.fail("id", f"{id} has no row in annotations.json; take both files from the same release.")
        image = place.picture(row, row.text("image"), "image", "images", "")
        truth = annotations[id]
        facts: dict[str, Any] = {"type": truth.text("type")}
        if part == "generative":
            facts |= {"truth": list(truth.texts("truth")), "hallu": list(truth.texts("hallu"))}
        else:
            facts |= {"answer": truth.one_of("truth", ANSWERS)}
        yield free_item(id, row.text("query"), [image], **facts)
