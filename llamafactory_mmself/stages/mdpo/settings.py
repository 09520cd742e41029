# SPDX-License-Identifier: Apache-2.0
"""Which settings of stage `mdpo` go together."""

from __future__ import annotations

from typing import Any

from ...losses.mdpo import ANCHOR_THRESHOLD, MDPO_FAMILY, MODES, STRATEGIES
from ...losses.pairs import LOSS_TYPES, REFERENCE_FREE
from ..base import SettingError
from .arguments import MDPOArguments


ONLINE_STRATEGIES = ("grpo", *(f"online-{name}" for name in STRATEGIES))
PUBLISHED_ANCHOR = 0.999


def check_settings(finetuning: Any, args: MDPOArguments, given: frozenset[str] = frozenset()) -> None:
    """Refuses what cannot work and fills in the anchor's default.

    Args:
        finetuning: LLaMA-Factory's finetuning arguments.
        args: the stage's arguments; `strategy` is brought to its canonical spelling, `anchor_ratio` resolved.
        given: names of the arguments that the user set; those that would do nothing are refused.

    Raises:
        SettingError: naming the settings and the way out.
    """
    args.strategy = args.strategy.strip().lower().replace("_", "-")
    if args.strategy in ONLINE_STRATEGIES:
        raise SettingError(
            f"strategy `{args.strategy}` samples during training, which this release does not do yet; "
            f"the offline strategies are {', '.join(STRATEGIES)}."
        )
    if args.strategy not in STRATEGIES:
        raise SettingError(f"Unknown strategy `{args.strategy}`; use one of {', '.join(STRATEGIES)}.")
    if args.vtcl_mode not in MODES:
        raise SettingError(f"Unknown vtcl_mode `{args.vtcl_mode}`; use one of {', '.join(MODES)}.")
    if finetuning.pref_loss not in LOSS_TYPES:
        raise SettingError(
            f"pref_loss `{finetuning.pref_loss}` is not a loss of pairs; stage `mdpo` takes {', '.join(LOSS_TYPES)}."
        )
    if args.strategy == "ori-mdpo" and args.vtcl_mode == "sameBatch":
        raise SettingError(
            "ori-mdpo has no second direction: its rejected picture is a crop, and no answer belongs to "
            "the crop alone. Use vtcl_mode single."
        )
    if args.mask_same_sequence and finetuning.pref_ftx > 0:
        raise SettingError("mask_same_sequence leaves out tokens that pref_ftx would train on; set one of them.")
    if args.anchor_ratio is None:
        family = args.strategy in MDPO_FAMILY and finetuning.pref_loss not in REFERENCE_FREE
        args.anchor_ratio = PUBLISHED_ANCHOR if family else 0.0
    if args.anchor_ratio < 0 or args.neg_anchor_ratio < 0:
        raise SettingError("anchor_ratio and neg_anchor_ratio are weights of losses: 0 or more.")
    if args.anchor_ratio >= ANCHOR_THRESHOLD and finetuning.pref_loss in REFERENCE_FREE:
        raise SettingError(f"pref_loss `{finetuning.pref_loss}` has no reference to anchor to: set anchor_ratio 0.")
    _refuse_useless(finetuning, args, given)


def _refuse_useless(finetuning: Any, args: MDPOArguments, given: frozenset[str]) -> None:
    """Arguments that are set to something and that this strategy or pair loss never reads."""
    pairs = args.strategy != "sft"
    reference = pairs and finetuning.pref_loss not in REFERENCE_FREE
    anchored = args.anchor_ratio is not None and args.anchor_ratio >= ANCHOR_THRESHOLD
    read = {
        "not_half_dpo_loss": (args.strategy == "orm", args.not_half_dpo_loss, "strategy orm"),
        "anchor_ratio": (pairs, anchored, "strategies that compare"),
        "neg_anchor_ratio": (anchored, args.neg_anchor_ratio > 0, "runs with anchor_ratio above 0"),
        "pref_beta": (pairs, finetuning.pref_beta != 0.1, "strategies that compare"),
        "pref_ftx": (pairs, finetuning.pref_ftx > 0, "strategies that compare"),
        "simpo_gamma": (finetuning.pref_loss == "simpo", finetuning.simpo_gamma != 0.5, "pref_loss simpo"),
        "ref_model": (reference, finetuning.ref_model is not None, "losses with a reference"),
        "ref_model_adapters": (reference, finetuning.ref_model_adapters is not None, "losses with a reference"),
    }
    for name, (used, is_set, reader) in read.items():
        if name in given and is_set and not used:
            raise SettingError(
                f"`{name}` would do nothing here: it belongs to {reader}, and this run has strategy `{args.strategy}` "
                f"with pref_loss `{finetuning.pref_loss}`. Remove it."
            )
