# SPDX-License-Identifier: Apache-2.0
"""One pass of the vision tower for each distinct picture of a batch.

The rows of a preference batch show the same picture again and again. The collator hands over distinct pictures only;
here their features are dealt out to the rows, behind the model's own feature function, so that nothing
model-specific is lost (projector, deep-stacked features, cross-attention states).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


#: Families whose feature function is `get_image_features` of the inner model.
SCATTERED = frozenset({"llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"})
#: Families that look at images through cross-attention.
CROSS = frozenset({"mllama"})


@contextmanager
def shared_features(model: nn.Module, shared: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Deals features of distinct pictures out to the places that show them, while the context is open.

    Args:
        model: the bare conditional-generation model (no DDP, no adapter wrapper around it).
        shared: what the collator says: `images` [places] or `sets` [rows]; None or empty: nothing to do.
    """
    if not shared:
        yield
    elif "sets" in shared:
        projector: nn.Module = model.model.multi_modal_projector  # type: ignore[union-attr,assignment]
        handle = projector.register_forward_hook(_deal_sets(shared["sets"]))
        try:
            yield
        finally:
            handle.remove()
    else:
        inner: Any = model.model
        with _image_features(inner, _deal_images(inner.get_image_features, shared["images"].tolist())):
            yield


@contextmanager
def _image_features(inner: Any, function: Callable[..., Any]) -> Iterator[None]:
    """Puts a function in place of the model's own; a video method that goes through it still finds the original."""
    original = inner.get_image_features
    video = inner.get_video_features if hasattr(type(inner), "get_video_features") else None

    def get_video_features(*args: Any, **kwargs: Any) -> Any:
        assert video is not None
        inner.get_image_features = original
        try:
            return video(*args, **kwargs)
        finally:
            inner.get_image_features = function

    inner.get_image_features = function
    if video is not None:
        inner.get_video_features = get_video_features
    try:
        yield
    finally:
        del inner.get_image_features
        if video is not None:
            del inner.get_video_features


def _deal_images(original: Callable[..., Any], index: list[int]) -> Callable[..., Any]:
    def get_image_features(*args: Any, **kwargs: Any) -> Any:
        outputs = original(*args, **kwargs)
        features = list(outputs.pooler_output)
        sizes = [len(feature) for feature in features]
        outputs.pooler_output = [features[place] for place in index]
        layers = outputs.get("deepstack_features")
        if layers is not None:
            outputs["deepstack_features"] = [_deal(layer, sizes, index) for layer in layers]
        return outputs

    return get_image_features


def _deal(features: Tensor, sizes: list[int], index: list[int]) -> Tensor:
    pictures = features.split(sizes)
    return torch.cat([pictures[place] for place in index])


def _deal_sets(sets: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """Rows without pictures get zeros: cross-attention to zero values adds nothing, as in a text-only forward."""

    def hook(module: nn.Module, args: Any, states: Tensor) -> Tensor:
        seen = (sets >= 0).view(-1, *[1] * (states.dim() - 1))
        return states[sets.clamp(min=0)] * seen.to(states.dtype)

    return hook
