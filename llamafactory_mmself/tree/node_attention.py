# SPDX-License-Identifier: Apache-2.0
"""Attention within a packed tree, node by node: the tokens of a node attend to the keys of their path alone.

With a mask, SDPA computes every pair of a row's tokens, most of which a tree hides: of the ten branches of a Sherlock
row, each sees a quarter of the row. Here each node is one call of SDPA with its ancestors' keys and its own. On a CPU
that is what FlexAttention's blocks are on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward


@dataclass(frozen=True)
class Run:
    """A run of tokens that see the same ancestors: a node, or a node and its only child.

    Attributes:
        length: tokens.
        above: numbers of the runs that are its ancestors, in order.
        alone: whether each token sees itself alone: padding.
    """

    length: int
    above: tuple[int, ...] = ()
    alone: bool = False


class TreeNodes(Tensor):
    """What stands for the mask, in a form that models hand through to their layers: a tensor that knows the runs.

    Attributes:
        runs: of each row.
    """

    runs: tuple[tuple[Run, ...], ...]

    @classmethod
    def of(cls, ends: Tensor) -> TreeNodes:
        """From where the subtree of each token's node ends, [n, t]."""
        nodes = Tensor._make_subclass(cls, torch.zeros(len(ends), 1, 1, 1, dtype=torch.int8, device=ends.device))
        nodes.runs = tuple(runs_of(row) for row in ends.tolist())
        return nodes


def runs_of(ends: Sequence[int]) -> tuple[Run, ...]:
    """The runs of a row.

    Args:
        ends: where the subtree of each token's node ends; padding ends after itself.
    """
    starts = [place for place in range(len(ends)) if place == 0 or ends[place] != ends[place - 1]]
    runs: list[Run] = []
    open_runs: list[tuple[int, int]] = []  # number and end of the runs that the present token is below of
    for start, stop in zip(starts, [*starts[1:], len(ends)], strict=True):
        open_runs = [(number, end) for number, end in open_runs if end > start]
        if not open_runs and ends[start] == start + 1:
            if runs and runs[-1].alone:
                runs[-1] = Run(runs[-1].length + 1, alone=True)
            else:
                runs.append(Run(1, alone=True))
            continue
        open_runs.append((len(runs), ends[start]))
        runs.append(Run(stop - start, tuple(number for number, _ in open_runs[:-1])))
    return tuple(runs)


def node_attention(query: Tensor, key: Tensor, value: Tensor, runs: Sequence[Run], scaling: float | None) -> Tensor:
    """Attention of one row, [1, t, heads, size].

    Pieces are split off and put together in one step each, so that backward adds up gradients of pieces instead of
    tensors as long as the row.

    Args:
        query: [1, heads, t, size].
        key: the same shape.
        value: the same shape.
        runs: the row's.
        scaling: of the scores.
    """
    lengths = [run.length for run in runs]
    queries, keys, values = (states.split(lengths, dim=2) for states in (query, key, value))
    found = []
    for number, run in enumerate(runs):
        if run.alone:
            found.append(values[number].transpose(1, 2))
            continue
        seen = (*run.above, number)
        found.append(
            F.scaled_dot_product_attention(
                queries[number],
                torch.cat([keys[place] for place in seen], 2) if run.above else keys[number],
                torch.cat([values[place] for place in seen], 2) if run.above else values[number],
                attn_mask=_below(run.length, sum(lengths[place] for place in seen), query) if run.above else None,
                is_causal=not run.above,
                scale=scaling,
            ).transpose(1, 2)
        )
    return torch.cat(found, 1)


def node_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """An attention function for transformers; dense batches, with a usual mask or none, go through SDPA.

    Raises:
        RuntimeError: what wraps the model has made another tensor of the tree.
    """
    if not isinstance(attention_mask, TreeNodes):
        if attention_mask is not None and attention_mask.dtype == torch.int8:
            raise RuntimeError("The tree was lost on its way to the layers; set `tree_forward: dense`.")
        output: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return output
    shared = query.shape[1] // key.shape[1]
    rows = zip(
        query.to(value.dtype).split(1),  # under autocast, rotating has made queries and keys fp32
        repeat_kv(key.to(value.dtype), shared).split(1),
        repeat_kv(value, shared).split(1),
        attention_mask.runs,
        strict=True,
    )
    found = [node_attention(*row, scaling) for row in rows]
    return found[0] if len(found) == 1 else torch.cat(found), None


def _below(length: int, seen: int, like: Tensor) -> Tensor:
    """Which keys the queries of a run see: all of the ancestors', and their own up to themselves; [length, seen]."""
    return torch.ones(length, seen, dtype=torch.bool, device=like.device).tril(seen - length)
