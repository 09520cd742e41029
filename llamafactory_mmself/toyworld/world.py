# SPDX-License-Identifier: Apache-2.0
"""Writes the toy world's data sets: training, held-out and caption rows with their pictures.

Each scene belongs to one split for good (a digest of it decides), so what one command trains on no other command
tests, whatever the seeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from ..data.questions import QUESTION_COLUMNS, read_questions, write_questions
from ..data.questions import Question as Row
from ..files import write_json, write_picture
from ..prompts import load_prompt
from .choices import random_question, scene_of
from .errors import ToyWorldError
from .scenes import ROW_NAMES, Scene, caption, draw, random_scene


SPLITS = {"train": range(6), "test": range(6, 9), "captions": range(9, 10), "start": range(10, 16)}
_ENOUGH = 2000  # scenes of other splits, or known ones, in a row: this split has no more


@dataclass(frozen=True)
class WorldOptions:
    """What `write_world` writes.

    Attributes:
        train: training questions, one scene each.
        test: held-out questions, one scene each.
        captions: captioned scenes.
        rows: rows of a scene's grid, 2 or 3.
        columns: its columns, 2 or 3.
        size: a picture's sides in pixels.
        seed: where the scenes and questions come from.
        prompts: captioned scenes to train on, of the training questions' kind; the others are held out.
    """

    train: int = 500
    test: int = 600
    captions: int = 300
    rows: int = 2
    columns: int = 2
    size: int = 56
    seed: int = 0
    prompts: int = 0

    @property
    def pictures(self) -> dict[str, int]:
        """What a model for this world depends on: rows, columns and size."""
        return {"rows": self.rows, "columns": self.columns, "size": self.size}

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, int) or value < 0:
                raise ToyWorldError(f"{name} has to be a whole number from 0, not {value!r}.")
        if self.rows not in ROW_NAMES or self.columns not in ROW_NAMES:
            raise ToyWorldError(f"A grid has 2 or 3 rows and columns, not {self.rows} and {self.columns}.")
        if not 14 * max(self.rows, self.columns) <= self.size <= 1024:
            raise ToyWorldError(f"A picture of {self.size} pixels cannot show the grid; give 14 a cell at least.")


def world_of(folder: Path) -> WorldOptions:
    """Grid and picture size of the data in a folder of `write_world`.

    Raises:
        FileError: the folder has no readable training file.
        ToyWorldError: its rows are not the toy world's.
    """
    from PIL import Image

    path = Path(folder) / "train.json"
    rows = read_questions(path)
    if not rows:
        raise ToyWorldError(f"{path} has no rows to take grid and picture size from.")
    scene = scene_of(rows[0])
    with Image.open(rows[0].images[0]) as picture:
        return WorldOptions(rows=scene.rows, columns=scene.columns, size=picture.width)


def split_of(scene: Scene) -> str:
    """The split of `SPLITS` that a scene belongs to."""
    bucket = hashlib.sha256(str(scene).encode()).digest()[0] % 16
    return next(name for name, buckets in SPLITS.items() if bucket in buckets)


def scenes(split: str, rng: Random, rows: int = 2, columns: int = 2) -> Iterator[Scene]:
    """Yields the scenes of a split in random order, none twice.

    Raises:
        ToyWorldError: the split has no more scenes of this grid.
    """
    seen: set[Scene] = set()
    misses = 0
    while misses < _ENOUGH:
        scene = random_scene(rng, rows, columns)
        if split_of(scene) == split and scene not in seen:
            misses = 0
            seen.add(scene)
            yield scene
        misses += 1
    raise ToyWorldError(
        f"The split {split!r} has only about {len(seen)} different scenes on a grid of {rows} x {columns}; "
        f"ask for fewer or for a larger grid."
    )


def write_world(out: Path, options: WorldOptions = WorldOptions()) -> dict[str, Path]:
    """Writes `train.json`, `test.json`, `captions.json`, their pictures in `images/`, and `dataset_info.json`.

    `prompts.json` is one more file, where the options ask for it.

    The same options give the same bytes. Rows have the form of `data.questions`, with the scene and the question's
    category beside; `dataset_info.json` names the files for LLaMA-Factory.

    Returns:
        The files by split.
    """
    out = Path(out)
    tables: dict[str, list[Row]] = {}
    counts = {"train": options.train, "test": options.test, "captions": options.captions}
    if options.prompts:
        counts["prompts"] = options.prompts
    for split, count in counts.items():
        rng = Random(f"{options.seed}/{split}")  # a string seeds by its digest, the same everywhere
        source = scenes("train" if split == "prompts" else split, rng, options.rows, options.columns)
        tables[split] = [_row(rng, split, number, next(source), out) for number in range(count)]
    _draw([row for rows in tables.values() for row in rows], options.size)
    for split in ("train", "test"):
        write_questions(out / f"{split}.json", tables[split])
    for split in tables.keys() & {"captions", "prompts"}:
        write_json(out / f"{split}.json", [_caption_row(row, out) for row in tables[split]])
    info = {"formatting": "sharegpt", "columns": QUESTION_COLUMNS}
    write_json(out / "dataset_info.json", {f"toy_{name}": {"file_name": f"{name}.json", **info} for name in tables})
    return {name: out / f"{name}.json" for name in tables}


def _row(rng: Random, split: str, number: int, scene: Scene, out: Path) -> Row:
    name = f"{split}-{number:05d}"
    image = str(out / "images" / f"{name}.png")
    if split in ("captions", "prompts"):
        return Row(name, "Describe the picture.", caption(scene), (image,), None, {"scene": str(scene)})
    return random_question(rng, scene, name, (image,))


def _caption_row(row: Row, out: Path) -> dict[str, Any]:
    prompt = load_prompt(None, "caption.txt", ()).fill()
    turns = [{"from": "human", "value": row.placeholders + prompt}, {"from": "gpt", "value": row.answer}]
    return {**row.to_row(out), "question": prompt, "conversations": turns}


def _draw(rows: list[Row], size: int) -> None:
    from tqdm import tqdm

    for row in tqdm(rows, desc="pictures", unit="", disable=None, leave=False):
        path = Path(row.images[0])
        write_picture(path, draw(Scene.parse(row.extra["scene"]), size, lit=True), optimize=True)
