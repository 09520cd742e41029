# SPDX-License-Identifier: Apache-2.0
"""`mmself validate`: every row and picture of a run's data sets, before anything is trained."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .data.faults import Fault
from .data.rows import PreferenceRow
from .data.schema import read_dataset_info
from .data.validate import Report, validate_dataset


def validate_sets(
    names: Sequence[str] | None, dataset_dir: Path, media_dir: Path, *, media: bool, progress: bool
) -> list[Report]:
    """Checks data sets of a `dataset_info.json`, without a model; None: all of them."""
    return [
        validate_dataset(schema, dataset_dir, media_dir, check_media=media, progress=progress)
        for schema in read_dataset_info(dataset_dir, names).values()
    ]


def validate_config(config: Path, *, media: bool, progress: bool) -> list[Report]:
    """Checks all data sets of a training YAML as its stage would see them; of preference rows the tokens, too.

    Raises:
        ValueError: if the YAML itself is wrong, or its stage is a stock one.
    """
    from . import _autoload

    if not config.is_file():
        raise ValueError(f"There is no file {config}.")
    _autoload.activate()
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARN")
    from .plugin import lf
    from .plugin.registry import load_stage
    from .stages.base import RunArguments, TreeStage

    sys.argv = ["llamafactory-cli", str(config)]
    model_args, data_args, training_args, finetuning_args, _ = lf.get_train_args(None)
    if finetuning_args.plugin_stage is None:
        raise ValueError(
            f"{config} runs LLaMA-Factory's own stage `{finetuning_args.stage}`; this checks plugin stages."
        )
    stage = load_stage(finetuning_args.plugin_stage)
    dataset_dir, media_dir = Path(data_args.dataset_dir), Path(data_args.media_dir)
    names = [*(data_args.dataset or []), *(data_args.eval_dataset or [])]
    schemas = read_dataset_info(dataset_dir, names)
    if not isinstance(stage, TreeStage):
        return [
            validate_dataset(schema, dataset_dir, media_dir, check_media=media, progress=progress)
            for schema in schemas.values()
        ]
    run = RunArguments(model_args, data_args, training_args, finetuning_args, finetuning_args.stage_args)

    modules = lf.load_tokenizer(model_args)
    template = lf.load_template(modules["tokenizer"], data_args)
    encoder = lf.row_encoder(template, modules["tokenizer"], modules["processor"], data_args.cutoff_len)
    encoder = stage.row_encoder(encoder, run)

    def encode(row: PreferenceRow) -> list[Fault]:
        return stage.encode(row, encoder)[1]

    return [
        validate_dataset(
            stage.schema(schema, run),
            dataset_dir,
            media_dir,
            require=stage.required_columns(run),
            check_media=media,
            encode=encode,
            progress=progress,
        )
        for schema in schemas.values()
    ]
