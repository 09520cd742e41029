# SPDX-License-Identifier: Apache-2.0
"""What a step has to compute, from its tokens: the limit of what packing can gain, and floating-point operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from .settings import Setting
from .shapes import SHAPES, Shape


PATCH = 14  # pixels on a side; two frames of Qwen's towers show the same picture


@dataclass(frozen=True)
class Load:
    """Of one forward over one batch.

    Attributes:
        tokens: positions that the language model computes, padding left out.
        pairs: pairs of positions of which one attends to the other.
        scored: positions at which the head computes logits.
        pictures: pictures that the tower sees.
        patches: their patches.
    """

    tokens: int = 0
    pairs: int = 0
    scored: int = 0
    pictures: int = 0
    patches: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


def loads(trees: Sequence[Any], setting: Setting, image_token: int) -> dict[str, Load]:
    """The loads of a batch: `naive`, each role a row with its picture and all its logits; `dense`; `packed`."""
    total = {"naive": Load(), "dense": Load(), "packed": Load()}
    for tree in trees:
        for name, load in _loads(tree, SHAPES[setting.shape], image_token).items():
            total[name] += load
    return total


def _loads(tree: Any, shape: Shape, image_token: int) -> dict[str, Load]:
    rows = [tree.path(role.leaf) for role in tree.roles.values()]
    leaves = [tree.path(leaf) for leaf in dict.fromkeys(role.leaf for role in tree.roles.values())]
    shown = [node for path in rows for node in path for _ in node.media]
    distinct = list({medium: node for node in tree.nodes for medium in node.media}.values())
    in_rows, in_nodes = _scored(tree)

    def rows_load(paths: Sequence[Any], scored: int | None, nodes: Sequence[Any]) -> Load:
        lengths = [sum(len(node.ids) for node in path) for path in paths]
        pairs = sum(length * (length + 1) // 2 for length in lengths)
        patches = sum(_patches(node, shape, image_token) for node in nodes)
        return Load(sum(lengths), pairs, sum(lengths) if scored is None else scored, len(nodes), patches)

    dense = rows_load(leaves, in_rows, distinct)
    own = [len(node.ids) for node in tree.nodes]
    above = [sum(len(node.ids) for node in tree.path(place)[:-1]) for place in range(len(own))]
    pairs = sum(length * before + length * (length + 1) // 2 for length, before in zip(own, above, strict=True))
    packed = Load(sum(own), pairs, in_nodes, dense.pictures, dense.patches)
    return {"naive": rows_load(rows, None, shown), "dense": dense, "packed": packed}


def _scored(tree: Any) -> tuple[int, int]:
    """Scored tokens, counted once for each row and once for each node."""
    in_rows, in_nodes = set(), set()
    for role in tree.roles.values():
        start, node = 0, role.leaf
        chain = []
        while node >= 0:
            chain.append(node)
            node = tree.nodes[node].parent
        for node in reversed(chain):
            for offset in range(len(tree.nodes[node].ids)):
                if role.scored[start + offset]:
                    in_rows.add((role.leaf, start + offset))
                    in_nodes.add((node, offset))
            start += len(tree.nodes[node].ids)
    return len(in_rows), len(in_nodes)


def _patches(node: Any, shape: Shape, image_token: int) -> int:
    """Patches of the one picture of a node; CLIP adds its class token."""
    tokens: int = node.ids.count(image_token)
    return tokens + 1 if shape.family == "llava" else 4 * tokens


def language_flops(load: Load, shape: Shape) -> tuple[int, int]:
    """Of one forward through layers and head: in matrices of weights, and in attention."""
    text = shape.text
    hidden, layers, heads = text["hidden_size"], text["num_hidden_layers"], text["num_attention_heads"]
    width = hidden // heads
    attention = hidden * width * (2 * heads + 2 * text["num_key_value_heads"])
    layer = attention + 3 * hidden * text["intermediate_size"]
    weights = 2 * (layers * layer * load.tokens + hidden * text["vocab_size"] * load.scored)
    return weights, 4 * hidden * layers * load.pairs


def tower_flops(load: Load, shape: Shape) -> int:
    """Of one forward through the tower and what follows it, for pictures of one size."""
    vision, hidden = shape.vision, shape.text["hidden_size"]
    size = load.patches // max(1, load.pictures)
    pixels = 3 * PATCH**2
    if shape.family == "llava":
        width, depth = vision["hidden_size"], vision["num_hidden_layers"]
        seen = depth * size
        inner, after = 2 * width * vision["intermediate_size"], width * hidden + hidden**2
    elif shape.family == "qwen2_vl":
        width, depth = vision["embed_dim"], vision["depth"]
        seen = depth * size
        inner, after, pixels = 2 * width * 4 * width, 4 * width**2 + width * hidden, 2 * pixels
    else:
        width, depth = vision["hidden_size"], vision["depth"]
        full, window = len(vision["fullatt_block_indexes"]), (vision["window_size"] // PATCH) ** 2
        seen = full * size + (depth - full) * min(window, size)
        inner, after, pixels = 3 * width * vision["intermediate_size"], 4 * width**2 + width * hidden, 2 * pixels
    weights = pixels * width + depth * (4 * width**2 + inner) + after
    return load.patches * (2 * weights + 4 * width * seen)


def step_flops(load: Load, setting: Setting) -> int:
    """Of a step: the reference's forward, the policy's, and its backward.

    What is computed a second time is left out: checkpointed layers, and pictures that reference and policy share. So
    are the adapters' own matrices. With LoRA the large matrices have no gradient, and backward costs one forward.
    """
    shape = SHAPES[setting.shape]
    weights, attention = language_flops(load, shape)
    backward = weights * (1 if setting.tuning == "lora" else 2) + 2 * attention
    return 2 * (weights + attention) + backward + tower_flops(load, shape)


def matrix_rate(device: str, dtype: str, threads: int, seconds: float = 2.0) -> float:
    """What the device reaches in products of large matrices, in FLOP/s: the best of several runs.

    Args:
        device: `cpu` or `cuda`.
        dtype: of the matrices, such as `bfloat16`.
        threads: on a CPU.
        seconds: how long to try.
    """
    import time

    import torch

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    torch.set_num_threads(threads)
    size = 8192 if device == "cuda" else 1024
    one, other = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        wait()
        start = time.perf_counter()
        for _ in range(10):
            one @ other
        wait()
        best = max(best, 10 * 2 * size**3 / (time.perf_counter() - start))
    return best
