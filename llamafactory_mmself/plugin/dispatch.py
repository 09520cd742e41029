# SPDX-License-Identifier: Apache-2.0
"""Stock workflows that step aside for a plugin stage."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

from .launch import env_enabled
from .registry import load_stage


def install(module: ModuleType) -> list[str]:
    """Replaces `run_sft` and `run_dpo` of the tuner; returns the replaced names."""
    for name in ("run_sft", "run_dpo"):
        setattr(module, name, _dispatching(getattr(module, name)))
    return ["run_sft", "run_dpo"]


def _dispatching(original: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(original)

    @wraps(original)
    def run(*args: Any, **kwargs: Any) -> None:
        given = signature.bind(*args, **kwargs).arguments
        finetuning_args = given["finetuning_args"]
        name = vars(finetuning_args).get("plugin_stage")  # absent where the parser is not ours
        if name is None:
            return original(*args, **kwargs)

        from ..stages.base import RunArguments

        run_args = RunArguments(
            given["model_args"],
            given["data_args"],
            given["training_args"],
            finetuning_args,
            finetuning_args.stage_args,
            given.get("generating_args"),
        )
        stage, callbacks = load_stage(name), list(given.get("callbacks") or [])
        if env_enabled("LLAMABOARD_ENABLED"):
            from .webui.terms import terms_callback

            callbacks.append(terms_callback(stage, run_args))
        return stage.run(run_args, callbacks)

    return run
