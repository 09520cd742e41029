# SPDX-License-Identifier: Apache-2.0
"""The published hyper-parameters of ARES (arXiv 2407.00087), for `preset` under a recipe's `rounds`.

A step of `rl` has as many prompts as the published one, each with its four samples: 256 samples (base), 128 (large).
No command is published for the large model's corrections; they are those of the base model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .steps import LoopError


PRESET = "preset"

_RL: Mapping[str, Any] = {
    "learning_rate": 2.0e-5,
    "lr_scheduler_type": "constant",
    "weight_decay": 0.01,
    "max_grad_norm": 1.0e9,  # published: no clipping
    "num_train_epochs": 1,
    "rollout_n": 4,
    "rollout_prompts": 0,  # the whole training set is one buffer
    "rollout_max_new_tokens": 512,
    "rollout_top_k": 50,
    "neutral_score": 0.5,
    "kl_coef": 1.0e-4,
    "gamma": 1.0,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "value_coef": 1.0,
}
_CORRECTIONS: Mapping[str, Any] = {"learning_rate": 8.0e-5, "num_train_epochs": 20, "global_batch": 8}
_ANSWER: Mapping[str, Any] = {
    "learning_rate": 8.0e-5,
    "num_train_epochs": 20,
    "global_batch": 16,
    "lora_rank": 64,
    "lora_alpha": 128,
    "lora_dropout": 0.05,
}

#: Preset -> phase -> arguments.
PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "base": {
        "rl": {
            **_RL,
            "per_device_train_batch_size": 2,  # prompts: 8 samples
            "global_batch": 64,
            "rollout_batch_size": 64,
            "ppo_epochs": 10,
            "whiten_advantages": True,
        },
        "sft": _CORRECTIONS,
        "answer": _ANSWER,
    },
    "large": {
        "rl": {
            **_RL,
            "per_device_train_batch_size": 1,  # published: 2 samples
            "global_batch": 32,
            "rollout_batch_size": 32,
            "ppo_epochs": 5,
            "whiten_advantages": False,
        },
        "sft": _CORRECTIONS,
        "answer": _ANSWER,
    },
}


def with_preset(phase: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A phase's training arguments over those of the preset that they name.

    Raises:
        LoopError: there is no such preset.
    """
    own = dict(arguments)
    name = own.pop(PRESET, None)
    if name is None:
        return own
    if name not in PRESETS:
        raise LoopError(f"`rounds.{phase}.preset`: {name!r} is none of {', '.join(PRESETS)}.")
    preset = dict(PRESETS[name][phase])
    if "gradient_accumulation_steps" in own:
        preset.pop("global_batch", None)  # one of them decides
    return {**preset, **own}
