# SPDX-License-Identifier: Apache-2.0
"""Which settings of stage `reflection_sft` go together."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any

from ..base import RunArguments, SettingError, check_eval_tasks


#: LLaMA-Factory keys that supervised training never looks at.
INERT_KEYS = frozenset(
    {
        *("pref_beta", "pref_ftx", "pref_loss", "pref_bco_weight", "dpo_label_smoothing", "simpo_gamma", "ld_alpha"),
        *("kto_chosen_weight", "kto_rejected_weight", "ppo_buffer_size", "ppo_epochs", "ppo_score_norm", "ppo_target"),
        *("ppo_whiten_rewards", "reward_model", "reward_model_adapters", "reward_model_quantization_bit"),
        *("reward_model_type", "use_mca", "use_hyper_parallel", "hyper_parallel_args"),
    }
)

#: Optimizers that make parameter groups of their own.
_OWN_GROUPS = ("use_galore", "use_apollo", "loraplus_lr_ratio", "use_badam", "use_adam_mini", "use_muon")


def parse_kind_weights(given: str | Mapping[str, Any] | None) -> dict[str, float] | None:
    """Reads `kind_weights`.

    Args:
        given: `cot=1,refine=0.5`, a JSON object, or a mapping as a YAML file gives it.

    Returns:
        Kind -> weight, or None where none were given.

    Raises:
        SettingError: for text that is neither form, and for weights that are no numbers of at least 0.
    """
    if given is None or given == "":
        return None
    pairs = given.items() if isinstance(given, Mapping) else _pairs(str(given))
    weights: dict[str, float] = {}
    for name, value in pairs:
        if name in weights:
            raise SettingError(f"kind_weights names the kind `{name}` twice.")
        try:
            weight = float(value) if not isinstance(value, bool) else math.nan
        except (TypeError, ValueError):
            weight = math.nan
        if not (math.isfinite(weight) and weight >= 0):
            raise SettingError(f"kind_weights: the weight of `{name}` is {value!r}; write a number, 0 or more.")
        weights[str(name)] = weight
    return weights


def _pairs(text: str) -> Iterable[tuple[str, Any]]:
    form = 'Write `cot=1,refine=0.5` or a JSON object such as {"cot": 1, "refine": 0.5}.'
    if text.lstrip().startswith("{"):
        try:
            return list(json.loads(text, object_pairs_hook=list))
        except (ValueError, TypeError) as error:
            raise SettingError(f"kind_weights is not JSON ({error}). {form}") from None
    parts = [part.partition("=") for part in text.split(",") if part.strip()]
    if not parts or any(not sign or not name.strip() for name, sign, _ in parts):
        raise SettingError(f"kind_weights `{text}` cannot be read. {form}")
    return [(name.strip(), value.strip()) for name, _, value in parts]


def table_of_weights(weights: Mapping[str, float] | None, kinds: tuple[str, ...], present: set[str]) -> list[float]:
    """The weight of each kind, in the order of `kinds`.

    Args:
        weights: what the user gave.
        kinds: all kinds; a kind's place is its id.
        present: those that the rows have.

    Raises:
        SettingError: for a kind that no row has, and if every row would have weight 0.
    """
    weights = weights or {}
    unknown = [name for name in weights if name not in present]
    if unknown:
        raise SettingError(
            f"kind_weights names {', '.join(f'`{name}`' for name in unknown)}, which no row is of. The kinds of this "
            f"data: {', '.join(sorted(present))}."
        )
    table = [weights.get(name, 1.0) for name in kinds]
    if not any(weight for name, weight in zip(kinds, table, strict=True) if name in present):
        raise SettingError("kind_weights gives every kind of this data weight 0: nothing would be trained.")
    return table


def check_settings(run: RunArguments, given: frozenset[str] = frozenset()) -> None:
    """Refuses what cannot work, and turns `kind_weights` into a mapping.

    Args:
        run: arguments of the run.
        given: names of the arguments that the user set.

    Raises:
        SettingError: naming the settings and the way out.
    """
    check_eval_tasks(run, given)
    run.stage.kind_weights = parse_kind_weights(run.stage.kind_weights)
    if run.stage.kind_weights is not None:
        _check_weights(run)
    if run.stage.keep_pairs:
        _check_pairs(run)
    if run.stage.projector_learning_rate is not None:
        _check_projector(run)
    if run.stage.attn is not None:
        _check_attention(run, given)


def _check_weights(run: RunArguments) -> None:
    losses = {
        "use_dft_loss": run.finetuning.use_dft_loss,
        "use_eaft_loss": run.finetuning.use_eaft_loss,
        "use_asft_loss": run.finetuning.use_asft_loss,
        "label_smoothing_factor": run.training.label_smoothing_factor > 0,
        "moe_aux_loss_coef": run.model.moe_aux_loss_coef,
        "enable_liger_kernel": run.model.enable_liger_kernel,
        "ignore_pad_token_for_loss: false": not run.data.ignore_pad_token_for_loss,
    }
    for name, is_set in losses.items():
        if is_set:
            raise SettingError(
                f"kind_weights weighs the tokens' cross-entropy, and `{name}` makes the loss another way: remove one "
                "of the two."
            )


def _check_pairs(run: RunArguments) -> None:
    conflicts = {
        "packing": (run.data.packing or run.data.neat_packing, "packing sorts rows by length"),
        "streaming": (run.data.streaming, "a stream cannot look for the other rows of a pair"),
        "train_sampling_strategy": (
            run.training.train_sampling_strategy != "random",
            "it chooses the order of the rows as well",
        ),
        "val_size": (run.data.val_size > 0, "the split would tear pairs apart: give an eval_dataset instead"),
    }
    for name, (is_set, reason) in conflicts.items():
        if is_set:
            raise SettingError(f"keep_pairs and `{name}` exclude each other: {reason}.")


def _check_projector(run: RunArguments) -> None:
    rate = run.stage.projector_learning_rate
    if not (math.isfinite(rate) and rate > 0):
        raise SettingError(f"projector_learning_rate is {rate}; write a number above 0.")
    adapters = run.finetuning.finetuning_type in ("lora", "oft")
    if run.finetuning.freeze_multi_modal_projector and not (adapters and run.finetuning.additional_target):
        raise SettingError(
            "projector_learning_rate is set and the projector is frozen: set `freeze_multi_modal_projector: false`."
        )
    for name in _OWN_GROUPS:
        if vars(run.finetuning)[name]:
            raise SettingError(
                f"projector_learning_rate needs a parameter group of its own, and `{name}` makes the groups itself: "
                "remove one of the two."
            )
    if run.training.deepspeed and run.training.hf_deepspeed_config.get_value("optimizer") is not None:
        raise SettingError(
            "projector_learning_rate needs the Trainer's optimizer, and the DeepSpeed configuration names one of its "
            "own: remove `optimizer` from it."
        )


def _check_attention(run: RunArguments, given: frozenset[str]) -> None:
    if "flash_attn" in given and str(run.model.flash_attn) != "auto":
        raise SettingError("`attn` and `flash_attn` both choose the attention: remove one of them.")
    if find_spec("xformers") is None:
        raise SettingError(
            "attn: xformers needs xformers, which is not installed: pip install 'llamafactory-mmself[xformers]'"
        )
    import torch

    if run.training.use_cpu or not torch.cuda.is_available():
        raise SettingError(
            "attn: xformers has operators for CUDA devices only, and this run has none: remove `attn`; "
            "LLaMA-Factory's default (sdpa) works everywhere."
        )
