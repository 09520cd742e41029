# SPDX-License-Identifier: Apache-2.0
"""Stock workflows that step aside for a plugin stage."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

from .registry import load_stage


def install(module: ModuleType) -> list[str]:
    """Replaces `run_sft` and `run_dpo` of the tuner; returns the replaced names."""
    for name in ("run_sft", "run_dpo"):
        setattr(module, name, _dispatching(getattr(module, name)))
    return ["run_sft", "run_dpo"]


def _dispatching(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def run(model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any, *rest: Any) -> None:
        name = finetuning_args.plugin_stage
        if name is None:
            return original(model_args, data_args, training_args, finetuning_args, *rest)

        from ..stages.base import RunArguments

        stage_args = finetuning_args.stage_args
        run_args = RunArguments(model_args, data_args, training_args, finetuning_args, stage_args)
        return load_stage(name).run(run_args, rest[-1])

    return run
