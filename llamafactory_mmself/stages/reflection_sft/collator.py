# SPDX-License-Identifier: Apache-2.0
"""LLaMA-Factory's collator, with the kind of each token."""

from __future__ import annotations

from typing import Any

import torch

from ...plugin import lf
from .rows import KIND_BITS


class KindCollator(lf.SFTDataCollatorWith4DAttentionMask):
    """Batches as stage `sft` makes them, plus `kinds` [batch, tokens]: an id for each label, 0 elsewhere.

    The ids travel inside the labels, so that they are padded, cut and moved with them.
    """

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """Collates rows."""
        rows = [{name: value for name, value in row.items() if name not in ("kinds", "pair")} for row in features]
        if any("kinds" not in row for row in features):
            return super().__call__(rows)
        for row, feature in zip(rows, features, strict=True):
            coded = zip(row["labels"], feature["kinds"], strict=True)
            row["labels"] = [label if label < 0 else label | kind << KIND_BITS for label, kind in coded]
        batch = super().__call__(rows)
        coded = batch["labels"]
        labels = torch.where(coded < 0, coded, coded & ((1 << KIND_BITS) - 1))
        batch["labels"] = labels
        if "data" in batch:  # models that take their batch in one piece
            batch["data"]["labels"] = labels
        batch["kinds"] = torch.where(coded < 0, 0, coded >> KIND_BITS)
        return batch
