# SPDX-License-Identifier: Apache-2.0
"""Figures of questions and samples for `mmself build ares`, computed by the metrics of benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.questions import Question
from ..generate.types import Engine
from .metrics.accuracy import scienceqa_kinds
from .metrics.base import PARSED, Answer, Item, summarise
from .metrics.rationale import Embedder, TextOverlap
from .metrics.win_rate import WinRate
from .scoring import figure_values
from .stats import Interval, wilson
from .verdicts import replies


#: Kinds of the metric `scienceqa`, by their names in the report, where these differ.
_NAMES = {"text": "has_text", "image": "has_image"}
KINDS = (
    *("natural", "social", "language", "has_text", "has_image", "no_context"),
    *("grade_1_6", "grade_7_12", "average"),
)


@dataclass(frozen=True)
class Overlap:
    """Means over the pairs that have a reference; see the metric `text_overlap`.

    Attributes:
        pairs: how many there are.
        empty: predictions without a word; they count as 0.
        bleu1: from 0 to 1, as the others.
        bleu4: BLEU of n-grams up to four words.
        rouge_l: F1 of the longest common subsequences' words.
        similarity: cosine of sentence embeddings; None without an embedder.
    """

    pairs: int
    empty: int
    bleu1: float
    bleu4: float
    rouge_l: float
    similarity: float | None


def overlap(
    references: Mapping[str, str], predictions: Mapping[str, str], embedder: Embedder | str | None = None
) -> Overlap:
    """Compares rationales with references, by question.

    Args:
        references: empty ones are passed over.
        predictions: one without a reference is passed over.
        embedder: see `TextOverlap`.

    Raises:
        ValueError: no pair is left.
    """
    pairs = {name: (references[name], text) for name, text in predictions.items() if references.get(name, "").strip()}
    if not pairs:
        raise ValueError("No rationale has a reference to be compared with.")
    metric = TextOverlap(embedder)
    columns = metric.columns(
        [Answer(Item(name, "", (), {"reference": wanted}), text) for name, (wanted, text) in pairs.items()]
    )
    figures = {name: value / 100 for name, value in metric.figures(columns).items()}
    return Overlap(
        pairs=len(pairs),
        empty=len(pairs) - int(columns[PARSED].sum()),
        bleu1=figures["bleu1"],
        bleu4=figures["bleu4"],
        rouge_l=figures["rouge_l"],
        similarity=figures.get("similarity"),
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


def win_rate(
    questions: Sequence[Question],
    ours: Mapping[str, str],
    theirs: Mapping[str, str],
    judge: Engine,
    cache: Path,
    *,
    rubric: Path | None = None,
    picture: bool = True,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """How often a judge prefers our rationales; see the metric `win_rate`.

    Args:
        questions: that the rationales are about; those with an answer show it to the judge.
        ours: question -> rationale.
        theirs: the other model's.
        judge: who is asked, in both orders.
        cache: JSONL file of the judge's replies; nothing is asked twice.
        rubric: the user's own.
        picture: whether the judge gets the pictures.
        draws: of the bootstrap over questions.
        seed: of the bootstrap.

    Returns:
        `figures` (`win_rate`, `win`, `tie`, `lose` in percent, each with `value`, `low`, `high`), `pairs`, `unparsed`,
        `unpaired` (questions that one of the two lacks), `judge`, `rubric`, `metric`, `seed`, `draws`.

    Raises:
        ValueError: no question has both.
        EngineError: the judge cannot answer; what it said before is in the cache.
    """
    metric = WinRate(picture=picture)
    pairs = [question for question in questions if question.id in ours and question.id in theirs]
    if not pairs:
        raise ValueError("No question has a rationale in both files of samples: do they answer the same questions?")
    items = [
        Item(
            question.id,
            question.block,
            question.images,
            {"baseline": theirs[question.id], **({"reference": question.answer} if question.answer else {})},
        )
        for question in pairs
    ]
    prompt = metric.rubric(rubric)
    verdicts = replies(judge, prompt, metric.form, [metric.questions(item, ours[item.id]) for item in items], cache)
    answers = [Answer(item, ours[item.id], verdict) for item, verdict in zip(items, verdicts, strict=True)]
    columns = metric.columns(answers)
    figures = summarise(columns, metric.figures, draws=draws, seed=seed)
    seen = {question.id for question in questions}
    return {
        "figures": {name: figure_values(figure) for name, figure in figures.items()},
        "pairs": len(pairs),
        "unparsed": len(pairs) - int(columns[PARSED].sum()),
        "unpaired": len((ours.keys() ^ theirs.keys()) & seen),
        "judge": judge.policy,
        "rubric": prompt.digest,
        "metric": {"name": metric.name, "version": metric.version},
        "seed": seed,
        "draws": draws,
    }


def by_kind(questions: Sequence[Question], correct: Mapping[str, bool]) -> dict[str, Share]:
    """Accuracy by subject, modality and grade, over the questions that have an answer.

    Args:
        questions: with `subject`, `grade` and `hint` among their further fields.
        correct: question -> whether its answer is right; unparsed answers are wrong.
    """
    groups: dict[str, list[bool]] = {name: [] for name in KINDS}
    for question in questions:
        if question.id in correct:
            for kind in (*scienceqa_kinds(question.extra, bool(question.images)), "average"):
                groups.get(_NAMES.get(kind, kind), []).append(correct[question.id])
    return {name: Share(sum(right), len(right)) for name, right in groups.items()}
