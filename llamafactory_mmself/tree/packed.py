# SPDX-License-Identifier: Apache-2.0
"""The packed engine: each tree is one row that holds every segment once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .attention import attention_input
from .batch import Batch, DenseCollator, Path, Paths, Row, dense_rows, pad, padded, scored_tokens
from .dense import DenseScorer
from .media import distinct
from .sample import ROOT, SampleTree


#: Model types that run packed, and the decoders among theirs: full causal attention in every layer.
PACKABLE = frozenset({"llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"})
PACKABLE_DECODERS = frozenset({"llama", "mistral", "qwen2", "qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text"})


@dataclass(frozen=True)
class PackedTree:
    """A tree as one row, its nodes in preorder.

    Attributes:
        row: ids and media.
        ends: for each token, the place where the subtree of its node ends.
        paths: leaf -> places of its path's tokens.
    """

    row: Row
    ends: tuple[int, ...]
    paths: dict[int, tuple[int, ...]]

    @classmethod
    def of(cls, tree: SampleTree) -> PackedTree:
        """Lays a tree out; nodes that no role needs are left out."""
        order = _preorder(tree)
        starts: dict[int, int] = {}
        length = 0
        for place in order:
            starts[place] = length
            length += len(tree.nodes[place].ids)
        ends = {place: starts[place] + len(tree.nodes[place].ids) for place in order}
        for place in reversed(order):
            parent = tree.nodes[place].parent
            if parent != ROOT:
                ends[parent] = max(ends[parent], ends[place])
        nodes = [tree.nodes[place] for place in order]
        return cls(
            row=Row(
                tuple(token for node in nodes for token in node.ids),
                tuple(medium for node in nodes for medium in node.media),
            ),
            ends=tuple(ends[place] for place in order for _ in tree.nodes[place].ids),
            paths={
                leaf: tuple(
                    token
                    for place in tree.lineage(leaf)
                    for token in range(starts[place], starts[place] + len(tree.nodes[place].ids))
                )
                for leaf in tree.leaves
            },
        )

    def beside(self, other: Row) -> PackedTree:
        """With another sequence at the end, which neither sees this tree nor is seen by it."""
        row = Row(self.row.ids + other.ids, self.row.media + other.media)
        return PackedTree(row, self.ends + (len(row.ids),) * len(other.ids), self.paths)


def _preorder(tree: SampleTree) -> list[int]:
    """Nodes on scored paths, each before its children and its children's subtrees in one piece."""
    needed = sorted({place for leaf in tree.leaves for place in tree.lineage(leaf)}, reverse=True)
    children: dict[int, list[int]] = {}
    for place in needed:
        children.setdefault(tree.nodes[place].parent, []).append(place)
    order: list[int] = []
    waiting = children[ROOT]
    while waiting:
        place = waiting.pop()
        order.append(place)
        waiting += children.get(place, [])
    return order


@dataclass(frozen=True)
class PackedCollator:
    """Lays each tree out as one row.

    The batch is that of `DenseCollator`, with `subtree_ends` [n, t] in place of `attention_mask` (see `attention`),
    with `position_ids` for every family: a token has the position that it has in the dense rows it is part of; and
    with `dense_tokens`, the number of tokens that the dense batch would have.

    Args:
        dense: the collator of the same model; it gives positions and opens pictures.
    """

    dense: DenseCollator

    def __call__(self, trees: Sequence[SampleTree], valid: Sequence[bool] | None = None) -> Batch:
        """Collates trees; see `DenseCollator`."""
        packed = [PackedTree.of(tree) for tree in trees]
        lone = None if any(item.row.media for item in packed) else self.dense.family.filler
        if lone is not None:
            shortest = min(range(len(packed)), key=lambda place: len(packed[place].row.ids))
            packed[shortest] = packed[shortest].beside(lone)
        rows = [item.row for item in packed]
        length = padded(max(len(row.ids) for row in rows), self.dense.pad_to_multiple_of)
        paths: Paths = [
            {leaf: Path(row, places) for leaf, places in item.paths.items()} for row, item in enumerate(packed)
        ]

        batch: Batch = {"valid": torch.tensor(list(valid or [True] * len(trees)))}
        batch["input_ids"] = pad([row.ids for row in rows], length, self.dense.pad_token_id)
        batch["subtree_ends"] = torch.stack([_ends(item.ends, length) for item in packed])
        batch |= self.dense.media(rows, length)
        dense, sources = dense_rows(trees)
        batch["position_ids"] = self._positions(dense, sources, paths, rows, batch)
        batch["dense_tokens"] = len(dense) * padded(max(len(row.ids) for row in dense), self.dense.pad_to_multiple_of)
        return batch | scored_tokens(trees, paths)

    def _positions(
        self, rows: Sequence[Row], sources: Paths, paths: Paths, packed: Sequence[Row], batch: Batch
    ) -> Tensor:
        """The positions of the dense rows' tokens, dealt out to the packed ones: [n, t] or [3, n, t]."""
        source = torch.zeros(*batch["input_ids"].shape, 2, dtype=torch.long)
        for found, wanted in zip(sources, paths, strict=True):
            for leaf, path in wanted.items():
                places = torch.tensor(path.places)
                source[path.row, places, 0] = found[leaf].row
                source[path.row, places, 1] = torch.arange(len(places))
        row, place = source.unbind(-1)
        if self.dense.family.rope_index is None:
            return place
        images, _ = distinct(medium for item in packed for medium in item.of("image"))
        known = {medium: number for number, medium in enumerate(images)}
        shown = [known[medium] for item in rows for medium in item.of("image")]
        dense = self.dense.tokens(rows, max(len(item.ids) for item in rows))
        dense |= {name: batch[name] for name in ("image_grid_thw",) if name in batch}
        dense["shared"] = {"images": torch.tensor(shown, dtype=torch.long)}
        return self.dense.positions(dense)[:, row, place]


def _ends(ends: Sequence[int], length: int) -> Tensor:
    """[length]; padding ends after itself."""
    return torch.cat([torch.tensor(ends, dtype=torch.long), torch.arange(len(ends), length) + 1])


class PackedScorer(DenseScorer):
    """Scores a packed batch with one forward of the wrapped model; dense batches too, as `DenseScorer` does."""

    def inputs(self, bare: nn.Module, batch: Batch) -> Batch:
        """Makes the mask on the model's device."""
        inputs = super().inputs(bare, batch)
        ends = inputs.pop("subtree_ends", None)
        return inputs if ends is None else {**inputs, "attention_mask": attention_input(bare, ends)}


def unpackable_model(bare: Any) -> str | None:
    """Why a model cannot run packed, or None."""
    kind = bare.config.model_type
    if kind not in PACKABLE:
        return f"models of type `{kind}` are not among those that run packed ({', '.join(sorted(PACKABLE))})"
    text = bare.config.get_text_config()
    if text.model_type not in PACKABLE_DECODERS:
        return f"its decoder `{text.model_type}` is not among those known to attend causally in every layer"
    if set(text.to_dict().get("layer_types") or ()) - {"full_attention"} or _slides(text):
        return "some of its layers do not attend to the whole context (sliding windows)"
    return None


def _slides(text: Any) -> bool:
    """Mistral slides as soon as there is a window; the Qwen models say so in their layer types."""
    return text.model_type == "mistral" and text.sliding_window is not None


def unpackable_tree(tree: SampleTree) -> str | None:
    """Why a sample cannot be packed, or None."""
    if any(medium.kind == "video" for node in tree.nodes for medium in node.media):
        return f"sample {tree.key} shows a video"
    return None
