# SPDX-License-Identifier: Apache-2.0
"""MMStar (Chen et al. 2024): `mmstar.parquet`, whose questions have their options inside, or `MMStar.tsv`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...metrics.base import Item
from .common import Place, choice_item, tables


OPTION = re.compile(r"(?:^|[,\n])\s*([A-H]):\s")


def read(place: Place) -> Iterator[Item]:
    """Yields the questions. Truth: `answer` (a letter), `category`, `l2_category`, `choices` where they are clear."""
    for row in tables(place, "mmstar.parquet", "*/mmstar.parquet", "MMStar.tsv"):
        id, text = row.text("index"), row.text("question")
        image = place.keep(row, row.get("image"))
        facts = {"category": row.text("category"), "l2_category": row.text("l2_category", default="")}
        if row.get("A") is not None:
            choices = row.columns()
            yield choice_item(id, text, [image], choices, answer=row.letter("answer", choices), **facts)
            continue
        stem, inside = options_inside(text)
        letters = inside or ("",) * 8
        item = choice_item(id, text, [image], (), answer=row.letter("answer", letters), **facts)
        truth = {**item.truth, "question": stem, "choices": list(inside)} if inside else item.truth
        yield Item(id, text, item.images, truth)


def options_inside(text: str) -> tuple[str, tuple[str, ...]]:
    """Question and options of `... Options: A: one, B: two`; no options where they are not A, B, ... in order."""
    stem, marker, block = text.rpartition("Options:")
    pieces = OPTION.split(f"\n{block.strip()}") if marker else []
    letters, options = pieces[1::2], pieces[2::2]
    if len(letters) < 2 or letters != list("ABCDEFGH"[: len(letters)]):
        return text, ()
    return stem.strip(), tuple(option.strip() for option in options)
