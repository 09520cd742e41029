# SPDX-License-Identifier: Apache-2.0
"""Models with random weights in the shapes that steps are timed on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


MAX_LENGTH = 16_384


@dataclass(frozen=True)
class Shape:
    """Sizes of a model.

    Attributes:
        family: LLaMA-Factory's template and the toy world's tokenizer and processor follow from it.
        text: sizes of the language model, under transformers' names.
        vision: the same of the tower.
        tied: whether the head shares the embeddings' weights.
        dtype: of the weights.
    """

    family: Literal["qwen2_vl", "qwen2_5_vl", "llava"]
    text: dict[str, int]
    vision: dict[str, Any]
    tied: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"


def _text(hidden: int, inner: int, layers: int, heads: int, groups: int, vocab: int) -> dict[str, int]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "vocab_size": vocab,
    }


def _qwen2_vision(width: int, depth: int, hidden: int) -> dict[str, Any]:
    return {"embed_dim": width, "depth": depth, "num_heads": width // 64, "hidden_size": hidden}


def _qwen2_5_vision(width: int, inner: int, depth: int, heads: int, hidden: int, full: list[int]) -> dict[str, Any]:
    sizes = {"hidden_size": width, "intermediate_size": inner, "depth": depth, "num_heads": heads}
    return {**sizes, "out_hidden_size": hidden, "window_size": 112, "fullatt_block_indexes": full}


def _clip(width: int, inner: int, layers: int, heads: int, size: int) -> dict[str, Any]:
    sizes = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers}
    return {**sizes, "num_attention_heads": heads, "projection_dim": width, "image_size": size, "patch_size": 14}


SHAPES = {
    # Qwen2-VL-2B in small: tower, embeddings and layers have the shares of the parameters that they have there.
    "qwen2-vl-56m": Shape("qwen2_vl", _text(512, 1536, 11, 8, 2, 12_288), _qwen2_vision(384, 7, 512), tied=True),
    "qwen2-vl-9m": Shape("qwen2_vl", _text(256, 768, 7, 4, 2, 4096), _qwen2_vision(192, 4, 256), tied=True),
    "qwen2-vl-tiny": Shape("qwen2_vl", _text(128, 384, 3, 2, 2, 2048), _qwen2_vision(64, 2, 128), tied=True),
    "qwen2.5-vl-tiny": Shape(
        "qwen2_5_vl", _text(128, 384, 3, 2, 1, 2048), _qwen2_5_vision(64, 192, 2, 1, 128, [1]), dtype="bfloat16"
    ),
    "qwen2.5-vl-7b": Shape(
        "qwen2_5_vl",
        _text(3584, 18_944, 28, 28, 4, 152_064),
        _qwen2_5_vision(1280, 3420, 32, 16, 3584, [7, 15, 23, 31]),
        dtype="bfloat16",
    ),
    "llava-63m": Shape("llava", _text(512, 1536, 11, 8, 8, 12_288), _clip(384, 1536, 7, 6, 224)),
    "llava-tiny": Shape("llava", _text(128, 384, 3, 2, 2, 2048), _clip(64, 192, 3, 1, 56), dtype="bfloat16"),
    "llava-1.5-7b": Shape(
        "llava", _text(4096, 11_008, 32, 32, 32, 32_064), _clip(1024, 4096, 24, 16, 336), dtype="bfloat16"
    ),
}


def template_of(shape: str) -> str:
    """LLaMA-Factory's template for a shape."""
    from llamafactory_mmself.toyworld.models import TEMPLATES

    return TEMPLATES[SHAPES[shape].family]


def write_model(name: str, folder: Path, device: str) -> Path:
    """Writes a checkpoint with random weights, tokenizer and processor included, unless it is there already.

    Args:
        name: one of `SHAPES`.
        folder: what to write; the last file to come is `config.json`, so an interrupted write is repeated.
        device: where weights are drawn; a 7B model takes seconds on a GPU and minutes on a CPU.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    if (folder / "config.json").exists():
        return folder
    shape = SHAPES[name]
    config, processor = _parts(shape)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=getattr(torch, shape.dtype))
    for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.config, token, getattr(processor.tokenizer, token))
    processor.save_pretrained(folder)
    model.save_pretrained(folder / "weights")
    for file in (folder / "weights").iterdir():
        if file.name != "config.json":
            file.rename(folder / file.name)
    (folder / "weights" / "config.json").rename(folder / "config.json")
    return folder


def _parts(shape: Shape) -> tuple[Any, Any]:
    """Config and processor: the toy world's, with this shape's sizes and pictures of up to 1,064 pixels."""
    if shape.family == "llava":
        from llamafactory_mmself.toyworld.models.llava import llava_parts

        parts = llava_parts()
    else:
        from llamafactory_mmself.toyworld.models.qwen import qwen_parts

        parts = qwen_parts(shape.family)
    settings = parts.config.to_dict()
    head = shape.text["hidden_size"] // shape.text["num_attention_heads"]
    settings["text_config"] |= {**shape.text, "max_position_embeddings": MAX_LENGTH, "initializer_range": 0.02}
    settings["text_config"] |= {"tie_word_embeddings": shape.tied, "layer_types": None}
    settings["vision_config"] |= shape.vision
    settings["tie_word_embeddings"] = shape.tied
    processor: Any = parts.processor
    processor.tokenizer.model_max_length = MAX_LENGTH
    if shape.family == "llava":
        size = shape.vision["image_size"]
        settings["text_config"]["head_dim"] = head
        settings["image_seq_length"] = (size // 14) ** 2
        processor.image_processor.size = {"shortest_edge": size}
        processor.image_processor.crop_size = {"height": size, "width": size}
    else:
        sections = [head // 8, head * 3 // 16, head * 3 // 16]  # as in the large models, half a head in all
        settings["text_config"]["rope_parameters"] |= {"mrope_section": sections}
        processor.image_processor.size = {"shortest_edge": 56 * 56, "longest_edge": 1064 * 1064}
    return type(parts.config)(**settings), processor
