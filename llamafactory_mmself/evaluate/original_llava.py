# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in the format of LLaVA's own code, which transformers does not load; found out before anything loads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..files import FileError, read_json


SCRIPT = "src/transformers/models/llava/convert_llava_weights_to_hf.py"
MODEL = (
    "{model} is a LLaVA model in the format of LLaVA's own code, which neither transformers nor vLLM loads. Convert "
    f"it with {SCRIPT} of the transformers repository (part of the package up to version 4, of the sources since), or "
    "take a converted one, such as llava-hf/llava-1.5-7b-hf for liuhaotian/llava-v1.5-7b; then give --template llava."
)
ADAPTER = (
    "{adapter} is a LoRA adapter in the format of LLaVA's own code: non_lora_trainables.bin holds its projector. "
    "Merge it into its base with scripts/merge_lora_weights.py of haotian-liu/LLaVA, convert the merged model with "
    f"{SCRIPT} of the transformers repository, and give that as --model with --adapter none."
)


class OriginalLlavaError(ValueError):
    """A checkpoint in the original format, with the conversion that it needs."""


def refuse_original_llava(model: str | None, adapters: Sequence[str] = ()) -> None:
    """Refuses models and adapters in the format of LLaVA's own code.

    Args:
        model: folder or hub name.
        adapters: folders or hub names.

    Raises:
        OriginalLlavaError: naming the conversion.
    """
    for adapter in adapters:
        if _file(adapter, "non_lora_trainables.bin") is not None:
            raise OriginalLlavaError(ADAPTER.format(adapter=adapter))
    if model is None:
        return
    if _file(model, "non_lora_trainables.bin") is not None:
        raise OriginalLlavaError(ADAPTER.format(adapter=model))
    if _is_original(model):
        raise OriginalLlavaError(MODEL.format(model=model))


def _is_original(model: str) -> bool:
    """The configuration names the vision tower itself and has no part for text, or the projector is a file apart."""
    if _file(model, "mm_projector.bin") is not None:
        return True
    file = _file(model, "config.json")
    if file is None:
        return not Path(model).is_dir() and model.startswith("liuhaotian/llava-")
    try:
        config = read_json(file)
    except FileError:  # whoever loads the model says what is wrong with it
        return False
    if not isinstance(config, dict) or "text_config" in config:
        return False
    return config.get("model_type") == "llava_llama" or "mm_vision_tower" in config


def _file(place: str, name: str) -> Path | None:
    """A checkpoint's file, in its folder or in the cache of the hub; nothing is downloaded."""
    folder = Path(place)
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    if place.count("/") != 1 or place.startswith((".", "/", "~")):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(place, name)
    return Path(found) if isinstance(found, str) else None
