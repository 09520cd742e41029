# SPDX-License-Identifier: Apache-2.0
"""Rationales: overlap with a reference text."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .base import PARSED, Answer, Column, Columns, Figures, MetricError
from .columns import Quirks, check_quirks, column, groups, mean, need


Embedder = Callable[[Sequence[str]], npt.NDArray[Any]]  # texts -> one vector a text


@dataclass(frozen=True)
class TextOverlap:
    """Overlap of a rationale with a reference (ScienceQA, arXiv 2209.09513; MM-CoT, arXiv 2302.00923; ARES).

    Figures, 100 * the mean over items with a reference: `bleu1` and `bleu4` (Papineni et al. 2002, of a sentence,
    without smoothing; words are parted by blanks and full stops); `rouge_l`, the F1 of the different words that the
    longest common subsequences of the two texts' sentences (parted by full stops) have, among the different words of
    each text (Lin 2004); `similarity`, the cosine of sentence vectors, if there is an embedder.
    Truth: `reference`, a text; an item whose reference is empty is left out.

    An empty answer is 0 in all of them. With quirks="published" it is left out of `rouge_l`, and a blank behind the
    last full stop is a word there.

    Attributes:
        embedder: texts -> vectors, or the name of a sentence-transformers model such as `all-MiniLM-L6-v2`.
        quirks: what is done with empty answers.
    """

    embedder: Embedder | str | None = None
    quirks: Quirks = "fixed"
    name: ClassVar[str] = "text_overlap"
    headline: ClassVar[str] = "rouge_l"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_quirks(self.quirks)

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        pairs = [
            (str(need(answer.item, "reference", "the reference text")).strip(), answer.text) for answer in answers
        ]
        published = self.quirks == "published"
        found = {
            "bleu1": column(bleu(reference, text, 1) for reference, text in pairs),
            "bleu4": column(bleu(reference, text, 4) for reference, text in pairs),
            "rouge_l": column(rouge_l(reference, text, published) for reference, text in pairs),
            "reference": column(bool(reference) for reference, _ in pairs),
            PARSED: column(bool(text if published else text.strip()) for _, text in pairs),
        }
        similar = {} if self.embedder is None else {"similarity": self._similarity(pairs)}
        return {**found, **similar, **groups(answers)}

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        weight = columns["reference"]
        said = weight * columns[PARSED] if self.quirks == "published" else weight
        return {
            name: 100 * mean(columns[name], said if name == "rouge_l" else weight)
            for name in ("bleu1", "bleu4", "rouge_l", "similarity")
            if name in columns
        }

    @cached_property
    def _embedder(self) -> Embedder:
        if not isinstance(self.embedder, str):
            assert self.embedder is not None
            return self.embedder
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MetricError(
                f"The embedder {self.embedder} needs sentence-transformers: pip install sentence-transformers"
            ) from error
        encode: Embedder = SentenceTransformer(self.embedder).encode
        return encode

    def _similarity(self, pairs: Sequence[tuple[str, str]]) -> Column:
        said = [place for place, (reference, text) in enumerate(pairs) if reference and text.strip()]
        found = np.zeros(len(pairs))
        if said:
            first, second = (
                np.asarray(self._embedder([pairs[place][side] for place in said]), np.float64) for side in (0, 1)
            )
            length = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
            found[said] = (first * second).sum(axis=1) / np.where(length > 0, length, 1)
        return found


def bleu(reference: str, text: str, order: int) -> float:
    """BLEU of one sentence, with equal weights of n-grams up to an order and no smoothing, from 0 to 1."""
    words, said = _words(reference), _words(text)
    logs = 0.0
    for size in range(1, order + 1):
        grams = Counter(zip(*(said[start:] for start in range(size)), strict=False))
        known = Counter(zip(*(words[start:] for start in range(size)), strict=False))
        matches = sum((grams & known).values())
        if not matches:
            return 0.0
        logs += math.log(matches / sum(grams.values())) / order
    return min(1.0, math.exp(1 - len(words) / len(said))) * math.exp(logs)


def rouge_l(reference: str, text: str, published: bool = False) -> float:
    """ROUGE-L F1 of whole texts by different words, from 0 to 1; see `TextOverlap`.

    Args:
        reference: the reference.
        text: what is compared with it.
        published: a sentence of blanks only is an empty word.
    """
    first, second = _sentences(reference, published), _sentences(text, published)
    known, said = ({word for sentence in side for word in sentence} for side in (first, second))
    if not known or not said:
        return 0.0
    common = {word for one in second for other in first for word in common_subsequence(one, other)}
    return 2 * len(common) / (len(said) + len(known))


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """A longest common subsequence, in time linear in words for texts of ordinary length (Hyyrö 2004).

    Of several, the one that the published code goes back to: it leaves words of the second text out first.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(first)) - 1
    rows = [full]
    for word in second:
        match = rows[-1] & places.get(word, 0)
        rows.append(((rows[-1] + match) | (rows[-1] - match)) & full)

    def length(end: int, row: int) -> int:
        """Of the first `end` words of one text and the first `row` of the other."""
        return end - (rows[row] & ((1 << end) - 1)).bit_count()

    found, end, row = [], len(first), len(second)
    while end and row:
        if first[end - 1] == second[row - 1]:
            found.append(first[end - 1])
            end, row = end - 1, row - 1
        elif length(end - 1, row) > length(end, row - 1):
            end -= 1
        else:
            row -= 1
    return found[::-1]


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"\s|\.", text) if word]


def _sentences(text: str, published: bool) -> list[list[str]]:
    parts = [" ".join(part.split()) for part in text.split(".") if part]
    return [part.split(" ") for part in parts if part or published]
