# SPDX-License-Identifier: Apache-2.0
"""Captions of the toy world, whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from .base import PARSED, Answer, Columns, Figures, MetricError
from .columns import column, groups, harmonic, need, share


@dataclass(frozen=True)
class ToyCaptions:
    """Hallucination in captions of the toy world, after CHAIR (arXiv 1809.02156); see `toyworld.language`.

    Figures, in percent: `chair_i`, named things that are not there / named things; `chair_s`, captions that name one /
    captions; `coverage`, different things that are there and named / different things that are there; `f1` of
    100 - chair_i (0 where nothing is named) and coverage; `unread`, captions with a sentence that the toy world cannot
    read, whose things are not counted. A caption without any sentence that can be read is unparsed.
    Truth: `scene`, as the toy world writes it.
    """

    name: ClassVar[str] = "toy_captions"
    headline: ClassVar[str] = "f1"
    version: ClassVar[int] = 1

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """See `Metric.columns`."""
        from ...toyworld.errors import ToyWorldError
        from ...toyworld.language import hallucinated, sentences
        from ...toyworld.scenes import Scene

        found = []
        for answer in answers:
            try:
                scene = Scene.parse(str(need(answer.item, "scene", "the scene of the toy world")))
            except ToyWorldError as error:
                raise MetricError(f"Item {answer.item.id!r}, 'scene': {error}") from error
            seen = hallucinated(answer.text, scene)
            read = any(sentence.form is not None for sentence in sentences(answer.text, scene))
            found.append((len(seen.named), len(seen.absent), seen.present, seen.covered, seen.unread > 0, read))
        names = ("named", "absent", "present", "covered", "unread", PARSED)
        return {**{name: column(row[n] for row in found) for n, name in enumerate(names)}, **groups(answers)}

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        total, size = {name: float(values.sum()) for name, values in columns.items()}, len(columns[PARSED])
        chair, coverage = share(total["absent"], total["named"]), share(total["covered"], total["present"])
        return {
            "f1": harmonic(100 - chair if total["named"] else 0.0, coverage),
            "chair_i": chair,
            "chair_s": share(float((columns["absent"] > 0).sum()), size),
            "coverage": coverage,
            "unread": share(total["unread"], size),
        }
