# SPDX-License-Identifier: Apache-2.0
"""Object HalBench: a judge lists the objects of a description, which are compared with COCO's annotations."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from ...generate.forms import Form
from ...generate.judge import JudgeItem
from .base import PARSED, Answer, Columns, Figures, Item, MetricError
from .coco import Synonyms, coco_objects, objects_of_list
from .columns import Quirks, check_quirks, column, groups, harmonic, mean, need, share
from .judged import Judged, asked
from .taggers import Tagger, Words, nltk_words, spacy_tagger


SHORTEST = 3  # answers of up to so many words name no objects
_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class ObjectList:
    """A reply that is, or ends in, a JSON list of texts, in a code block or not."""

    @property
    def values(self) -> Mapping[str, str]:
        """None."""
        return {}

    def parse(self, text: str) -> list[str] | None:
        """The objects, which may be none; None if there is no such list."""
        lines = text.strip().split("\n")
        for part in (*reversed(_FENCED.findall(text)), text, lines[-1], text[text.rfind("[") :]):
            try:
                found = json.loads(part)
            except json.JSONDecodeError:
                continue
            if isinstance(found, list) and all(isinstance(one, str) for one in found):
                return found
        return None


@dataclass(frozen=True)
class ObjectHal(Judged):
    """Object HalBench (CHAIR, arXiv 1809.02156, as RLHF-V, arXiv 2312.00849, uses it).

    A judge lists the visible objects of an answer (answers of up to three words have none). They become COCO classes
    by the synonym list, pairs of words first, then runs of nouns; equal objects of an answer count once. Figures, in
    percent: `chair_i`, wrong objects / objects; `chair_s`, answers with a wrong object / answers with any object;
    `precision` = 100 - chair_i; `recall`, right classes named / classes in the pictures; `f1` of the two; `length`,
    mean number of words of an answer.
    Truth: `objects`, the picture's classes (or synonyms of them), or `image_id` where `annotations` is given, from
    which the classes are taken: segmented ones, and those that COCO's five captions name.

    Replies without a list are left out of all figures, and counted by the column `parsed`. The original asks a hundred
    times and breaks off then; with quirks="published" such an answer has no objects. Without any object all shares are
    0, where the original divides by zero.

    Attributes:
        synonyms: path of the official `synonyms_refine.txt`, a class a line with its synonyms.
        annotations: folder of COCO 2014's `instances_*.json` and `captions_*.json`.
        tagger: lemmas and tags of a text; by default spaCy's `en_core_web_trf`.
        words: lemmas of a caption; by default NLTK.
        quirks: what is done with unreadable replies.
    """

    synonyms: str | Path
    annotations: str | Path | None = None
    tagger: Tagger | None = None
    words: Words = nltk_words
    quirks: Quirks = "fixed"
    name: ClassVar[str] = "object_hal"
    headline: ClassVar[str] = "f1"
    version: ClassVar[int] = 1
    prompt: ClassVar[str] = "eval_object_hal.txt"
    placeholders: ClassVar[tuple[str, ...]] = ("question", "answer")
    form: ClassVar[Form] = ObjectList()

    def __post_init__(self) -> None:
        check_quirks(self.quirks)

    def question(self, item: Item, text: str) -> JudgeItem | None:
        """What the judge is asked; None for an answer that is too short to name objects."""
        if len(text.split()) <= SHORTEST:
            return None
        return JudgeItem(item.id, {"question": asked(item), "answer": text})

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        self.need_verdicts(answers)
        truths = self._truths([answer.item for answer in answers])
        found = [self._look(answer, truth) for answer, truth in zip(answers, truths, strict=True)]
        names = ("objects", "wrong", "right_classes", "classes", PARSED)
        counts = {name: column(row[place] for row in found) for place, name in enumerate(names)}
        return {**counts, "words": column(len(a.text.strip().split(" ")) for a in answers), **groups(answers)}

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        read = columns[PARSED] if self.quirks == "fixed" else columns[PARSED] * 0 + 1
        total = {name: float((values * read).sum()) for name, values in columns.items()}
        chair_i = share(total["wrong"], total["objects"])
        recall = share(total["right_classes"], total["classes"])
        hallucinated = float((read * (columns["wrong"] > 0)).sum())
        precision = 100 - chair_i if total["objects"] else 0.0
        return {
            "f1": harmonic(precision, recall),
            "chair_i": chair_i,
            "chair_s": share(hallucinated, float((read * (columns["objects"] > 0)).sum())),
            "precision": precision,
            "recall": recall,
            "length": mean(columns["words"]),
        }

    @cached_property
    def _synonyms(self) -> Synonyms:
        return Synonyms.read(Path(self.synonyms))

    @cached_property
    def _tagger(self) -> Tagger:
        return self.tagger or spacy_tagger()

    def _truths(self, items: Sequence[Item]) -> list[set[str]]:
        unknown = {
            int(need(item, "image_id", "'objects' or 'image_id'")) for item in items if "objects" not in item.truth
        }
        if unknown and self.annotations is None:
            raise MetricError(
                "Object HalBench needs COCO's annotations: give their folder as `annotations`, or each item's classes "
                "as 'objects' in its truth."
            )
        known = coco_objects(Path(self.annotations or ""), unknown, self._synonyms, self.words) if unknown else {}
        return [
            {self._synonyms.class_of(str(name), item) for name in item.truth["objects"]}
            if "objects" in item.truth
            else known[int(item.truth["image_id"])]
            for item in items
        ]

    def _look(self, answer: Answer, truth: set[str]) -> tuple[int, int, int, int, bool]:
        """The counts of one answer, in the order of `columns`."""
        asked = self.question(answer.item, answer.text) is not None
        listed = self.form.parse(answer.verdict or "") if asked else []
        classes = objects_of_list(listed or [], self._synonyms, self._tagger)
        wrong = sum(one not in truth for one in classes)
        return len(classes), wrong, len(truth & set(classes)), len(truth), listed is not None
