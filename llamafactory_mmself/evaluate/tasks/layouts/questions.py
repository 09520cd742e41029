# SPDX-License-Identifier: Apache-2.0
"""Files of questions in this package's own form, and public benchmarks that `mmself data` turns into them."""

from __future__ import annotations

from collections.abc import Iterator

from ....data.questions import Question, read_questions
from ....data.sources import Options, SourceError, read_source
from ....data.sources.layout import MissingFile as MissingSource
from ...metrics.base import Item
from .common import LayoutError, MissingFile, Place, json_rows


def read(place: Place, file: str = "test.json") -> Iterator[Item]:
    """Yields the questions of a JSON or JSONL file (`data.questions`).

    Truth: `answer`, `question`, `choices` where there are any, and all further fields of the row.
    """
    yield from map(item_of, read_questions(place.find(file)))


def read_captions(place: Place, file: str = "captions.json") -> Iterator[Item]:
    """Yields the pictures that `mmself toy data` has captions of. Truth: `caption`, `scene`."""
    for row in json_rows(place.find(file)):
        images = [place.picture(row, name, "", key="images") for name in row.texts("images", least=1)]
        facts = {"question": row.text("question"), "caption": row.text("answer"), "scene": row.text("scene")}
        yield Item(row.text("id"), row.text("question"), tuple(images), facts)


def read_benchmark(place: Place, source: str, split: str = "test", augmented: bool = False) -> Iterator[Item]:
    """Yields a split of a benchmark that `data.sources` reads; truth as `read`.

    Args:
        place: where the benchmark was unpacked.
        source: a name of `data.sources.SOURCES`.
        split: as the benchmark calls it.
        augmented: ChartQA's machine-written questions, too.
    """
    yield from map(item_of, benchmark_questions(place, source, split, augmented))


def benchmark_questions(place: Place, source: str, split: str, augmented: bool = False) -> list[Question]:
    """The questions of a split that `data.sources` reads; see `read_benchmark`.

    Raises:
        LayoutError: a file is not there, or a row cannot be used.
    """
    options = Options(augmented=augmented, extracted=place.pictures)
    try:
        found = read_source(source, place.folder, split, options)
    except MissingSource as error:
        raise MissingFile(f"{error}\n{place.expected}".strip()) from error
    except SourceError as error:
        raise LayoutError(str(error).removesuffix(" --drop_invalid leaves such rows out.")) from error
    return found.questions


def item_of(question: Question) -> Item:
    """A question as an item."""
    facts = {**question.extra, "question": question.text, "answer": question.answer}
    if question.choices:
        facts["choices"] = list(question.choices)
    return Item(question.id, question.block, question.images, facts)
