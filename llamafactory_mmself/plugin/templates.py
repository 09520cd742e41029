# SPDX-License-Identifier: Apache-2.0
"""OViP's chat templates.

`llava_new` and `qwen2_vl_new` take more pictures than placeholders, as OViP's two-image rows have them. The crop
templates show a random crop in place of the rejected picture; the names give the method they were made for and the
smallest share of the area that is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any


CROP_SCALES = {"llava_mdpo_r80": (0.8, 1.0), "llava_mdpo_r50": (0.5, 0.8), "llava_orm_r80": (0.8, 1.0)}


def install(module: ModuleType) -> list[str]:
    """Adds the templates to `llamafactory.data.template`; returns what was replaced."""
    templates = module.TEMPLATES
    for name, base in {"llava_new": "llava", "qwen2_vl_new": "qwen2_vl"}.items():
        templates[name] = replace(templates[base], mm_plugin=_tolerant(templates[base].mm_plugin))
    for name, scale in CROP_SCALES.items():
        templates[name] = replace(templates["llava"], mm_plugin=_tolerant(templates["llava"].mm_plugin, scale))
    return ["TEMPLATES"]


def rejected_crop(plugin: Any) -> tuple[float, float] | None:
    """The area scale at which a template's plugin crops rejected pictures, or None."""
    crop: tuple[float, float] | None = vars(plugin).get("rejected_crop")
    return crop


def _tolerant(plugin: Any, crop: tuple[float, float] | None = None) -> Any:
    """The same plugin, which minds too few pictures but not too many."""
    cls = type(plugin)

    @dataclass
    class TwoImagePlugin(cls):  # type: ignore[misc,valid-type]
        rejected_crop: tuple[float, float] | None = None

        def _validate_messages(self, messages: Any, images: Any, videos: Any, audios: Any) -> None:
            placeholders = sum(message["content"].count("<image>") for message in messages)
            super()._validate_messages(messages, images[:placeholders], videos, audios)

    return TwoImagePlugin(
        plugin.image_token,
        plugin.video_token,
        plugin.audio_token,
        expand_mm_tokens=plugin.expand_mm_tokens,
        rejected_crop=crop,
    )
