# SPDX-License-Identifier: Apache-2.0
"""Arguments of stage `mdpo`, under the names that OViP's command line uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..base import TreeArguments


@dataclass
class MDPOArguments(TreeArguments):
    """Arguments of stage `mdpo`. Beta, smoothing and the pair loss are LLaMA-Factory's own `pref_*` arguments."""

    strategy: str = field(
        default="orm",
        metadata={
            "help": "What is compared. dpo: answers. mdpo, vtcl: answers, and the picture with the rejected one. "
            "ori-mdpo: the same with a random crop as the rejected picture. svco-noref, svco-ref, svco-textref: S-VCO "
            "without a middle, with a white picture, or with no picture as the middle. orm: OViP's loss. sft: none."
        },
    )
    vtcl_mode: Literal["single", "difBatch", "sameBatch"] = field(
        default="single",
        metadata={
            "help": "Directions of a row. single: the chosen answer belongs to the picture. difBatch: the same; the "
            "data holds both directions as separate rows. sameBatch: the rejected answer also belongs to the rejected "
            "picture, both directions in one sample."
        },
    )
    anchor_ratio: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the anchor, which keeps the chosen answer above its reference; below 1e-6 it is off. "
            "Default: 0.999 for mdpo, vtcl and ori-mdpo, as in their paper, and 0 for the others."
        },
    )
    neg_anchor_ratio: float = field(
        default=0.0,
        metadata={"help": "Weight of the anchor against the rejected answer; read only when the anchor is on."},
    )
    not_half_dpo_loss: bool = field(
        default=False,
        metadata={"help": "orm: the sum of the two picture terms instead of half of it (OViP's own runs set it)."},
    )
    mask_same_sequence: bool = field(
        default=False,
        metadata={"help": "Score only the tokens in which the chosen and the rejected answer differ."},
    )
    quirks: Literal["fixed", "published"] = field(
        default="fixed",
        metadata={"help": "`published` repeats known defects of the published losses, for comparisons."},
    )
    experience_buffer: bool = field(
        default=False, metadata={"help": "Online strategies: keep sampled pairs in an experience buffer."}
    )
    ds_path: str = field(default="", metadata={"help": "Online strategies: JSON file of the prompts to sample for."})
    exp_per_batch: int = field(
        default=2, metadata={"help": "Online strategies: pairs that one micro-step takes from the buffer, per rank."}
    )
    online_only: bool = field(
        default=False, metadata={"help": "Online strategies: never fall back on the reference answer."}
    )
    online_only_strategy: str = field(
        default="",
        metadata={"help": "Online strategies: `additional` relaxes the pair rule when `online_only` is set."},
    )
    online_data_save_dir: str = field(
        default="", metadata={"help": "Online strategies: where sampled data is written. Default: under `output_dir`."}
    )
    iter_training: bool = field(default=False, metadata={"help": "Accepted for old command lines; does nothing."})
    test: bool = field(default=False, metadata={"help": "Accepted for old command lines; does nothing."})
    test_output_name: str | None = field(
        default=None, metadata={"help": "Accepted for old command lines; does nothing."}
    )
    test_dataset_name: str = field(default="", metadata={"help": "Accepted for old command lines; does nothing."})


#: Arguments that only online strategies read.
ONLINE_ONLY = frozenset(
    {
        "experience_buffer",
        "ds_path",
        "exp_per_batch",
        "online_only",
        "online_only_strategy",
        "online_data_save_dir",
    }
)
#: Arguments that never had an effect, kept so that published command lines parse.
WITHOUT_EFFECT = frozenset({"iter_training", "test", "test_output_name", "test_dataset_name"})
