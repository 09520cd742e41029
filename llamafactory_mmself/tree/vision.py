# SPDX-License-Identifier: Apache-2.0
"""One pass of the vision tower for each distinct picture of a batch.

The rows of a preference batch show the same picture again and again. The collator hands over distinct pictures only;
here their features are dealt out to the rows, behind the model's own feature function, so that nothing
model-specific is lost (projector, deep-stacked features, cross-attention states).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .features import PictureFeatures, StepFeatures


#: Families whose feature function is `get_image_features` of the inner model.
SCATTERED = frozenset({"llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"})
#: Families that look at images through cross-attention.
CROSS = frozenset({"mllama"})


@dataclass(frozen=True)
class ImageOutputs:
    """What a model reads of its feature function's result.

    Attributes:
        pooler_output: features of each picture, [tokens, hidden].
        deepstack_features: for each of the first layers, [tokens of all pictures, hidden]; None for models without.
    """

    pooler_output: list[Tensor]
    deepstack_features: list[Tensor] | None


@contextmanager
def shared_features(model: nn.Module, shared: Mapping[str, Any] | None) -> Iterator[None]:
    """Deals features of distinct pictures out to the places that show them, while the context is open.

    Args:
        model: the bare conditional-generation model (no DDP, no adapter wrapper around it).
        shared: what the collator says: `images` [places] and the distinct `pictures`, or `sets` [rows]; and
            `features`, if they may be kept between passes. None or empty: nothing to do.
    """
    with ExitStack() as stack:
        if shared and "sets" in shared:
            _share_sets(stack, model, shared["sets"], shared.get("features"))
        elif shared:
            _share_images(stack, model, shared)
        yield


def _share_sets(stack: ExitStack, model: Any, sets: Tensor, kept: StepFeatures | None) -> None:
    inner = model.model
    handle = inner.multi_modal_projector.register_forward_hook(_deal_sets(sets))
    stack.callback(handle.remove)
    if kept is not None:
        encode = inner.vision_model.forward
        stack.enter_context(
            _replaced(inner.vision_model, "forward", lambda **inputs: kept.once(model, lambda: encode(**inputs)))
        )


def _share_images(stack: ExitStack, model: Any, shared: Mapping[str, Any]) -> None:
    inner = model.model
    original = inner.get_image_features
    stack.enter_context(_replaced(inner, "get_image_features", _deal_images(model, original, shared)))
    if hasattr(type(inner), "get_video_features"):
        video = inner.get_video_features

        def get_video_features(*args: Any, **kwargs: Any) -> Any:
            """A video method that goes through the function for pictures still finds the original."""
            with _replaced(inner, "get_image_features", original):
                return video(*args, **kwargs)

        stack.enter_context(_replaced(inner, "get_video_features", get_video_features))


@contextmanager
def _replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Puts a function in the place of an object's method."""
    before = vars(owner).get(name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


def _deal_images(model: nn.Module, original: Callable[..., Any], shared: Mapping[str, Any]) -> Callable[..., Any]:
    index, pictures = shared["images"].tolist(), shared["pictures"]
    kept: StepFeatures | None = shared.get("features")

    def get_image_features(
        pixel_values: Tensor, image_grid_thw: Tensor | None = None, **settings: Any
    ) -> ImageOutputs:
        def one(place: int) -> PictureFeatures:
            pixels, grid = _one_picture(pixel_values, image_grid_thw, place)
            return _features(original, pixels, grid, settings)[0]

        def all_of_them() -> list[PictureFeatures]:
            cache = None if kept is None else kept.cache(model)
            if cache is None:
                return _features(original, pixel_values, image_grid_thw, settings)
            return cache.recall(pictures, one, pixel_values.device)

        return _outputs(all_of_them() if kept is None else kept.once(model, all_of_them), index)

    return get_image_features


def _features(
    function: Callable[..., Any], pixels: Tensor, grid: Tensor | None, settings: Mapping[str, Any]
) -> list[PictureFeatures]:
    """The features of each picture, from the model's own function."""
    grids = {} if grid is None else {"image_grid_thw": grid}
    outputs = function(pixel_values=pixels, **grids, **settings)
    tokens = list(outputs.pooler_output)
    sizes = [len(part) for part in tokens]
    stacked = outputs.get("deepstack_features")
    if stacked is None:
        return [PictureFeatures(part) for part in tokens]
    layers = zip(*(layer.split(sizes) for layer in stacked), strict=True)
    return [PictureFeatures(part, tuple(parts)) for part, parts in zip(tokens, layers, strict=True)]


def _one_picture(pixels: Tensor, grid: Tensor | None, place: int) -> tuple[Tensor, Tensor | None]:
    """The part of the inputs that is one picture: its patches, where there is a grid of patches, or its image."""
    if grid is None:
        return pixels[place : place + 1], None
    patches: list[int] = grid.prod(-1).tolist()
    return pixels.split(patches)[place], grid[place : place + 1]


def _outputs(features: Sequence[PictureFeatures], index: Sequence[int]) -> ImageOutputs:
    """The features at every place that shows a picture."""
    dealt = [features[place] for place in index]
    layers = [torch.cat(parts) for parts in zip(*(picture.layers for picture in dealt), strict=True)]
    return ImageOutputs([picture.tokens for picture in dealt], layers or None)


def _deal_sets(sets: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """Rows without pictures get zeros: cross-attention to zero values adds nothing, as in a text-only forward."""

    def hook(module: nn.Module, args: Any, states: Tensor) -> Tensor:
        seen = (sets >= 0).view(-1, *[1] * (states.dim() - 1))
        return states[sets.clamp(min=0)] * seen.to(states)

    return hook
