# SPDX-License-Identifier: Apache-2.0
"""MM-Vet (Yu et al. 2024): `mm-vet.json`, objects by id, and `images`."""

from __future__ import annotations

from collections.abc import Iterator

from ...metrics.base import Item
from .common import Place, free_item, json_objects


def read(place: Place) -> Iterator[Item]:
    """Yields the questions. Truth: `answer` (with `<AND>` and `<OR>`), `capabilities` (a list)."""
    for row in json_objects(place.find("mm-vet.json", "*/mm-vet.json")):
        yield free_item(
            str(row.number),
            row.text("question"),
            [place.picture(row, row.text("imagename"), "images", "mm-vet/images", "", key="imagename")],
            answer=row.text("answer"),
            capabilities=list(row.texts("capability", least=1)),
        )
