# SPDX-License-Identifier: Apache-2.0
"""What a recipe means for the engine that samples and for LLaMA-Factory that trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..generate.config import EngineConfig
from ..generate.encoding import load_encoder
from ..generate.types import EngineError
from ..recipes.lengths import TokenLimit
from .recipe import Recipe


# LLaMA-Factory arguments that training and sampling have to share, or prompts would differ between the two.
_PROMPT = (
    *("image_max_pixels", "image_min_pixels", "image_do_pan_and_scan", "crop_to_patches"),
    *("default_system", "enable_thinking", "tool_format"),
)
SHARED = (
    *_PROMPT,
    *("add_tokens", "add_special_tokens", "resize_vocab", "split_special_tokens", "use_fast_tokenizer"),
    *("model_revision", "trust_remote_code"),
)
CUTOFF_LEN = 2048  # LLaMA-Factory's default


def engine_config(recipe: Recipe) -> EngineConfig:
    """The engine on the base model; the arguments that prompts depend on are those of training.

    Raises:
        EngineError: naming the key that is wrong.
    """
    values = {**recipe.engine, "model": recipe.base_model, "template": recipe.template}
    config = EngineConfig.from_dict(values, "`engine`")
    trained = recipe.train
    if own := [name for name in _PROMPT if config.llamafactory.get(name, trained.get(name)) != trained.get(name)]:
        raise EngineError(
            f"`engine.llamafactory`: {', '.join(own)} would give sampling other prompts than training. Set it in "
            "`train`; the engine takes it from there."
        )
    return replace(config, llamafactory={**shared_arguments(recipe), **config.llamafactory})


def shared_arguments(recipe: Recipe) -> dict[str, Any]:
    """The training arguments that sampling and merging need as well."""
    return {name: recipe.train[name] for name in SHARED if recipe.train.get(name) is not None}


def training_arguments(recipe: Recipe, base: str, dataset: Path, output: Path) -> dict[str, Any]:
    """All arguments of a training: the recipe's, and what the loop decides.

    Args:
        recipe: the run.
        base: model that the training starts from.
        dataset: the data set's file, registered in its own folder.
        output: folder of the model.
    """
    return {
        "stage": "reflection_sft",
        "seed": recipe.seed,
        "report_to": "none",
        "overwrite_output_dir": False,
        "template": recipe.template,
        **recipe.train,
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
