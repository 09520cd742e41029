# SPDX-License-Identifier: Apache-2.0
"""From sample trees to a dense batch: one padded row for each scored leaf."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .media import distinct, open_image
from .sample import Media, SampleTree


#: Tensors, and nested dicts of tensors and of notes for our own use. The first value has the number of samples as its
#: length.
Batch = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One sequence for the model: token ids and the media behind their placeholders, in order."""

    ids: tuple[int, ...]
    media: tuple[Media, ...]

    def of(self, kind: str) -> list[Media]:
        """The media of one kind."""
        return [medium for medium in self.media if medium.kind == kind]


@dataclass(frozen=True)
class Family:
    """How a model family takes its media.

    Attributes:
        image_inputs: pictures and videos in order -> tensors for the model's forward.
        cross_inputs: for models that see images by cross-attention (mllama): pictures of each distinct image set,
            the set of each row (-1: none), and the rows' ids -> tensors for the forward. None for the others.
        shares_tower: whether the dense engine knows how to run the vision tower once for each distinct picture.
        rope_index: the model's function for M-RoPE positions, or None.
        token_types: token id -> 1 for image and 2 for video placeholders, for `rope_index`.
        filler: a row with one small picture, used when a batch has none, so that every rank runs the tower.
    """

    image_inputs: Callable[[list[Image.Image], list[str]], dict[str, Tensor]]
    cross_inputs: Callable[[list[list[Image.Image]], list[int], list[Sequence[int]], int], dict[str, Tensor]] | None
    shares_tower: bool
    rope_index: Callable[..., tuple[Tensor, Tensor]] | None
    token_types: Mapping[int, int]
    filler: Row | None


@dataclass(frozen=True)
class DenseCollator:
    """Pads the rows of a list of trees and lays out where their scored tokens are.

    The batch holds

    - `valid` [n]: False for filler samples, which keep ranks in step and count for nothing;
    - what the model's forward takes: `input_ids`, `attention_mask`, `position_ids` (M-RoPE: [3, rows, t]), pixels;
    - `score`: `rows`, `positions`, `targets`, each [s]: the distinct scored tokens and the states that predict them;
    - `roles`: role -> {`index` [n, t] into those tokens, `mask` [n, t]};
    - `shared`: the distinct `pictures`, and which of them (or which set of them) each place in the rows shows;
    - `side`: the trees' own tensors, stacked to [n, ...].
    """

    family: Family
    pad_token_id: int
    pad_to_multiple_of: int = 8

    def __call__(self, trees: Sequence[SampleTree], valid: Sequence[bool] | None = None) -> Batch:
        """Collates trees; all of them need the same side tensors."""
        rows, paths = dense_rows(trees)
        if self.family.filler is not None and not any(row.media for row in rows):
            rows.append(self.family.filler)

        length = padded(max(len(row.ids) for row in rows), self.pad_to_multiple_of)
        batch: Batch = {"valid": torch.tensor(list(valid or [True] * len(trees)))}
        batch |= self.tokens(rows, length)
        batch |= self.media(rows, length)
        if self.family.rope_index is not None:
            batch["position_ids"] = self.positions(batch)
        return batch | scored_tokens(trees, paths)

    def tokens(self, rows: Sequence[Row], length: int) -> Batch:
        """`input_ids` and `attention_mask` of rows, padded on the right to `length`."""
        return {
            "input_ids": pad([row.ids for row in rows], length, self.pad_token_id),
            "attention_mask": pad([(1,) * len(row.ids) for row in rows], length, 0),
        }

    def media(self, rows: Sequence[Row], length: int) -> Batch:
        """Pixels and what belongs to them, for rows of ids; `length` is that of the padded rows."""
        if self.family.cross_inputs is not None:
            return self._cross_media(rows, length)

        images, index = distinct(medium for row in rows for medium in row.of("image"))
        videos = [medium.source for row in rows for medium in row.of("video")]
        pictures = [open_image(medium) for medium in images]
        if not self.family.shares_tower:
            return self.family.image_inputs([pictures[place] for place in index], videos)
        inputs: Batch = self.family.image_inputs(pictures, videos)
        return inputs | {"shared": {"images": torch.tensor(index, dtype=torch.long), "pictures": images}}

    def _cross_media(self, rows: Sequence[Row], length: int) -> Batch:
        assert self.family.cross_inputs is not None
        sets: dict[tuple[Media, ...], int] = {}
        places = [sets.setdefault(tuple(row.of("image")), len(sets)) if row.media else -1 for row in rows]
        opened = {medium: open_image(medium) for media in sets for medium in media}
        pictures = [[opened[medium] for medium in media] for media in sets]
        inputs: Batch = self.family.cross_inputs(pictures, places, [row.ids for row in rows], length)
        return inputs | {"shared": {"sets": torch.tensor(places, dtype=torch.long)}}

    def positions(self, batch: Batch) -> Tensor:
        """M-RoPE positions, [3, rows, t], from ids, attention mask and grids; padding may be on either side."""
        assert self.family.rope_index is not None
        ids = batch["input_ids"]
        types = torch.zeros_like(ids)
        for token, kind in self.family.token_types.items():
            types[ids == token] = kind
        extra = {}
        if "image_grid_thw" in batch:
            grid = batch["image_grid_thw"]
            extra["image_grid_thw"] = grid[batch["shared"]["images"]] if "shared" in batch else grid
        if "video_grid_thw" in batch:
            extra["video_grid_thw"] = batch["video_grid_thw"]
        if "second_per_grid_ts" in batch:
            extra["second_per_grid_ts"] = batch["second_per_grid_ts"]
        positions, _ = self.family.rope_index(
            input_ids=ids, mm_token_type_ids=types, attention_mask=batch["attention_mask"], **extra
        )
        return positions


