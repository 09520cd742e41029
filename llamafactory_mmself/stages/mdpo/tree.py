# SPDX-License-Identifier: Apache-2.0
"""The tree of an image-side preference row.

head -- real picture and question --+-- chosen    cc
     |                              +-- rejected  cr
     +- rejected picture ... -------+-- chosen    rc
     |                              +-- rejected  rr
     +- question, no picture -------+-- chosen    cn
                                    +-- rejected  rn
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from difflib import SequenceMatcher

from ...data.encode import Segments
from ...losses.mdpo import strategy_roles
from ...tree.sample import ROOT, Crop, Media, SampleTree, TreeBuilder, White, cut_spans
from .arguments import MDPOArguments


#: mDPO's own crop, arXiv 2406.11839.
MDPO_CROP = (0.01, 0.2)

REAL, NEGATIVE, NONE, WHITE = "real", "negative", "none", "white"
_CONTEXT = {"cc": REAL, "cr": REAL, "rc": NEGATIVE, "rr": NEGATIVE, "cn": NONE, "rn": NONE}
_ANSWER = {"cc": "chosen", "rc": "chosen", "cn": "chosen", "cr": "rejected", "rr": "rejected", "rn": "rejected"}


def build_tree(
    segments: Segments, args: MDPOArguments, rejected_crop: tuple[float, float] | None, seed: int
) -> SampleTree:
    """The tree with the roles that the strategy reads.

    Args:
        segments: what `encode_pairs` made of the row.
        args: arguments of the stage.
        rejected_crop: share of the area at which the template crops rejected pictures, or None.
        seed: seed of the run; with the row's key it fixes every random crop.
    """
    builder = TreeBuilder(segments["key"])
    masks = _difference(segments["chosen"], segments["rejected"]) if args.mask_same_sequence else {}
    strategy = args.loss_strategy
    roles = strategy_roles(strategy, args.vtcl_mode)
    shown = {NONE: WHITE} if strategy == "svco-ref" else {}
    contexts = {
        name: context(builder, segments, shown.get(name, name), strategy == "ori-mdpo", rejected_crop, seed)
        for name in dict.fromkeys(_CONTEXT[role] for role in roles)
    }
    for role in roles:
        answer = _ANSWER[role]
        builder.score(role, segments[answer], contexts[_CONTEXT[role]], masks.get(answer))
    return builder.build()


def context(
    builder: TreeBuilder,
    segments: Segments,
    name: str,
    cropped: bool = False,
    rejected_crop: tuple[float, float] | None = None,
    seed: int = 0,
) -> int:
    """Adds the prompt with the real picture, the negative one or none, and returns its last node.

    Args:
        builder: of the sample's tree.
        segments: what `encode_pairs` made of the row.
        name: `REAL`, `NEGATIVE` or `NONE`; `WHITE` for a picture that shows nothing.
        cropped: the negative picture is a crop of the real one.
        rejected_crop: see `build_tree`.
        seed: of random crops.
    """
    prompt, spans, images = segments["prompt"], segments["spans"], segments["images"]
    crop: tuple[float, float] | None = None
    if name == NEGATIVE:
        if cropped:
            crop = rejected_crop or MDPO_CROP
        else:
            crop = rejected_crop
            prompt, spans = segments["negative_prompt"], segments["negative_spans"]
            images = segments["rejected_images"]

    head = spans[0] if spans else len(prompt)
    root = builder.add(prompt[:head], ROOT)
    if name == NONE:
        rest = [span - head for span in spans]
        return builder.add(cut_spans(prompt[head:], rest), root)

    views = [White() if name == WHITE else _crop(crop, segments["key"], place, seed) for place in range(len(images))]
    media = [Media("image", path, view) for path, view in zip(images, views, strict=True)]
    media += [Media("video", path) for path in segments["videos"]]
    return builder.add(prompt[head:], root, media)


def _crop(scale: tuple[float, float] | None, key: str, place: int, seed: int) -> Crop | None:
    return None if scale is None else Crop(scale, zlib.crc32(f"{seed}/{key}/{place}".encode()))


def _difference(chosen: Sequence[int], rejected: Sequence[int]) -> dict[str, list[bool]]:
    """Which tokens of each answer the other one does not share; answers without a difference keep all of theirs."""
    masks = {"chosen": [True] * len(chosen), "rejected": [True] * len(rejected)}
    for block in SequenceMatcher(None, list(chosen), list(rejected), autojunk=False).get_matching_blocks():
        masks["chosen"][block.a : block.a + block.size] = [False] * block.size
        masks["rejected"][block.b : block.b + block.size] = [False] * block.size
    return {name: mask if any(mask) else [True] * len(mask) for name, mask in masks.items()}
