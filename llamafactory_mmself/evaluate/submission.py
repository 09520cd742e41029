# SPDX-License-Identifier: Apache-2.0
"""Predictions in the form that a benchmark's own server takes, for benchmarks whose answers are not published."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from .. import verify
from ..files import write_text
from .metrics.base import Item
from .metrics.reading import choices_of
from .predictions import Prediction


SUBMISSION = "submission.tsv"
_MMBENCH = ("index", "question", "A", "B", "C", "D", "prediction")


@dataclass(frozen=True)
class Submission:
    """A file for a benchmark's server.

    Attributes:
        file: where it is.
        unparsed: answers that no option could be read from; they stand in it as the model said them.
    """

    file: Path
    unparsed: int


def mmbench(folder: Path, items: Sequence[Item], predictions: Sequence[Prediction]) -> Submission:
    """Writes `submission.tsv` as MMBench's server takes it, the same table that VLMEvalKit leaves.

    Args:
        folder: of the task's results.
        items: questions; truth: `index`, `question`, `choices`.
        predictions: one for each item, in the same order.
    """
    letters = [_letter(item, each.text) for item, each in zip(items, predictions, strict=True)]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _MMBENCH, delimiter="\t", lineterminator="\n", restval="")
    writer.writeheader()
    for item, each, letter in zip(items, predictions, letters, strict=True):
        options = dict(zip("ABCD", choices_of(item), strict=False))
        asked = {"index": item.truth["index"], "question": item.truth["question"]}
        writer.writerow({**asked, **options, "prediction": letter or each.text.strip()})
    write_text(folder / SUBMISSION, buffer.getvalue())
    return Submission(folder / SUBMISSION, letters.count(None))


def _letter(item: Item, text: str) -> str | None:
    """The option that an answer chooses; None where that is not clear."""
    unknown = "A"  # the truth, which plays no part in reading
    verdict = verify.check("letters", text, unknown, choices=choices_of(item), question=item.prompt)
    return verdict.answer if verdict.parsed else None


#: What a task's file calls a form -> what writes it.
FORMS: Mapping[str, Callable[[Path, Sequence[Item], Sequence[Prediction]], Submission]] = MappingProxyType(
    {"mmbench": mmbench}
)
