# SPDX-License-Identifier: Apache-2.0
"""From rows of a data set to batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..tree.batch import Batch, DenseCollator
from ..tree.sample import SampleTree
from .base import RunArguments, TreeStage
from .reference_cache import sample_ids
from .sampling import FILLER


class StageCollator:
    """Rows of a data set -> trees -> a batch.

    Attributes:
        dense: lays trees out densely.
        collate: lays trees out as this run does: densely, until another collator is put here. Data workers have a copy
            of their own, so that has to be done before the first batch.
    """

    def __init__(
        self, stage: TreeStage, run: RunArguments, rejected_crop: tuple[float, float] | None, dense: DenseCollator
    ) -> None:
        self._stage = stage
        self._run = run
        self._rejected_crop = rejected_crop
        self.dense = dense
        self.collate: Callable[[Sequence[SampleTree], Sequence[bool]], Batch] = dense

    def tree(self, row: dict[str, Any]) -> SampleTree:
        """The tree of a row."""
        return self._stage.tree(row, self._run, self._rejected_crop)

    def trees(self, rows: Sequence[dict[str, Any]]) -> list[SampleTree]:
        """The trees of rows."""
        return [self.tree(row) for row in rows]

    def __call__(self, rows: Sequence[dict[str, Any]]) -> Batch:
        """Collates rows; fillers are marked in `valid`."""
        trees = self.trees(rows)
        batch = self.collate(trees, [FILLER not in row for row in rows])
        return batch | {"samples": sample_ids(trees, rows)} if self._run.stage.ref_logps == "cache" else batch
