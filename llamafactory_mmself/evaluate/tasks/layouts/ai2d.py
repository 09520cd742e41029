# SPDX-License-Identifier: Apache-2.0
"""AI2D (Kembhavi et al. 2016) in the owner's layout and in two later ones.

The owner's: `questions/<picture>.json`, `images`, and `ai2d_test_ids.csv`, which names the test set's pictures. Later:
`data/test-*.parquet` (`question`, `options`, `answer` by place, `image`) and `AI2D_TEST_NO_MASK.tsv`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ....files import read_json
from ...metrics.base import Item
from .common import LayoutError, Place, Row, choice_item, tables, text_lines


TABLES = ("data/test-*.parquet", "test-*.parquet", "AI2D_TEST_NO_MASK.tsv", "AI2D_TEST.tsv")
IDS = ("ai2d_test_ids.csv", "ai2d/ai2d_test_ids.csv")


def read(place: Place) -> Iterator[Item]:
    """Yields the test questions. Truth: `answer` (a letter), `choices`."""
    if any(place.has(name) for name in TABLES):
        yield from (_tabled(place, row) for row in tables(place, *TABLES))
        return
    ids = place.find(*IDS, *TABLES)
    wanted = {line.strip().removesuffix(".png") for line in text_lines(ids)}
    for file in place.find_all("questions/*.json", "ai2d/questions/*.json"):
        if file.name.partition(".")[0] in wanted:
            yield from _owners(place, file)


def _tabled(place: Place, row: Row) -> Item:
    image = place.keep(row, row.get("image"))
    id = row.text("index", default=str(row.number))
    if row.get("options") is None:
        choices = row.columns()
        return choice_item(id, row.text("question"), [image], choices, answer=row.letter("answer", choices))
    choices = row.texts("options", least=2)
    return choice_item(id, row.text("question"), [image], choices, answer=row.place("answer", choices))


def _owners(place: Place, file: Path) -> Iterator[Item]:
    value: Any = read_json(file)
    if not isinstance(value, dict) or not isinstance(value.get("questions"), Mapping):
        raise LayoutError(f"{file}: an object with `imageName` and `questions` is expected.")
    for text, facts in value["questions"].items():
        row = Row(file, text, {**facts, "imageName": value.get("imageName")})
        choices = row.texts("answerTexts", least=2)
        image = place.picture(row, row.text("imageName"), "images", "ai2d/images", key="imageName")
        answer = row.place("correctAnswer", choices)
        yield choice_item(row.text("questionId"), text, [image], choices, answer=answer)
