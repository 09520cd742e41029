# SPDX-License-Identifier: Apache-2.0
"""The folders of MM-Self-Improve (R3V), in both published versions.

The Qwen2-VL version has `outputs/<name>-iter<t>_<split>_sample_<k>.json` and training files of messages and images;
the first version has `<family>_result_sft_iter<t>_train_sample<k>.json`, with `index` and `prediction`, and training
files of conversations and the picture's file name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ..records import RecipeError
from .found import Found, read_rows, text_field, turn_of


_SAMPLED = (
    re.compile(r"(?P<name>.+)-iter(?P<iteration>\d+)_(?P<split>train|test)_sample_(?P<k>\d+)(?P<gold>_added)?\.json"),
    re.compile(r"(?P<name>.+)_result_sft_iter(?P<iteration>\d+)(?:_(?P<split>train))?_sample(?P<k>\d+)\.json"),
)
_TRAINED = re.compile(r"(?P<name>.+?)(?:_sft)?[_-]iter(?P<iteration>\d+)(?:_(?P<part>cot|refine|select))?\.json")
_KINDS = ("cot", "refine", "select")


def read_folder(folder: Path, images: Path | None = None) -> Found:
    """Samples and training sets of a run.

    Files of samples become `<name>_<split>_iter<t>`, in their order; a question's id is its `index` or the name of its
    picture, as `mmself data` has it. Training files become data sets of their own names.

    Args:
        folder: of the run; all folders in it are looked through.
        images: where pictures lie that are given by name alone; by default the training file's folder.

    Raises:
        RecipeError, FileError: nothing of it is there, or a file is damaged.
    """
    found = Found()
    files = sorted(folder.rglob("*.json"))
    sampled = [(path, match) for path in files for form in _SAMPLED if (match := form.fullmatch(path.name))]
    doubled = {path.name.replace("_added", "") for path, match in sampled if match.groupdict().get("gold")}
    for path, match in sorted(sampled, key=lambda item: (int(item[1]["iteration"]), int(item[1]["k"]))):
        if path.name in doubled:
            continue  # the same with the truth added lies beside it
        name = f"{match['name']}_{match['split'] or 'test'}_iter{match['iteration']}"
        for number, row in enumerate(read_rows(path), start=1):
            text = row.get("prediction")
            if not isinstance(text, str):
                found.skipped["samples without a text"] += 1
                continue
            found.add_sample(name, _question(row, path, number), text, f"published {name}")
    known = {path for path, _ in sampled}
    for path in files:
        if path not in known and (match := _TRAINED.fullmatch(path.name)):
            _read_training(found, path, match["part"], images)
    if not found.samples and not found.sets:
        raise RecipeError(
            f"{folder} holds no files of R3V: names such as geoqa-iter0_train_sample_0.json are expected."
        )
    return found


def _question(row: Mapping[str, Any], path: Path, number: int) -> str:
    if "index" in row:
        return text_field(row, "index", path, number)
    images = row.get("images")
    if not isinstance(images, list) or not images:
        raise RecipeError(f"{path}, row {number}: neither `index` nor `images` tells whose sample this is.")
    return PurePosixPath(str(images[0]).replace("\\", "/")).stem


def _read_training(found: Found, path: Path, part: str | None, images: Path | None) -> None:
    rows = read_rows(path)
    if not rows or not {"messages", "conversations"} & rows[0].keys():
        return
    turns = []
    for number, row in enumerate(rows, start=1):
        names = row["images"] if "images" in row else [row.get("image")]
        pictures = [_picture(name, path, number, images) for name in names if name]
        id = str(row.get("id", f"{path.stem}/{number}"))
        head = id.split("-", 1)[0]
        turns.append(turn_of(row, path, number, pictures, id, part or (head if head in _KINDS else "cot")))
    found.sets[path.stem] = turns


def _picture(name: Any, path: Path, number: int, images: Path | None) -> str:
    given = Path(str(name))
    places = [given] if given.is_absolute() else []
    places += [base / part for base in (images, path.parent) if base for part in (given, Path(given.name))]
    for place in places:
        if place.is_file():
            return str(place.resolve())
    raise RecipeError(f"{path}, row {number}: the picture {name} is not there. --images names the folder of pictures.")
