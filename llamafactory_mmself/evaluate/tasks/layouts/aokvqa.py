# SPDX-License-Identifier: Apache-2.0
"""A-OKVQA (Schwenk et al. 2022): `aokvqa_v1p0_val.json` and COCO's `val2017`."""

from __future__ import annotations

from collections.abc import Iterator

from ...metrics.base import Item
from .common import Place, choice_item, json_rows


def read(place: Place, split: str = "val", direct: bool = False) -> Iterator[Item]:
    """Yields the questions. Truth: `answer` (a letter), `choices`, `direct_answers` (ten),
    `difficult_direct_answer` (whether an answer without options is hard to tell), `rationales`.

    Args:
        place: where the annotations are, with COCO's pictures of 2017 below.
        split: `train` or `val`; the test set's answers are not published.
        direct: ask without the options.
    """
    for row in json_rows(place.find(f"aokvqa_v1p0_{split}.json", f"*/aokvqa_v1p0_{split}.json")):
        choices = row.texts("choices", least=2)
        name = f"{row.whole('image_id'):012d}.jpg"
        folders = (f"{split}2017", f"coco/{split}2017", "images", "")
        item = choice_item(
            row.text("question_id"),
            row.text("question"),
            [place.picture(row, name, *folders, key="image_id")],
            choices,
            answer=row.place("correct_choice_idx", choices),
            direct_answers=list(row.texts("direct_answers", least=1)),
            difficult_direct_answer=bool(row.get("difficult_direct_answer")),
            rationales=list(row.texts("rationales")),
        )
        yield Item(item.id, item.truth["question"], item.images, item.truth) if direct else item
