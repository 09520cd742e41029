# SPDX-License-Identifier: Apache-2.0
"""Trees with several sampled responses: names of their roles, and tables of what is known about their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tree.scores import ScoreTable


def role(number: int) -> str:
    """The name of a response's role."""
    return f"sample.{number}"


def stacked(table: ScoreTable, name: str, width: int, count: int | None = None) -> Tensor | None:
    """One kind of scores of all responses, [n, K, width]; None if the engine did not compute it.

    Args:
        table: scores of the roles `sample.0`, `sample.1`, ...
        name: logp, entropy or value.
        width: tokens, at least those of the longest response.
        count: K; zeros stand for responses that no sample of the batch has. By default all roles of the table are
            responses.
    """
    rows = []
    for number in range(len(table) if count is None else count):
        scores = table.get(role(number))
        values: Tensor | None = torch.zeros_like(rows[0]) if scores is None else vars(scores)[name]
        if values is None:
            return None
        rows.append(F.pad(values, (0, width - values.shape[-1])))
    return torch.stack(rows, 1)


def padded_table(rows: Sequence[Sequence[float]], width: int) -> Tensor:
    """[K, width], zeros on the right."""
    return torch.tensor([[*row, *[0.0] * (width - len(row))] for row in rows])


def filler_ids(tokenizer: Any) -> list[int]:
    """Different token ids, none of them special, for sketches of responses that have not been sampled yet."""
    letters = (tokenizer.encode(letter, add_special_tokens=False)[-1] for letter in "abcdefghijklmnopqrstuvwxyz")
    return sorted(set(letters))
