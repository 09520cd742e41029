# SPDX-License-Identifier: Apache-2.0
"""The tree of a self-correction row.

    head -+- question ------------+- P_w -- S_w   dpo.w
          |                       +- P_l -- S_l   dpo.l
          +- correction -+- Y^l --+- P_w -+- S_w  sc_l.ww
                         |        |       +- S_l  sc_l.lw
                         |        +- P_l -+- S_w  sc_l.wl
                         |                +- S_l  sc_l.ll
                         +- Y^w --  the same      sc_w.*

`head` is what all prompts begin with, pictures included; `correction` is what the two correction prompts share. The
prefixes of the DPO rows are scored, those of the others are given. Equal prefixes are one node, and then sc_e.wl is
sc_e.ww and sc_e.lw is sc_e.ll.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...data.encode import Segments
from ...losses.sherlock import sherlock_roles
from ...tree.sample import ROOT, Media, SampleTree, TreeBuilder
from .arguments import SherlockArguments


def build_tree(segments: Segments, args: SherlockArguments) -> SampleTree:
    """The tree with the roles of the terms that count, and the row's `weight` [] as a side tensor.

    Args:
        segments: what `encode_sherlock` made of the row.
        args: arguments of the stage, resolved.
    """
    builder = TreeBuilder(segments["key"])
    contexts = _contexts(builder, segments)
    cut, cut_l = segments["prefix"], segments["prefix_l"]
    prefixes = {"w": segments["chosen"][:cut], "l": segments["rejected"][:cut_l]}
    whole = {"w": segments["chosen"][cut:], "l": segments["rejected"][cut_l:]}
    suffixes = {"w": whole["w"][: segments["suffix"]], "l": whole["l"][: segments["suffix_l"]]}
    for role in sherlock_roles(args.sc_coef, args.dpo_coef):
        group, pair = role.split(".")
        context = contexts[group]
        if group == "dpo":
            builder.score(role, whole[pair], builder.add(prefixes[pair], context), given=context)
        else:
            builder.score(role, suffixes[pair[0]], builder.add(prefixes[pair[1]], context))
    weight = segments["weight"] if args.static_weight is None else args.static_weight
    return builder.build({"weight": torch.tensor(weight, dtype=torch.float32)})


def _contexts(builder: TreeBuilder, segments: Segments) -> dict[str, int]:
    """The nodes that answers follow: after the question, and after each correction prompt."""
    prompt, rejected, chosen = segments["prompt"], segments["correction_l"], segments["correction_w"]
    media = [Media("image", path) for path in segments["images"]]
    media += [Media("video", path) for path in segments["videos"]]
    shared = _common(rejected, chosen)
    head = min(_common(prompt, rejected), shared)
    spans = segments["spans"]
    inside = not spans or spans[-1] <= head
    if not inside:
        head = min(head, spans[0])  # pictures stay in one node
    root = builder.add(prompt[:head], ROOT, media if inside else ())
    rest = () if inside else media
    correction = builder.add(rejected[head:shared], root, rest)
    return {
        "dpo": builder.add(prompt[head:], root, rest),
        "sc_l": builder.add(rejected[shared:], correction),
        "sc_w": builder.add(chosen[shared:], correction),
    }


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common beginning."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))
