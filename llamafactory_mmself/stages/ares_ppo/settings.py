# SPDX-License-Identifier: Apache-2.0
"""Which settings of stage `ares_ppo` go together."""

from __future__ import annotations

import os
from typing import Any, get_args, get_type_hints

from ..base import TREE_INERT_KEYS, RunArguments, SettingError
from .arguments import AresPPOArguments


#: LLaMA-Factory keys that this stage never looks at: those of tree stages, but for the passes over a buffer, and those
#: of preferences and evaluation.
INERT_KEYS = (TREE_INERT_KEYS - {"ppo_epochs"}) | {
    *("pref_beta", "pref_ftx", "pref_loss", "dpo_label_smoothing", "simpo_gamma"),
    *("streaming", "tokenized_path", "mix_strategy", "interleave_probs", "preprocessing_num_workers"),
    *("overwrite_cache", "preprocessing_batch_size", "disable_shuffling", "dataloader_num_workers", "data_seed"),
    "include_effective_tokens_per_second",
}

_CRITIC_ONLY = ("gae_lambda", "critic", "critic_warmup_epochs")
_TRUNK_ONLY = ("value_coef", "critic_warmup_lr")
_ADAPTER_ONLY = ("critic_epochs", "critic_lr")


def check_settings(run: RunArguments, given: frozenset[str]) -> None:
    """Refuses what cannot work, and fills in `whiten_advantages`.

    Raises:
        SettingError: naming the setting and the way out.
    """
    args: AresPPOArguments = run.stage
    _check_choices(args)
    _check_numbers(args, run)
    if args.whiten_advantages is None:
        args.whiten_advantages = args.advantage == "gae"
    if args.ref_logps == "cache" or args.ref_logps_dir is not None:
        raise SettingError("`ref_logps` would do nothing here: the reference scores each buffer once. Remove it.")
    if args.reward == "teacher" and not args.teacher:
        raise SettingError(
            "`reward: teacher` needs `teacher`: a YAML file, a .jsonl file of scores, or module:function."
        )
    if args.reward not in ("teacher", "outcome") and ":" not in args.reward:
        raise SettingError(f"Unknown reward `{args.reward}`; use teacher, outcome or module:function.")
    if args.rollout_samples is not None and not os.path.isfile(args.rollout_samples):
        raise SettingError(f"`rollout_samples`: there is no file {args.rollout_samples}.")
    _refuse_useless(args, given)
    _check_run(run)


def _check_choices(args: AresPPOArguments) -> None:
    hints = get_type_hints(AresPPOArguments)
    for name in ("sentence_reward", "cut_responses", "advantage", "critic", "quirks"):
        if vars(args)[name] not in get_args(hints[name]):
            raise SettingError(f"Unknown {name} `{vars(args)[name]}`; use one of {', '.join(get_args(hints[name]))}.")


def _check_numbers(args: AresPPOArguments, run: RunArguments) -> None:
    least: dict[str, tuple[float, bool]] = {
        **dict.fromkeys(("rollout_n", "rollout_batch_size", "rollout_max_new_tokens"), (1, True)),
        **dict.fromkeys(("rollout_prompts", "critic_warmup_epochs", "critic_epochs"), (0, True)),
        **dict.fromkeys(("kl_coef", "value_coef", "entropy_coef", "min_entropy", "target_kl"), (0, True)),
        **dict.fromkeys(("clip_range", "rollout_temperature", "critic_warmup_lr", "critic_lr"), (0, False)),
    }
    for name, (bound, reached) in least.items():
        value = vars(args)[name]
        if not (value >= bound if reached else value > bound):
            raise SettingError(f"{name} has to be {'at least' if reached else 'above'} {bound}; it is {value}.")
    for name in ("gamma", "gae_lambda", "neutral_score", "rollout_top_p"):
        if not 0 <= vars(args)[name] <= 1:
            raise SettingError(f"{name} lies between 0 and 1; it is {vars(args)[name]}.")
    if not args.rollout_top_p:
        raise SettingError("rollout_top_p has to be above 0; 1 is off.")
    if run.finetuning.ppo_epochs < 1:
        raise SettingError(f"ppo_epochs has to be at least 1; it is {run.finetuning.ppo_epochs}.")
    if args.advantage != "gae" and args.rollout_n < 2:
        raise SettingError(f"advantage `{args.advantage}` compares a prompt's samples: set rollout_n to 2 or more.")


