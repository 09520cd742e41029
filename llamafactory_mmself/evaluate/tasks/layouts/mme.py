# SPDX-License-Identifier: Apache-2.0
"""MME (Fu et al. 2023) as released: a folder a subtask, a text file a picture with `question<TAB>Yes` in each line.

Some subtasks have their files in `images` and `questions_answers_YN`, others side by side. `data/test-*.parquet` with
`question_id`, `category`, `question`, `answer`, `image` is read as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...metrics.base import Item
from .common import MissingFile, Place, Row, free_item, tables, text_lines


ANSWERS = {"yes": "yes", "no": "no"}
ROOTS = ("", "MME_Benchmark", "MME_Benchmark_release_version", "MME_Benchmark_release_version/MME_Benchmark")
ENDINGS = (".jpg", ".png", ".jpeg", ".JPG", ".PNG")
SUBTASKS = (
    *("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR"),
    *("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"),
)


def read(place: Place) -> Iterator[Item]:
    """Yields the questions, two a picture. Truth: `answer` (yes or no), `category` (the subtask), `picture`."""
    if place.has("data/test-*.parquet") or place.has("test-*.parquet"):
        seen: dict[str, int] = {}
        for row in tables(place, "data/test-*.parquet", "test-*.parquet"):
            image_id, path = row.text("question_id"), place.keep(row, row.get("image"))
            seen[image_id] = seen.get(image_id, -1) + 1
            yield _item(row, row.text("category"), image_id, seen[image_id], path)
        return
    root = next((root for root in map(place.folder.joinpath, ROOTS) if (root / SUBTASKS[0]).is_dir()), None)
    if root is None:
        raise MissingFile(f"{place.folder}: there is no folder {SUBTASKS[0]}.\n{place.expected}".strip())
    for subtask in SUBTASKS:
        yield from _subtask(place, root / subtask, subtask)


def _subtask(place: Place, folder: Path, subtask: str) -> Iterator[Item]:
    texts, pictures = folder / "questions_answers_YN", folder / "images"
    if not texts.is_dir():
        texts = pictures = folder
    files = sorted(texts.glob("*.txt"))
    if not files:
        raise MissingFile(f"{texts}: there are no text files of questions.\n{place.expected}".strip())
    for file in files:
        image = next((path for end in ENDINGS if (path := pictures / f"{file.stem}{end}").is_file()), None)
        for number, line in enumerate(text_lines(file)):
            question, _, answer = line.rpartition("\t")
            row = Row(file, number, {"question": question, "answer": answer, "image": str(file.stem)})
            if image is None:
                raise row.fail("image", f"{pictures} has no picture {file.stem} (.jpg, .png); take the whole release.")
            yield _item(row, subtask, f"{subtask}/{file.stem}", number, str(image.resolve()))


def _item(row: Row, subtask: str, image_id: str, number: int, image: str) -> Item:
    facts = {"answer": row.one_of("answer", ANSWERS), "category": subtask, "picture": image_id}
    return free_item(f"{image_id}-{number}", row.text("question"), [image], **facts)
