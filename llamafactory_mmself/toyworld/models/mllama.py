# SPDX-License-Identifier: Apache-2.0
"""Tiny Mllama (Llama 3.2 Vision): tiles of 56 pixels and one gated cross-attention layer."""

from __future__ import annotations

from .parts import HEAD_SIZE, INITIALIZER_RANGE, LANGUAGE_SIZES, VISION_HIDDEN_SIZE, Parts
from .tokenizer import train_tokenizer


TILE_SIZE = 56
MAX_TILES = 4
# The image token comes last: its id is the first one that the output layer does not know, as in the large model.
_SPECIAL_TOKENS = (
    *("<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>", "<|image|>"),
)

_CHAT_TEMPLATE = """
{{- bos_token -}}
{%- for message in messages -%}
  {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' -}}
  {%- if message.content is string -%}{{ message.content }}
  {%- else -%}
    {%- for part in message.content -%}
      {%- if part.type == 'image' -%}<|image|>{%- else -%}{{ part.text }}{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  <|eot_id|>
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}
"""


def mllama_parts() -> Parts:
    """Returns config and processor of `mllama`; a picture is cut into one to four tiles of 16 patches."""
    from transformers import MllamaConfig, MllamaImageProcessor, MllamaProcessor

    tokenizer = train_tokenizer(
        _SPECIAL_TOKENS,
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "<|finetune_right_pad_id|>"},
        prepend="<|begin_of_text|>",
    )
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": [
            tokenizer.convert_tokens_to_ids(token) for token in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")
        ],
        "pad_token_id": tokenizer.pad_token_id,
    }
    image_token_id = tokenizer.convert_tokens_to_ids("<|image|>")
    text = {
        **LANGUAGE_SIZES,
        "vocab_size": image_token_id,
        "cross_attention_layers": [1],
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        **ids,
    }
    vision = {
        "image_size": TILE_SIZE,
        "patch_size": 14,
        "max_num_tiles": MAX_TILES,
        "hidden_size": VISION_HIDDEN_SIZE,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_global_layers": 1,
        "attention_heads": VISION_HIDDEN_SIZE // HEAD_SIZE,
        "intermediate_layers_indices": [0],
        "vision_output_dim": 2 * VISION_HIDDEN_SIZE,  # the last layer and the one kept intermediate layer
        "initializer_range": INITIALIZER_RANGE,
    }
    config = MllamaConfig(text_config=text, vision_config=vision, image_token_index=image_token_id)
    processor = MllamaProcessor(
        image_processor=MllamaImageProcessor(
            size={"height": TILE_SIZE, "width": TILE_SIZE}, max_image_tiles=MAX_TILES
        ),
        tokenizer=tokenizer,
        chat_template=_CHAT_TEMPLATE.strip(),
    )
    return Parts(config, processor, ids)