def _refuse_useless(args: AresPPOArguments, given: frozenset[str]) -> None:
    taught = args.reward == "teacher"
    outcome = args.reward == "outcome" or args.outcome_coef != 0
    live = args.rollout_samples is None
    valued, apart = args.advantage == "gae", args.critic == "adapter"
    sampling = ("rollout_temperature", "rollout_top_p", "rollout_top_k", "rollout_batch_size")
    read = {
        **dict.fromkeys(_CRITIC_ONLY, (valued, "advantage gae")),
        **dict.fromkeys(_TRUNK_ONLY, (valued and not apart, "advantage gae with critic shared or head")),
        **dict.fromkeys(_ADAPTER_ONLY, (valued and apart, "advantage gae with critic adapter")),
        **dict.fromkeys(("teacher", "neutral_score", "score_answer", "outcome_coef"), (taught, "reward teacher")),
        "sentence_reward": (taught, "reward teacher"),
        "verifier": (outcome, "outcome rewards"),
        "whiten_advantages": (args.advantage != "group", "advantages gae and rloo"),
        **dict.fromkeys(sampling, (live, "runs that sample")),
    }
    for name in sorted(given & read.keys()):
        used, reader = read[name]
        if not used and vars(args)[name] != AresPPOArguments.__dataclass_fields__[name].default:
            raise SettingError(f"`{name}` would do nothing here: it belongs to {reader}. Remove it.")


def _check_run(run: RunArguments) -> None:
    training: Any = run.training
    if run.stage.eval_tasks:
        raise SettingError(
            "Stage `ares_ppo` runs no tasks within training: remove eval_tasks. `mmself eval` measures checkpoints, "
            "`mmself loop` held-out questions after each round."
        )
    if not training.do_train:
        raise SettingError("Stage `ares_ppo` trains: set `do_train: true`. `mmself sample` and the loop evaluate.")
    strategy = str(getattr(training.eval_strategy, "value", training.eval_strategy))
    if training.do_eval or strategy != "no" or run.data.eval_dataset or run.data.val_size:
        raise SettingError(
            "Stage `ares_ppo` has no evaluation within training: remove do_eval, eval_strategy, eval_dataset and "
            "val_size. Each buffer's mean score is logged; `mmself loop` measures held-out questions after each round."
        )
    if run.stage.advantage == "gae" and run.stage.critic == "adapter" and run.finetuning.finetuning_type != "lora":
        raise SettingError(
            "`critic: adapter` needs `finetuning_type: lora`: its trunk is the model below the policy's adapter. Use "
            "critic shared or head with other tuning."
        )
    if training.load_best_model_at_end:
        raise SettingError("`load_best_model_at_end` needs an evaluation, which stage `ares_ppo` does not have.")
    if run.finetuning.use_badam:
        raise SettingError("Stage `ares_ppo` does not run with BAdam: its blocks would leave the critic out.")
    if training.fsdp or _zero3(training.deepspeed):
        raise SettingError(
            "Stage `ares_ppo` samples with the model in training, and needs all of it on each rank: use DDP or "
            "DeepSpeed ZeRO-1 or ZeRO-2, not ZeRO-3 or FSDP."
        )


def _zero3(config: Any) -> bool:
    if config is None:
        return False
    from transformers.integrations import is_deepspeed_zero3_enabled

    return bool(is_deepspeed_zero3_enabled())
