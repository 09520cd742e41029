# SPDX-License-Identifier: Apache-2.0
"""What a family hands to the builder, and the sizes that all families share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from transformers import PreTrainedConfig, ProcessorMixin

HEAD_SIZE = 64  # vLLM's CPU attention takes heads of 64
HIDDEN_SIZE = 128
VISION_HIDDEN_SIZE = 64
MAX_POSITIONS = 2048
INITIALIZER_RANGE = 0.08  # near 1 / sqrt(HIDDEN_SIZE), so that signals neither die out nor grow

LANGUAGE_SIZES = {
    "hidden_size": HIDDEN_SIZE,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": HIDDEN_SIZE // HEAD_SIZE,
    "num_key_value_heads": 1,
    "max_position_embeddings": MAX_POSITIONS,
    "initializer_range": INITIALIZER_RANGE,
}


@dataclass(frozen=True)
class Parts:
    """All of a checkpoint but its weights; `generation` holds the token ids for `generation_config.json`."""

    config: PreTrainedConfig
    processor: ProcessorMixin
    generation: dict[str, int | list[int]]