@dataclass(frozen=True)
class Path:
    """Where the tokens of a tree's path lie in a batch.

    Attributes:
        row: their row.
        places: the position of each of them in that row.
    """

    row: int
    places: Sequence[int]


#: For each tree: leaf -> where its path lies.
Paths = Sequence[Mapping[int, Path]]


def dense_rows(trees: Sequence[SampleTree]) -> tuple[list[Row], Paths]:
    """One row for each scored leaf."""
    rows: list[Row] = []
    paths: list[dict[int, Path]] = []
    for tree in trees:
        found: dict[int, Path] = {}
        for leaf in tree.leaves:
            path = tree.path(leaf)
            ids = tuple(token for node in path for token in node.ids)
            found[leaf] = Path(len(rows), range(len(ids)))
            rows.append(Row(ids, tuple(medium for node in path for medium in node.media)))
        paths.append(found)
    return rows, paths


def scored_tokens(trees: Sequence[SampleTree], paths: Paths) -> Batch:
    """The parts `score`, `roles` and `side` of a batch: each scored token once, however many roles share it."""
    places: dict[tuple[int, int], int] = {}
    states: list[tuple[int, int]] = []
    targets: list[int] = []
    names = list(dict.fromkeys(name for tree in trees for name in tree.roles))
    found: dict[str, list[list[int]]] = {name: [[] for _ in trees] for name in names}
    for sample, tree in enumerate(trees):
        for name, role in tree.roles.items():
            path = paths[sample][role.leaf]
            ids = [token for node in tree.path(role.leaf) for token in node.ids]
            for position, scored in enumerate(role.scored):
                if not scored:
                    continue
                place = places.setdefault((path.row, path.places[position]), len(places))
                if place == len(targets):
                    states.append((path.row, path.places[position - 1]))  # the state that predicts the token
                    targets.append(ids[position])
                found[name][sample].append(place)

    roles = {}
    for name in names:
        width = max(len(sample) for sample in found[name])
        roles[name] = {
            "index": pad(found[name], width, 0),
            "mask": pad([[1] * len(sample) for sample in found[name]], width, 0).bool(),
        }
    rows, positions = torch.tensor(states, dtype=torch.long).reshape(-1, 2).unbind(-1)
    score = {"rows": rows, "positions": positions, "targets": torch.tensor(targets, dtype=torch.long)}
    side = {name: torch.stack([tree.side[name] for tree in trees]) for name in trees[0].side}
    return {"score": score, "roles": roles, "side": side}


def pad(sequences: Sequence[Sequence[int]], length: int, value: int) -> Tensor:
    """[n, length], filled with `value` on the right."""
    rows = [torch.tensor(list(sequence), dtype=torch.long) for sequence in sequences]
    return torch.stack([F.pad(row, (0, length - len(row)), value=value) for row in rows])


def padded(length: int, multiple: int) -> int:
    """The length, rounded up to a multiple."""
    return -(-length // multiple) * multiple
