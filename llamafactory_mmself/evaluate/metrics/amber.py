# SPDX-License-Identifier: Apache-2.0
"""AMBER's generative part: hallucinated and covered objects of a description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from ...files import FileError, read_json
from .base import PARSED, Answer, Columns, Figures, Item, MetricError
from .columns import Quirks, check_quirks, column, groups, harmonic, need, share
from .taggers import Nouns, Similarity, nltk_nouns, spacy_similarity


START = 0.001  # where the official denominators begin
WHERE = "It is in the folder `data` of https://github.com/junyangwang0410/AMBER"


@dataclass(frozen=True)
class AmberGenerative:
    """AMBER's descriptions (arXiv 2311.07397), and the F1 that OViP adds.

    Figures, in percent: `chair`, hallucinated mentions / mentions of known objects; `cover`, truth objects that were
    named / truth objects; `hal`, answers with a hallucinated mention / answers; `cog`, objects that people would
    imagine and the answer names / such objects; `f1` = 2 (100 - chair) cover / ((100 - chair) + cover).
    Truth: `truth` and `hallu`, lists of objects as in the official annotations.

    Nouns that are in the association list are mentions. In order, a mention that is a safe word counts in the
    denominator only; one that is a truth object or an associate covers that object; any other marks an imagined object
    which it is, or is similar to; then it covers a truth object that it, or an associate, is similar to; otherwise it
    is hallucinated. Associates stand before objects, and the first that fits counts.

    With quirks="published" a mention that is an imagined object also marks the first imagined one that is similar to
    it; denominators begin at 0.001, figures have one decimal, and F1 is computed from these.

    Attributes:
        association: path of the official `relation.json`.
        safe_words: path of the official `safe_words.txt`.
        nouns: finds the lemmas of a text's nouns; by default NLTK.
        similarity: of two words; by default spaCy's `en_core_web_lg`.
        threshold: words are similar above it.
        quirks: as published or right.
    """

    association: str | Path
    safe_words: str | Path
    nouns: Nouns = nltk_nouns
    similarity: Similarity | None = None
    threshold: float = 0.8
    quirks: Quirks = "fixed"
    name: ClassVar[str] = "amber_generative"
    headline: ClassVar[str] = "f1"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_quirks(self.quirks)

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        found = [self._look(answer) for answer in answers]
        names = ("mentions", "hallucinated", "truth", "covered", "imagined", "marked")
        counts = {name: column(row[place] for row in found) for place, name in enumerate(names)}
        said = column(bool(answer.text.strip()) for answer in answers)
        return {**counts, "answers": column(1 for _ in answers), PARSED: said, **groups(answers)}

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        total = {name: float(values.sum()) for name, values in columns.items()}
        clean = float((columns["hallucinated"] == 0).sum())
        if self.quirks == "published":
            return _published(total, clean)
        chair = share(total["hallucinated"], total["mentions"])
        cover = share(total["covered"], total["truth"])
        return {
            "f1": harmonic(100 - chair, cover),
            "chair": chair,
            "cover": cover,
            "hal": share(total["answers"] - clean, total["answers"]),
            "cog": share(total["marked"], total["imagined"]),
        }

    @cached_property
    def _associates(self) -> dict[str, list[str]]:
        found = _read_json(self.association)
        if not isinstance(found, dict) or not all(isinstance(value, list) for value in found.values()):
            raise MetricError(
                f"{self.association} is not AMBER's relation.json, a word's associates by word. {WHERE}."
            )
        return {str(word): [str(one) for one in others] for word, others in found.items()}

    @cached_property
    def _vocabulary(self) -> frozenset[str]:
        return frozenset(self._associates).union(*self._associates.values())

    @cached_property
    def _safe(self) -> frozenset[str]:
        try:
            return frozenset(Path(self.safe_words).read_text(encoding="utf-8").split("\n")) - {""}
        except (OSError, UnicodeDecodeError) as error:
            raise MetricError(f"AMBER's safe words cannot be read: {error}. {WHERE}.") from error

    @cached_property
    def _similarity(self) -> Similarity:
        return self.similarity or spacy_similarity()

    def _look(self, answer: Answer) -> tuple[int, int, int, int, int, int]:
        """The counts of one answer, in the order of `columns`."""
        truth, imagined = (self._objects(answer.item, key) for key in ("truth", "hallu"))
        mentions = [noun for noun in self.nouns(answer.text) if noun in self._vocabulary]
        covered: set[int] = set()
        marked: set[int] = set()
        hallucinated = 0
        for noun in mentions:
            if noun in self._safe:
                continue
            if (place := truth.exactly(noun)) is not None:
                covered.add(place)
                continue
            same = imagined.exactly(noun)
            marked |= set() if same is None else {same}
            if same is None or self.quirks == "published":
                near = imagined.nearly(noun, self._similarity, self.threshold)
                marked |= set() if near is None else {near}
            near = truth.nearly(noun, self._similarity, self.threshold)
            covered |= set() if near is None else {near}
            hallucinated += near is None
        return len(mentions), hallucinated, len(truth.names), len(covered), len(imagined.names), len(marked)

    def _objects(self, item: Item, key: str) -> _Objects:
        names = [str(name) for name in need(item, key, "AMBER's list of objects")]
        unknown = [name for name in names if name not in self._associates]
        if unknown:
            raise MetricError(f"Item {item.id!r}: {unknown[0]!r} of {key!r} is not in {self.association}.")
        associates = [(other, place) for place, name in enumerate(names) for other in self._associates[name]]
        return _Objects(names, [*associates, *((name, place) for place, name in enumerate(names))])


@dataclass(frozen=True)
class _Objects:
    """Objects of a picture: their names, and each word for one of them with its place, associates first."""

    names: list[str]
    words: list[tuple[str, int]]

    def exactly(self, noun: str) -> int | None:
        """The place of the object that a noun is a word for."""
        return next((place for word, place in self.words if word == noun), None)

    def nearly(self, noun: str, similarity: Similarity, threshold: float) -> int | None:
        """The place of the first object that a noun is similar to a word for."""
        return next((place for word, place in self.words if similarity(noun, word) > threshold), None)


def _published(total: dict[str, float], clean: float) -> dict[str, float]:
    def percent(part: str, whole: str) -> float:
        return round(total[part] / (total[whole] + START) * 100, 1)

    found = {
        "chair": percent("hallucinated", "mentions"),
        "cover": percent("covered", "truth"),
        "hal": round(100 - clean / (total["answers"] + START) * 100, 1),
        "cog": percent("marked", "imagined"),
    }
    return {"f1": harmonic(100 - found["chair"], found["cover"]), **found}


def _read_json(path: str | Path) -> object:
    try:
        return read_json(Path(path))
    except FileError as error:
        raise MetricError(f"AMBER's word associations: {error} {WHERE}.") from error
