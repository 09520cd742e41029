# SPDX-License-Identifier: Apache-2.0
"""Arguments of stage `reflection_sft`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..base import EvalTaskArguments


@dataclass
class ReflectionSFTArguments(EvalTaskArguments):
    """Arguments of stage `reflection_sft`. Everything else is as in LLaMA-Factory's `sft`."""

    kind_weights: str | None = field(
        default=None,
        metadata={
            "help": "Weight of the tokens of each kind of row: `cot=1,refine=0.5` or JSON. Kinds that are not named "
            "have weight 1. The loss is the weighted mean over all tokens of a step."
        },
    )
    keep_pairs: bool = field(
        default=False,
        metadata={"help": "Keep rows with the same `pair` next to each other, in one batch where they fit."},
    )
    projector_learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "Learning rate of the multimodal projector; needs `freeze_multi_modal_projector: false`. Default: "
            "`learning_rate`."
        },
    )
    attn: Literal["xformers"] | None = field(
        default=None,
        metadata={"help": "`xformers`: memory-efficient attention of xformers. Default: what `flash_attn` says."},
    )
