# SPDX-License-Identifier: Apache-2.0
"""Which settings of stage `mdpo` go together."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

from transformers.integrations import is_deepspeed_zero3_enabled

from ...losses.mdpo import ANCHOR_THRESHOLD, MDPO_FAMILY, MODES, STRATEGIES
from ...losses.pairs import LOSS_TYPES, REFERENCE_FREE
from ...plugin import lf
from ...recipes.ovip_pairs import PairError, check_rule
from ..base import RunArguments, SettingError
from .arguments import GRPO, GRPO_ONLY, ONLINE, PAIRS_ONLY, MDPOArguments


ONLINE_STRATEGIES = (GRPO, *(f"{ONLINE}{name}" for name in STRATEGIES))
PUBLISHED_ANCHOR = 0.999
IMAGE_TERMS = get_args(get_type_hints(MDPOArguments)["grpo_image_term"])


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
    if args.strategy not in (*STRATEGIES, *ONLINE_STRATEGIES):
        raise SettingError(
            f"Unknown strategy `{args.strategy}`; use one of {', '.join(STRATEGIES)}, one of them with `{ONLINE}` "
            f"before it, or {GRPO}."
        )
    if args.vtcl_mode not in MODES:
        raise SettingError(f"Unknown vtcl_mode `{args.vtcl_mode}`; use one of {', '.join(MODES)}.")
    if finetuning.pref_loss not in LOSS_TYPES:
        raise SettingError(
            f"pref_loss `{finetuning.pref_loss}` is not a loss of pairs; stage `mdpo` takes {', '.join(LOSS_TYPES)}."
        )
    if args.loss_strategy == "ori-mdpo" and args.vtcl_mode == "sameBatch":
        raise SettingError(
            "ori-mdpo has no second direction: its rejected picture is a crop, and no answer belongs to "
            "the crop alone. Use vtcl_mode single."
        )
    if args.mask_same_sequence and finetuning.pref_ftx > 0:
        raise SettingError("mask_same_sequence leaves out tokens that pref_ftx would train on; set one of them.")
    if args.anchor_ratio is None:
        family = args.loss_strategy in MDPO_FAMILY and finetuning.pref_loss not in REFERENCE_FREE
        args.anchor_ratio = PUBLISHED_ANCHOR if family else 0.0
    if args.anchor_ratio < 0 or args.neg_anchor_ratio < 0:
        raise SettingError("anchor_ratio and neg_anchor_ratio are weights of losses: 0 or more.")
    if args.anchor_ratio >= ANCHOR_THRESHOLD and finetuning.pref_loss in REFERENCE_FREE:
        raise SettingError(f"pref_loss `{finetuning.pref_loss}` has no reference to anchor to: set anchor_ratio 0.")
    _refuse_useless(finetuning, args, given)


def _refuse_useless(finetuning: Any, args: MDPOArguments, given: frozenset[str]) -> None:
    """Arguments that are set to something and that this strategy or pair loss never reads."""
    grpo = args.strategy == GRPO
    pairs = args.loss_strategy != "sft" and not grpo
    reference = grpo or (pairs and finetuning.pref_loss not in REFERENCE_FREE)
    anchored = args.anchor_ratio is not None and args.anchor_ratio >= ANCHOR_THRESHOLD
    read = {
        "not_half_dpo_loss": (args.loss_strategy == "orm", args.not_half_dpo_loss, "strategy orm"),
        "anchor_ratio": (pairs, anchored, "strategies that compare"),
        "neg_anchor_ratio": (anchored, args.neg_anchor_ratio > 0, "runs with anchor_ratio above 0"),
        "pref_beta": (pairs or grpo, finetuning.pref_beta != 0.1, "strategies that compare"),
        "pref_loss": (not grpo, finetuning.pref_loss != "sigmoid", "strategies that compare"),
        "vtcl_mode": (not grpo, args.vtcl_mode != "single", "strategies that compare"),
        "mask_same_sequence": (not grpo, args.mask_same_sequence, "strategies that compare"),
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


def check_online(run: RunArguments, given: frozenset[str]) -> None:
    """Refuses what cannot work while sampling, and brings run and stage arguments into line.

    Micro-batches hold `exp_per_batch` entries, and no data set is read for training.

    Raises:
        SettingError: naming the setting and the way out.
    """
    args: MDPOArguments = run.stage
    _check_sources(args)
    _check_numbers(args)
    _check_run(run)
    read = {**dict.fromkeys(GRPO_ONLY, args.strategy == GRPO), **dict.fromkeys(PAIRS_ONLY, args.strategy != GRPO)}
    read["grpo_image_coef"] = args.strategy == GRPO and args.grpo_image_term != "none"
    for name in sorted(given & read.keys()):
        if not read[name] and vars(args)[name] != MDPOArguments.__dataclass_fields__[name].default:
            raise SettingError(f"`{name}` would do nothing with strategy `{args.strategy}`. Remove it.")
    if not args.experience_buffer:
        args.rollout_sync = True
    if args.strategy == GRPO and run.training.do_eval:
        raise SettingError("Strategy grpo has no evaluation loss: use `eval_tasks`, or `mmself eval` on checkpoints.")
    if run.data.dataset and run.data.dataset != ["dummy"]:
        lf.get_logger(__name__).warning_rank0(
            f"`dataset` {', '.join(run.data.dataset)} is not read: an online strategy trains on what it samples for "
            "the prompts of `ds_path`."
        )
    ranks, batch = run.training.world_size, args.rollout_batch_size
    wave = args.exp_per_batch * ranks * run.training.gradient_accumulation_steps
    if batch > 1 and batch * ranks > wave:
        lf.get_logger(__name__).warning_rank0(
            f"A step takes {wave} prompts, and rollout_batch_size {batch} is too much for {ranks} ranks to share "
            "them: some will be idle while others sample."
        )
    run.data.dataset = []
    run.training.per_device_train_batch_size = args.exp_per_batch


def _check_sources(args: MDPOArguments) -> None:
    for name, what in (("ds_path", "a JSON file of prompts"), ("services", "a YAML file of services, or `toy`")):
        if not getattr(args, name):
            raise SettingError(f"Strategy `{args.strategy}` samples during training and needs `{name}`: {what}.")
    try:
        check_rule(args.pair_rule, args.online_only_strategy)
    except PairError as error:
        raise SettingError(str(error)) from error
    if args.online_only_strategy and not args.online_only:
        raise SettingError("`online_only_strategy` would do nothing without `online_only`. Set both, or neither.")
    if args.grpo_image_term not in IMAGE_TERMS:
        raise SettingError(f"Unknown grpo_image_term `{args.grpo_image_term}`; use one of {', '.join(IMAGE_TERMS)}.")


def _check_numbers(args: MDPOArguments) -> None:
    least: dict[str, tuple[float, bool]] = {
        **dict.fromkeys(("rollout_max_new_tokens", "rollout_batch_size", "rollout_workers"), (1, True)),
        **dict.fromkeys(("exp_per_batch", "experience_size", "experience_replay"), (1, True)),
        **dict.fromkeys(("rollout_ahead", "rollout_top_k", "experience_staleness", "grpo_chunk"), (0, True)),
        **dict.fromkeys(("experience_half_life", "experience_difficulty", "grpo_importance_cap"), (0, True)),
        **dict.fromkeys(("rollout_temperature", "grpo_clip_range", "grpo_image_coef", "rollout_top_p"), (0, False)),
        "rollout_n": (2 if args.strategy == GRPO else 1, True),
    }
    for name, (bound, reached) in least.items():
        value = vars(args)[name]
        if not (value >= bound if reached else value > bound):
            raise SettingError(f"{name} has to be {'at least' if reached else 'above'} {bound}; it is {value}.")
    if args.rollout_top_p > 1:
        raise SettingError(f"rollout_top_p is a share, at most 1; it is {args.rollout_top_p}.")


def _check_run(run: RunArguments) -> None:
    training: Any = run.training
    reasons = {
        "trains: set `do_train: true`. Offline strategies evaluate without training": not training.do_train,
        "reads no training data set to split: remove `val_size`, and give an `eval_dataset`": bool(run.data.val_size),
        "makes its rows while it trains: remove `ref_logps`": run.stage.ref_logps != "live",
        "makes its rows while it trains: remove `streaming`": run.data.streaming,
        "makes its rows while it trains: remove `tokenized_path`": run.data.tokenized_path is not None,
        "finds its own batch size in `exp_per_batch`: remove `auto_find_batch_size`": training.auto_find_batch_size,
        "orders its prompts by itself, from `seed`: remove `disable_shuffling`": run.finetuning.disable_shuffling,
        "orders its prompts by itself, from `seed`: remove `data_seed`": training.data_seed is not None,
        "counts no tokens per second: remove `include_effective_tokens_per_second`": (
            run.finetuning.include_effective_tokens_per_second
        ),
        "samples with the model in training and needs all of it on each rank: use DDP or DeepSpeed ZeRO-1 or ZeRO-2, "
        "not ZeRO-3 or FSDP": bool(training.fsdp) or is_deepspeed_zero3_enabled(),
    }
    for reason, wrong in reasons.items():
        if wrong:
            raise SettingError(f"Strategy `{run.stage.strategy}` {reason}.")
