# SPDX-License-Identifier: Apache-2.0
"""ScienceQA (Lu et al. 2022): `problems.json`, `pid_splits.json`, and pictures in `images/<split>/<id>/`."""

from __future__ import annotations

from collections.abc import Iterator

from ....data.sources.layout import table_of
from ...metrics.base import Item
from .common import LayoutError, Place, choice_item, json_objects


FOLDERS = ("", "data/scienceqa/", "data/")


def read(place: Place, split: str = "test") -> Iterator[Item]:
    """Yields the questions of a split, hint first; about half of them have a picture.

    Truth: `answer` (a letter), `choices`, `subject`, `grade`, `hint` ("" without), `image` (whether there is one),
    `category` (the topic), `lecture`, `solution`.
    """
    splits_file = place.find(*(f"{folder}pid_splits.json" for folder in FOLDERS))
    splits = table_of(splits_file)
    if split not in splits:
        raise LayoutError(f"{splits_file}: there is no split {split!r}, only {', '.join(splits)}.")
    rows = {str(row.number): row for row in json_objects(place.find(*(f"{f}problems.json" for f in FOLDERS)))}
    for id in splits[split]:
        row = rows.get(str(id))
        if row is None:
            raise LayoutError(f"{splits_file}, split {split}: {id} is not in problems.json; take both of one release.")
        choices = row.texts("choices", least=2)
        hint, question = row.text("hint", default=""), row.text("question")
        images = []
        if row.get("image"):
            name = f"{row.text('split', default=split)}/{id}/{row.text('image')}"
            images = [place.picture(row, name, "images", "data/scienceqa/images", "")]
        yield choice_item(
            str(id),
            f"Context: {hint}\n{question}" if hint else question,
            images,
            choices,
            answer=row.place("answer", choices),
            subject=row.text("subject"),
            grade=row.text("grade"),
            hint=hint,
            image=bool(images),
            category=row.text("topic", default=""),
            lecture=row.text("lecture", default=""),
            solution=row.text("solution", default=""),
        )
