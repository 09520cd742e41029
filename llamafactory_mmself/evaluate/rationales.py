# SPDX-License-Identifier: Apache-2.0
"""Rationales against references, and accuracy by kind of question (ScienceQA, arXiv 2209.09513)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ..data.questions import Question
from .stats import Interval, wilson


Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]

_BLANK = re.compile(r"[\s.]+")
_SUBJECTS = ("natural science", "social science", "language science")


def bleu(reference: str, prediction: str, order: int) -> float:
    """BLEU of one pair with equal weights up to an order (Papineni et al. 2002), from 0 to 1, without smoothing.

    Tokens are parted by blanks and full stops. 0 where some order has no match.
    """
    wanted, found = _words(reference), _words(prediction)
    if not found:
        return 0.0
    logs = []
    for size in range(1, order + 1):
        ours, theirs = _grams(found, size), _grams(wanted, size)
        matches = sum(min(count, theirs[gram]) for gram, count in ours.items())
        if not matches:
            return 0.0
        logs.append(math.log(matches / sum(ours.values())))
    brevity = min(0.0, 1 - len(wanted) / len(found))
    return math.exp(brevity + fmean(logs))


def rouge_l(reference: str, prediction: str) -> float:
    """F1 of the longest common subsequence of words (Lin, 2004), from 0 to 1."""
    wanted, found = _words(reference), _words(prediction)
    if not wanted or not found:
        return 0.0
    best = [0] * (len(found) + 1)
    for word in wanted:
        diagonal = 0
        for place, other in enumerate(found, start=1):
            diagonal, best[place] = best[place], diagonal + 1 if word == other else max(best[place], best[place - 1])
    return 2 * best[-1] / (len(wanted) + len(found))


@dataclass(frozen=True)
class Overlap:
    """Means over the pairs that have a reference.

    Attributes:
        pairs: how many there are.
        empty: predictions without a word; they count as 0.
        bleu1: from 0 to 1, as the others.
        bleu4: see `bleu`.
        rouge_l: see `rouge_l`.
        similarity: cosine of sentence embeddings; None without an embedder.
    """

    pairs: int
    empty: int
    bleu1: float
    bleu4: float
    rouge_l: float
    similarity: float | None


def overlap(references: Mapping[str, str], predictions: Mapping[str, str], embed: Embed | None = None) -> Overlap:
    """Compares rationales with references, by question.

    Args:
        references: those without a word are passed over.
        predictions: one without a reference is passed over.
        embed: texts to vectors, such as a sentence-transformers model's `encode`.

    Raises:
        ValueError: no pair is left.
    """
    names = [name for name in predictions if _words(references.get(name, ""))]
    if not names:
        raise ValueError("No rationale has a reference to be compared with.")
    pairs = [(references[name], predictions[name]) for name in names]
    similarity = None
    if embed is not None:
        vectors = (embed([text for text, _ in pairs]), embed([text for _, text in pairs]))
        similarity = fmean(_cosine(one, other) for one, other in zip(*vectors, strict=True))
    return Overlap(
        pairs=len(pairs),
        empty=sum(not _words(text) for _, text in pairs),
        bleu1=fmean(bleu(*pair, 1) for pair in pairs),
        bleu4=fmean(bleu(*pair, 4) for pair in pairs),
        rouge_l=fmean(rouge_l(*pair) for pair in pairs),
        similarity=similarity,
    )


@dataclass(frozen=True)
class Share:
    """Right answers of a kind of question, with Wilson's interval; `accuracy` is None where there are none."""

    right: int
    total: int

    @property
    def accuracy(self) -> float | None:
        """From 0 to 1."""
        return self.right / self.total if self.total else None

    @property
    def interval(self) -> Interval:
        """95 %."""
        return wilson(self.right, self.total)


def by_kind(questions: Sequence[Question], correct: Mapping[str, bool]) -> dict[str, Share]:
    """Accuracy by subject, modality and grade, over the questions that have an answer.

    Args:
        questions: with `subject`, `grade` and `hint` among their further fields.
        correct: question -> whether its answer is right; unparsed answers are wrong.
    """
    groups: dict[str, list[bool]] = {}
    names = ["natural", "social", "language", "has_text", "has_image", "no_context"]
    names += ["grade_1_6", "grade_7_12", "average"]
    for question in questions:
        if question.id in correct:
            for kind in _kinds(question):
                groups.setdefault(kind, []).append(correct[question.id])
    return {name: Share(sum(groups.get(name, ())), len(groups.get(name, ()))) for name in names}


def _kinds(question: Question) -> list[str]:
    extra = question.extra
    kinds = ["average"]
    if extra.get("subject") in _SUBJECTS:
        kinds.append(str(extra["subject"]).partition(" ")[0])
    kinds += ["has_text"] * bool(extra.get("hint")) + ["has_image"] * bool(question.images)
    kinds += ["no_context"] * (not extra.get("hint") and not question.images)
    grade = str(extra.get("grade", "")).removeprefix("grade")
    if grade.isdigit():
        kinds.append("grade_1_6" if int(grade) <= 6 else "grade_7_12")
    return kinds


def _words(text: str) -> list[str]:
    return [word for word in _BLANK.split(text) if word]


def _grams(words: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[place : place + size]) for place in range(len(words) - size + 1))


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    lengths = math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))
    return float(product / lengths) if lengths else 0.0
