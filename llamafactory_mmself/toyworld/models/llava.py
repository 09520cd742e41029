# SPDX-License-Identifier: Apache-2.0
"""Tiny LLaVA: a CLIP tower, a projector and a Llama."""

from __future__ import annotations

from .parts import HEAD_SIZE, INITIALIZER_RANGE, LANGUAGE_SIZES, VISION_HIDDEN_SIZE, Parts
from .tokenizer import train_tokenizer


IMAGE_SIZE = 56
PATCH_SIZE = 14
_SPECIAL_TOKENS = ("<unk>", "<s>", "</s>", "<image>", "<pad>")

_CHAT_TEMPLATE = """
{%- for message in messages -%}
  {%- set end = eos_token if message.role == 'assistant' else ' ' -%}
  {%- if message.role != 'system' -%}{{ message.role | upper + ': ' }}{%- endif -%}
  {%- if message.content is string -%}{{ message.content }}
  {%- else -%}
    {%- for part in message.content -%}
      {%- if part.type == 'image' -%}{{ '<image>\n' }}{%- else -%}{{ part.text }}{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {{- end -}}
{%- endfor -%}
{%- if add_generation_prompt -%}ASSISTANT:{%- endif -%}
"""


def llava_parts() -> Parts:
    """Returns config and processor of `llava`; a picture takes 16 image tokens."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaProcessor

    tokenizer = train_tokenizer(
        _SPECIAL_TOKENS,
        {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"},
        extra_special_tokens=("<image>",),
        prepend="<s>",
    )
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = CLIPVisionConfig(
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        hidden_size=VISION_HIDDEN_SIZE,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=VISION_HIDDEN_SIZE // HEAD_SIZE,
        projection_dim=VISION_HIDDEN_SIZE,
        initializer_factor=2.0,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(vocab_size=len(tokenizer), head_dim=HEAD_SIZE, **LANGUAGE_SIZES, **ids),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(IMAGE_SIZE // PATCH_SIZE) ** 2,
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
        initializer_range=INITIALIZER_RANGE,
        pad_token_id=tokenizer.pad_token_id,
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": IMAGE_SIZE}, crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}
        ),
        tokenizer=tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # CLIP's class token, which "default" drops again
        chat_template=_CHAT_TEMPLATE.strip(),
    )
    return Parts(config, processor, ids)
