# SPDX-License-Identifier: Apache-2.0
"""Arguments of stage `sherlock_dpo`; `refine_beta` has the name that Sherlock's configurations use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..base import TreeArguments


@dataclass
class SherlockArguments(TreeArguments):
    """Arguments of stage `sherlock_dpo`. `pref_beta` and `pref_ftx` are LLaMA-Factory's own; `pref_loss` is `sr`."""

    preset: Literal["paper", "published", "none"] = field(
        default="paper",
        metadata={
            "help": "Where `refine_beta` and `weigh_dpo` come from if they are not given. paper: 0.25 and false. "
            "published: 0.025 and true, as in the published code. none: refine_beta has to be given, and weigh_dpo is "
            "false. All go with pref_beta 0.1, the default."
        },
    )
    refine_beta: float | None = field(
        default=None,
        metadata={"help": "Strength of the correction terms; each row's weight scales it. Default: see `preset`."},
    )
    weigh_dpo: bool | None = field(
        default=None,
        metadata={"help": "Whether each row's weight scales `pref_beta` as well. Default: see `preset`."},
    )
    sc_coef: float = field(default=0.8, metadata={"help": "Weight of the two correction terms in the loss."})
    dpo_coef: float = field(
        default=0.2,
        metadata={"help": "Weight of the DPO term in the loss. The paper's alpha is dpo_coef / sc_coef."},
    )
    no_dpo_term: bool = field(
        default=False, metadata={"help": "Ablation: train the correction terms alone. The same as dpo_coef 0."}
    )
    no_correction_term: bool = field(
        default=False,
        metadata={"help": "Ablation: train the DPO term alone, on the same rows. The same as sc_coef 0."},
    )
    static_weight: float | None = field(
        default=None,
        metadata={
            "help": "Ablation: one weight for all rows instead of the column `weights`, which may then be missing. "
            "With 1 the betas are what `pref_beta` and `refine_beta` say."
        },
    )
    prefix_in_response: Literal["auto", "true", "false"] = field(
        default="auto",
        metadata={
            "help": "Whether `chosen` and `rejected` begin with their prefix (true) or hold only what follows it "
            "(false). auto: what dataset_info.json says, and if it says nothing, the first row with a prefix decides."
        },
    )
    correction_prompt: str | None = field(
        default=None,
        metadata={
            "help": "Text file of the prompt that shows a response and asks for a better one, with {question} and "
            "{response} in it and a first line `version: <word>`. Default: the one that comes with the package."
        },
    )
    quirks: Literal["fixed", "published"] = field(
        default="fixed",
        metadata={
            "help": "`published` logs `losses/total` as the published trainer does, without the second correction "
            "term. The loss is the same."
        },
    )
