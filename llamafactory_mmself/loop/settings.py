# SPDX-License-Identifier: Apache-2.0
"""What a recipe means for the engine that samples and for LLaMA-Factory that trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..generate.config import EngineConfig
from ..generate.encoding import load_encoder
from ..recipes.lengths import TokenLimit
from .recipe import SHARED, Recipe


CUTOFF_LEN = 2048  # LLaMA-Factory's default


def engine_config(recipe: Recipe) -> EngineConfig:
    """The engine on the base model; the arguments that prompts depend on are those of training.

    Raises:
        EngineError: naming the key that is wrong.
    """
    values = {
        **recipe.engine,
        "model": recipe.base_model,
        "template": recipe.template,
        "llamafactory": {**shared_arguments(recipe), **(recipe.engine.get("llamafactory") or {})},
    }
    return EngineConfig.from_dict(values, "`engine`")


def shared_arguments(recipe: Recipe) -> dict[str, Any]:
    """The training arguments that sampling and merging need as well."""
    return {name: recipe.train[name] for name in SHARED if recipe.train.get(name) is not None}


def training_arguments(
    recipe: Recipe, base: str, dataset: Path, output: Path, own: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """All arguments of a training: the recipe's, and what the loop decides.

    Args:
        recipe: the run.
        base: model that the training starts from.
        dataset: the data set's file, registered in its own folder.
        output: folder of the model.
        own: arguments of this round, over the recipe's.
    """
    return {
        "stage": "reflection_sft",
        "seed": recipe.seed,
        "report_to": "none",
        "overwrite_output_dir": False,
        "template": recipe.template,
        **recipe.train,
        **(own or {}),
        "model_name_or_path": base,
        "dataset": dataset.stem,
        "dataset_dir": str(dataset.parent),
        "output_dir": str(output),
        "do_train": True,
    }


def cutoff_len(recipe: Recipe) -> int:
    """Tokens of a row that training reads."""
    return int(recipe.train.get("cutoff_len") or CUTOFF_LEN)


def token_limit(recipe: Recipe) -> TokenLimit:
    """What fits into `cutoff_len`: LLaMA-Factory would cut longer prompts."""
    return TokenLimit.of(load_encoder(engine_config(recipe)).rows, cutoff_len(recipe))
