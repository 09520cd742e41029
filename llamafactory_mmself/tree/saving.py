# SPDX-License-Identifier: Apache-2.0
"""What packing saves, by counting: fewer tokens, but each row's attention is over a longer row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .attention import SKIPPING
from .batch import Batch, DenseCollator, dense_rows, padded
from .packed import PackedCollator, PackedTree, unpackable_tree
from .sample import SampleTree


#: Packing has to save this share of the estimated work, or the batch stays dense.
LEAST_SAVING = 0.05

#: Multiplications of attention, softmax included, take about this many times as long as those of linear layers.
ATTENTION_SLOWNESS = 2.0


@dataclass(frozen=True)
class Work:
    """What the decoder has to do for a batch in one layout.

    Attributes:
        tokens: of all rows, padding included.
        pairs: of a query and a key that attention computes.
    """

    tokens: int = 0
    pairs: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.tokens + other.tokens, self.pairs + other.pairs)


@dataclass(frozen=True)
class Saving:
    """The work for the same trees in both layouts.

    Attributes:
        packed: one row a tree.
        dense: one row a leaf.
        shown: pictures in dense rows.
        distinct: pictures that go through the tower, in either layout.
    """

    packed: Work = Work()
    dense: Work = Work()
    shown: int = 0
    distinct: int = 0

    def __add__(self, other: Saving) -> Saving:
        return Saving(
            self.packed + other.packed,
            self.dense + other.dense,
            self.shown + other.shown,
            self.distinct + other.distinct,
        )


@dataclass(frozen=True)
class CostModel:
    """Estimates the decoder's work in units of one token through its linear layers.

    Head, tower and projector work the same for both layouts and are left out.

    Attributes:
        pair: cost of a query-key pair.
        skips: whether attention leaves out what the mask hides; otherwise it computes whole squares.
        multiple: rows are padded to a multiple of it.
    """

    pair: float
    skips: bool
    multiple: int = 8

    @classmethod
    def of(cls, bare: Any, attention: str) -> CostModel:
        """For a model whose decoder is built like Llama's."""
        text = bare.config.get_text_config()
        heads, hidden = text.num_attention_heads, text.hidden_size
        size = text.to_dict().get("head_dim") or hidden // heads
        weights = 2 * hidden * size * (heads + text.num_key_value_heads) + 3 * hidden * text.intermediate_size
        return cls(ATTENTION_SLOWNESS * 2 * heads * size / weights, attention in SKIPPING)

    def saving(self, trees: Sequence[SampleTree]) -> Saving:
        """Counts both layouts of a batch."""
        packed = [PackedTree.of(tree) for tree in trees]
        rows, _ = dense_rows(trees)
        return Saving(
            self._work([len(item.ends) for item in packed], sum(_seen(item) for item in packed)),
            self._work([len(row.ids) for row in rows], sum(_triangle(len(row.ids)) for row in rows)),
            sum(len(row.media) for row in rows),
            len({medium for row in rows for medium in row.media}),
        )

    def _work(self, lengths: Sequence[int], visible: int) -> Work:
        length = padded(max(lengths), self.multiple)
        return Work(len(lengths) * length, visible if self.skips else len(lengths) * length**2)

    def cost(self, work: Work) -> float:
        """The estimate."""
        return work.tokens + self.pair * work.pairs

    def gains(self, saving: Saving) -> bool:
        """Whether packing is worth it."""
        return self.cost(saving.packed) <= (1 - LEAST_SAVING) * self.cost(saving.dense)


def _triangle(length: int) -> int:
    return length * (length + 1) // 2


def _seen(tree: PackedTree) -> int:
    """Pairs of a query and a key that it sees."""
    return sum(end - place for place, end in enumerate(tree.ends))


@dataclass(frozen=True)
class ThriftyCollator:
    """Packs the batches that gain from it and lays the others out densely.

    The choice follows from the batch's trees alone, so that it is the same after a resume; ranks need not agree.

    Args:
        packed: packs.
        cost: says which batches gain; None: all are packed.
    """

    packed: PackedCollator
    cost: CostModel | None

    def __call__(self, trees: Sequence[SampleTree], valid: Sequence[bool] | None = None) -> Batch:
        """Collates trees; see `DenseCollator`.

        Raises:
            ValueError: if all have to be packed and a sample cannot be.
        """
        reason = next(filter(None, map(unpackable_tree, trees)), None)
        if self.cost is None:
            if reason is not None:
                raise ValueError(f"`tree_forward: packed` is impossible: {reason}. Set `tree_forward: auto`.")
            return self.packed(trees, valid)
        dense: DenseCollator = self.packed.dense
        if reason is not None or not self.cost.gains(self.cost.saving(trees)):
            return dense(trees, valid)
        return self.packed(trees, valid)
