# SPDX-License-Identifier: Apache-2.0
"""A training sample as a tree of token segments.

Every method here scores several responses under several contexts that share most of their tokens. A node holds a
segment, its context is the path from the root. A role is a leaf and the choice of tokens on its path that are scored;
it bears the name the papers use (`cc`, `cr`, `rc`, `cn`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from torch import Tensor


ROOT = -1


@dataclass(frozen=True)
class White:
    """A white picture of the same size: there is a picture, and it shows nothing."""


@dataclass(frozen=True)
class Crop:
    """A random resized crop of the same size: which part of the picture is kept follows from the seed alone.

    Attributes:
        scale: smallest and largest share of the picture's area.
        seed: seed of this crop.
    """

    scale: tuple[float, float]
    seed: int


@dataclass(frozen=True)
class Media:
    """One picture or video that stands behind placeholder tokens.

    Attributes:
        kind: image or video.
        source: path of the file, or `blank:WIDTHxHEIGHT` for a white picture.
        view: what to show instead of the whole picture. Views keep its size, so they keep the number of its tokens.
    """

    kind: Literal["image", "video"]
    source: str
    view: Crop | White | None = None


@dataclass(frozen=True)
class Node:
    """A segment of tokens.

    Attributes:
        ids: token ids, final: nothing is tokenised again.
        parent: index of the parent node, `ROOT` for a first segment.
        media: what the placeholders among `ids` stand for, in order.
    """

    ids: tuple[int, ...]
    parent: int
    media: tuple[Media, ...] = ()


@dataclass(frozen=True)
class Role:
    """A scored sequence.

    Attributes:
        leaf: index of the last node of the path.
        scored: one flag for each token of the path.
    """

    leaf: int
    scored: tuple[bool, ...]


@dataclass(frozen=True)
class SampleTree:
    """One sample.

    Attributes:
        key: id of the sample, for messages and caches.
        nodes: parents come before their children.
        roles: name -> scored sequence; several roles may share a leaf.
        side: tensors that travel with the sample (weights, advantages, old log-probs), each without a sample axis.
    """

    key: str
    nodes: tuple[Node, ...]
    roles: Mapping[str, Role]
    side: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def leaves(self) -> tuple[int, ...]:
        """The leaves that roles score, each once."""
        return tuple(dict.fromkeys(role.leaf for role in self.roles.values()))

    def lineage(self, leaf: int) -> tuple[int, ...]:
        """Indices of the nodes from the root to a leaf."""
        places: list[int] = []
        while leaf != ROOT:
            places.append(leaf)
            leaf = self.nodes[leaf].parent
        return tuple(reversed(places))

    def path(self, leaf: int) -> tuple[Node, ...]:
        """The nodes from the root to a leaf."""
        return tuple(self.nodes[place] for place in self.lineage(leaf))


class TreeBuilder:
    """Builds a tree path by path; equal segments under the same parent become one node."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._nodes: list[Node] = []
        self._index: dict[Node, int] = {}
        self._roles: dict[str, Role] = {}

    def add(self, ids: Sequence[int], parent: int = ROOT, media: Sequence[Media] = ()) -> int:
        """Adds a segment and returns its index. An empty segment is its parent."""
        if not ids:
            return parent
        node = Node(tuple(ids), parent, tuple(media))
        if node not in self._index:
            self._index[node] = len(self._nodes)
            self._nodes.append(node)
        return self._index[node]

    def score(
        self,
        name: str,
        response: Sequence[int],
        context: int,
        mask: Sequence[bool] | None = None,
        given: int | None = None,
    ) -> None:
        """Adds a role: the tokens of `response` after `context`.

        Args:
            name: of the role.
            response: token ids.
            context: node that the response follows.
            mask: which tokens of the response are scored; all of them by default.
            given: node on the context's path that scoring starts after; by default `context` itself.

        Raises:
            ValueError: if nothing stands before the first scored token to predict it from.
        """
        if (context if given is None else given) == ROOT:
            raise ValueError(f"Role {name} of sample {self._key} has nothing before its answer to predict it from.")
        leaf = self.add(response, context)
        length = self._length(context)
        unscored = length if given is None else self._length(given)
        scored = [True] * len(response) if mask is None else list(mask)
        self._roles[name] = Role(leaf, (False,) * unscored + (True,) * (length - unscored) + tuple(scored))

    def build(self, side: Mapping[str, Tensor] | None = None) -> SampleTree:
        """The finished tree."""
        return SampleTree(self._key, tuple(self._nodes), dict(self._roles), dict(side or {}))

    def _length(self, leaf: int) -> int:
        return sum(len(node.ids) for node in self._path(leaf))

    def _path(self, leaf: int) -> tuple[Node, ...]:
        return SampleTree(self._key, tuple(self._nodes), {}).path(leaf)


def cut_spans(ids: Sequence[int], spans: Sequence[int]) -> list[int]:
    """The tokens outside the spans.

    Args:
        ids: token ids.
        spans: start and end of each span in turn: [start0, end0, start1, end1, ...], ascending.
    """
    edges = [0, *spans, len(ids)]
    return [
        token for position, (start, end) in enumerate(pairwise(edges)) if position % 2 == 0 for token in ids[start:end]
    ]
