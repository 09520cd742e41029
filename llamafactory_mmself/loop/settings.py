# SPDX-License-Identifier: Apache-2.0
"""What a recipe means for the engine that samples and for LLaMA-Factory that trains."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..generate.config import EngineConfig, follow_training
from ..generate.encoding import load_encoder
from ..recipes.lengths import TokenLimit
from .recipe import Recipe
from .steps import LoopError


CUTOFF_LEN = 2048  # LLaMA-Factory's default
DEVICE_BATCH = 8  # transformers' default of per_device_train_batch_size


def engine_config(recipe: Recipe) -> EngineConfig:
    """The engine on the base model; the arguments that prompts depend on are those of training.

    Raises:
        EngineError: naming the key that is wrong.
    """
    values = {**recipe.engine, "model": recipe.base_model, "template": recipe.template}
    return follow_training(EngineConfig.from_dict(values, "`engine`"), recipe.train, "engine")


def training_arguments(
    recipe: Recipe, base: str, dataset: Path, output: Path, own: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """All arguments of a training: the recipe's, and what the loop decides.

    Args:
        recipe: the run.
        base: model that the training starts from.
        dataset: the data set's file, registered in its own folder.
        output: folder of the model.
        own: arguments of this round, over the recipe's `train`; a `global_batch` among them is over the recipe's.

    Raises:
        LoopError: `global_batch` cannot be had on the devices that are there.
    """
    own = dict(own or {})
    batch = own.pop("global_batch", recipe.global_batch)
    arguments = {**recipe.train, **own}
    return {
        "stage": "reflection_sft",
        "seed": recipe.seed,
        "report_to": "none",
        "overwrite_output_dir": False,
        "template": recipe.template,
        **arguments,
        **_accumulation(batch, arguments),
        "model_name_or_path": base,
        "dataset": dataset.stem,
        "dataset_dir": str(dataset.parent),
        "output_dir": str(output),
        "do_train": True,
    }


def _accumulation(batch: int | None, arguments: Mapping[str, Any]) -> dict[str, int]:
    """The gradient accumulation that makes an optimizer step see `batch` rows on all devices together."""
    if batch is None:
        return {}
    each = int(arguments.get("per_device_train_batch_size") or DEVICE_BATCH)
    devices = training_devices(arguments)
    steps, rest = divmod(batch, each * devices)
    if rest:
        raise LoopError(
            f"`global_batch` {batch} cannot be dealt out to {devices} devices with "
            f"per_device_train_batch_size {each}. Change one of the two, or use another number of devices."
        )
    return {"gradient_accumulation_steps": steps}


def training_devices(arguments: Mapping[str, Any]) -> int:
    """How many processes `llamafactory-cli train` will be with these arguments, each with a device of its own."""
    if _enabled("USE_RAY"):
        return int(arguments.get("ray_num_workers") or 1)
    import torch

    visible = torch.accelerator.device_count()
    if visible < 2 and not (_enabled("FORCE_TORCHRUN") or arguments.get("deepspeed")):
        return 1
    here = int(os.environ.get("NPROC_PER_NODE") or max(visible, 1))
    return here * int(os.environ.get("NNODES") or 1)


def _enabled(variable: str) -> bool:
    return os.environ.get(variable, "0").lower() in ("true", "y", "1")


def cutoff_len(recipe: Recipe) -> int:
    """Tokens of a row that training reads."""
    return int(recipe.train.get("cutoff_len") or CUTOFF_LEN)


def token_limit(recipe: Recipe) -> TokenLimit:
    """What fits into `cutoff_len`: LLaMA-Factory would cut longer prompts."""
    return TokenLimit.of(load_encoder(engine_config(recipe)).rows, cutoff_len(recipe))
