# SPDX-License-Identifier: Apache-2.0
"""Which settings of stage `sherlock_dpo` go together."""

from __future__ import annotations

import math
from typing import Any

from ...data.media import PLACEHOLDERS
from ...prompts import Prompt, load_prompt
from ..base import SettingError
from .arguments import SherlockArguments


#: preset -> refine_beta.
PRESETS = {"paper": 0.25, "published": 0.025}
#: `sr` is this stage's own; `sigmoid` is LLaMA-Factory's default and what the DPO term is.
ACCEPTED_LOSSES = ("sr", "sigmoid")
CORRECTION_PROMPT = "sherlock_correction.txt"


def check_settings(finetuning: Any, args: SherlockArguments, given: frozenset[str]) -> None:
    """Refuses what cannot work and resolves the preset and the ablations.

    Args:
        finetuning: LLaMA-Factory's finetuning arguments.
        args: the stage's arguments; `refine_beta`, `weigh_dpo`, `sc_coef`, `dpo_coef` and `prefix_in_response` are
            resolved.
        given: names of the arguments that the user set.

    Raises:
        SettingError: naming the settings and the way out.
        PromptError: for a correction prompt that cannot be used.
    """
    _check_stock_settings(finetuning)
    _resolve_ablations(args, given)
    if args.preset not in (*PRESETS, "none"):
        raise SettingError(f"Unknown preset `{args.preset}`; use one of {', '.join(PRESETS)}, none.")
    if args.refine_beta is None:
        if args.preset == "none":
            raise SettingError(
                "preset `none` leaves refine_beta open: give it (0.25 in the paper, 0.025 in its code)."
            )
        args.refine_beta = PRESETS[args.preset]
    if args.weigh_dpo is None:
        args.weigh_dpo = args.preset == "published"
    for name in ("refine_beta", "static_weight"):
        value = getattr(args, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise SettingError(f"{name} is {value}; it has to be above 0.")
    args.prefix_in_response = str(args.prefix_in_response).lower()  # type: ignore[assignment]  # YAML has true and false
    if args.prefix_in_response not in ("auto", "true", "false"):
        raise SettingError(f"prefix_in_response is `{args.prefix_in_response}`; use auto, true or false.")
    if args.quirks not in ("fixed", "published"):
        raise SettingError(f"Unknown quirks `{args.quirks}`; use fixed or published.")
    correction_prompt(args)


def _check_stock_settings(finetuning: Any) -> None:
    if finetuning.pref_loss not in ACCEPTED_LOSSES:
        raise SettingError(
            f"pref_loss `{finetuning.pref_loss}` would do nothing: this stage has its own loss, `sr`. Leave it out."
        )
    if finetuning.dpo_label_smoothing:
        raise SettingError(
            "dpo_label_smoothing would do nothing: Sherlock's loss has no smoothed form, and its correction terms are "
            "squares. Remove it."
        )
    if finetuning.simpo_gamma != 0.5:
        raise SettingError("simpo_gamma would do nothing: it is a margin of pref_loss `simpo`. Remove it.")


def _resolve_ablations(args: SherlockArguments, given: frozenset[str]) -> None:
    if args.no_dpo_term and args.no_correction_term:
        raise SettingError("no_dpo_term and no_correction_term together leave no loss: set one of them.")
    for switch, coefficient in (("no_dpo_term", "dpo_coef"), ("no_correction_term", "sc_coef")):
        if getattr(args, switch):
            if coefficient in given and getattr(args, coefficient):
                raise SettingError(f"{switch} sets {coefficient} to 0, and you set it to another value: remove one.")
            setattr(args, coefficient, 0.0)
    if min(args.sc_coef, args.dpo_coef) < 0 or not args.sc_coef + args.dpo_coef:
        raise SettingError("sc_coef and dpo_coef are weights of losses: 0 or more, and not both 0.")


def correction_prompt(args: SherlockArguments) -> Prompt:
    """The prompt that shows a response and asks for a better one.

    Raises:
        SettingError: if it holds a placeholder of a picture, which the stage puts in front of it.
        PromptError: see `load_prompt`.
    """
    prompt = load_prompt(args.correction_prompt, CORRECTION_PROMPT, {"question", "response"})
    if found := [placeholder for placeholder in PLACEHOLDERS if placeholder in prompt.text]:
        raise SettingError(
            f"The correction prompt {prompt.file} holds `{found[0]}`; the question's pictures are put in front of it: "
            "delete the placeholder."
        )
    return prompt
