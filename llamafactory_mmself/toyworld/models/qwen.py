# SPDX-License-Identifier: Apache-2.0
"""Tiny Qwen2-VL, Qwen2.5-VL and Qwen3-VL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .parts import HEAD_SIZE, HIDDEN_SIZE, INITIALIZER_RANGE, LANGUAGE_SIZES, VISION_HIDDEN_SIZE, Parts
from .tokenizer import train_tokenizer


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ROPE_THETA = 1e6  # as the large models; most of a head then compares contents at any distance

_SPECIAL_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)

_DEFAULT_SYSTEM = {
    "qwen2_vl": "You are a helpful assistant.",
    "qwen2_5_vl": "You are a helpful assistant.",
    "qwen3_vl": None,
}

_CHAT_TEMPLATE = """
{%- macro show(content) -%}
  {%- if content is string -%}{{ content }}
  {%- else -%}
    {%- for part in content -%}
      {%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
      {%- elif part.type == 'video' -%}<|vision_start|><|video_pad|><|vision_end|>
      {%- else -%}{{ part.text }}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{%- if default_system and messages[0].role != 'system' -%}
  {{- '<|im_start|>system\n' + default_system + '<|im_end|>\n' -}}
{%- endif -%}
{%- for message in messages -%}
  {{- '<|im_start|>' + message.role + '\n' + show(message.content) + '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}
"""


def qwen_parts(family: str) -> Parts:
    """Returns config and processor of `qwen2_vl`, `qwen2_5_vl` or `qwen3_vl`."""
    tokenizer = train_tokenizer(
        _SPECIAL_TOKENS,
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        extra_special_tokens=_SPECIAL_TOKENS,
    )
    token_id = tokenizer.convert_tokens_to_ids
    ids = {
        "image_token_id": token_id("<|image_pad|>"),
        "video_token_id": token_id("<|video_pad|>"),
        "vision_start_token_id": token_id("<|vision_start|>"),
        "vision_end_token_id": token_id("<|vision_end|>"),
    }
    text = {
        **LANGUAGE_SIZES,
        "vocab_size": len(tokenizer),
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = {"qwen2_vl": _qwen2, "qwen2_5_vl": _qwen2_5, "qwen3_vl": _qwen3}[family](text, ids)
    generation = {
        "eos_token_id": [tokenizer.eos_token_id, tokenizer.pad_token_id],
        "pad_token_id": tokenizer.pad_token_id,
    }
    return Parts(config, _processor(family, tokenizer), generation)


def _qwen2(text: dict[str, Any], ids: dict[str, int]):
    from transformers import Qwen2VLConfig

    text["rope_parameters"] = {"rope_type": "default", "rope_theta": ROPE_THETA, "mrope_section": [8, 12, 12]}
    vision = {
        "depth": 2,
        "embed_dim": VISION_HIDDEN_SIZE,
        "num_heads": VISION_HIDDEN_SIZE // HEAD_SIZE,
        "hidden_size": HIDDEN_SIZE,
        "initializer_range": INITIALIZER_RANGE,
    }
    # Tied as in the small Qwen2-VL. A tiny model then learns in minutes to copy what it reads.
    text |= {"num_key_value_heads": text["num_attention_heads"], "tie_word_embeddings": True, "num_hidden_layers": 4}
    return Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)


def _qwen2_5(text: dict[str, Any], ids: dict[str, int]):
    from transformers import Qwen2_5_VLConfig

    text["rope_parameters"] = {"rope_type": "default", "rope_theta": ROPE_THETA, "mrope_section": [8, 12, 12]}
    vision = {
        "depth": 2,
        "hidden_size": VISION_HIDDEN_SIZE,
        "intermediate_size": 192,
        "num_heads": VISION_HIDDEN_SIZE // HEAD_SIZE,
        "out_hidden_size": HIDDEN_SIZE,
        "window_size": 56,  # 2 x 2 image tokens, so that a toy picture has several windows
        "fullatt_block_indexes": [1],
        "initializer_range": INITIALIZER_RANGE,
    }
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)


def _qwen3(text: dict[str, Any], ids: dict[str, int]):
    from transformers import Qwen3VLConfig

    text["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": ROPE_THETA,
        "mrope_section": [12, 10, 10],
        "mrope_interleaved": True,
    }
    vision = {
        "depth": 2,
        "hidden_size": VISION_HIDDEN_SIZE,
        "intermediate_size": 192,
        "num_heads": VISION_HIDDEN_SIZE // HEAD_SIZE,
        "out_hidden_size": HIDDEN_SIZE,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
        "initializer_range": INITIALIZER_RANGE,
    }
    return Qwen3VLConfig(text_config={**text, "head_dim": HEAD_SIZE}, vision_config=vision, **ids)


def _processor(family: str, tokenizer: PreTrainedTokenizerFast):
    import transformers

    name = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[family]
    patch = 16 if family == "qwen3_vl" else 14
    token_area = (2 * patch) ** 2  # pixels behind one image token
    shared = {"patch_size": patch, "merge_size": 2, "temporal_patch_size": 2}
    if family == "qwen3_vl":
        shared |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        video_class = transformers.Qwen3VLVideoProcessor
    else:
        video_class = transformers.Qwen2VLVideoProcessor
    image_size = {"shortest_edge": 4 * token_area, "longest_edge": 36 * token_area}
    video_size = {"shortest_edge": 4 * token_area, "longest_edge": 256 * token_area}
    system = _DEFAULT_SYSTEM[family]
    prefix = f"{{%- set default_system = {system!r} -%}}" if system else ""
    return getattr(transformers, f"{name}Processor")(
        image_processor=transformers.Qwen2VLImageProcessor(size=image_size, **shared),
        tokenizer=tokenizer,
        video_processor=video_class(size=video_size, max_frames=16, **shared),
        chat_template=prefix + _CHAT_TEMPLATE.strip(),
    )
