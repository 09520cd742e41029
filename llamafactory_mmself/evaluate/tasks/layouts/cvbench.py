# SPDX-License-Identifier: Apache-2.0
"""CV-Bench (Tong et al. 2024): `test_2d.parquet` and `test_3d.parquet`."""

from __future__ import annotations

from collections.abc import Iterator

from ...metrics.base import Item
from .common import Place, choice_item, tables


def read(place: Place) -> Iterator[Item]:
    """Yields the published prompts. Truth: `answer` (a letter), `choices`, `type` (2D, 3D), `source`, `task`."""
    for row in tables(place, "test_?d.parquet", "*/test_?d.parquet", "data/test-*.parquet", "test*.parquet"):
        choices = row.texts("choices", least=2)
        id = f"{row.text('type')}-{row.text('idx')}"
        item = choice_item(
            id,
            row.text("question"),
            [place.keep(row, row.get("image"))],
            choices,
            answer=row.letter("answer", choices),
            type=row.text("type"),
            source=row.text("source"),
            task=row.text("task"),
        )
        yield Item(id, row.text("prompt", default=item.prompt), item.images, item.truth)
