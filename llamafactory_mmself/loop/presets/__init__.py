# SPDX-License-Identifier: Apache-2.0
"""Recipes in the shape of the published commands: a base model, the folder of a public data set, a few numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ...data.questions import write_questions
from ...data.sources import Options, read_source
from ...data.sources.m3cot import STL_DOMAINS
from ..recipe import Recipe, make_recipe
from ..steps import LoopError


FOLDER = Path(__file__).parent
PRESETS = ("r3v-geoqa", "stl")


def preset_values(name: str) -> dict[str, Any]:
    """The recipe of a preset as plain values."""
    values: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return values


def preset_recipes(name: str, flags: Mapping[str, Any]) -> list[Recipe]:
    """The recipes that a preset and its flags stand for: one, or one for each domain of STL.

    The questions are written to `<output_dir>/questions`.

    Args:
        name: one of `PRESETS`.
        flags: `base_model`, `template`, `output_dir`, `iterations`, `batch_size`, `seed`, `engine`, the folder of the
            data set, `geoqa_dir` or `m3cot_dir`, `drop_invalid`, and `domain` for STL. None stands for the preset's
            value.

    Raises:
        LoopError: a folder or domain is missing.
        SourceError: naming file, row and field, for a data set that cannot be read.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    source = {"r3v-geoqa": "geoqa", "stl": "m3cot"}[name]
    folder = given.pop(f"{source}_dir", None)
    if folder is None:
        raise LoopError(f"`mmself loop {name}` needs --{source}_dir, the folder of the data set.")
    drop, domain = given.pop("drop_invalid", False), given.pop("domain", None)
    values = preset_values(name)
    values["engine"]["batch_size"] = given.pop("batch_size", values["engine"]["batch_size"])
    values["engine"]["name"] = given.pop("engine", values["engine"]["name"])
    values |= given
    output = Path(values["output_dir"])
    if name != "stl":
        return [_recipe(values, source, Path(folder), Options(drop_invalid=drop), output, name)]
    if domain not in (*STL_DOMAINS, "all"):
        raise LoopError(f"`mmself loop stl` needs --domain, one of {', '.join(STL_DOMAINS)}, all; got {domain!r}.")
    return [
        _recipe(values, source, Path(folder), Options(drop_invalid=drop, domain=part), output / part, name)
        for part in (STL_DOMAINS if domain == "all" else (domain,))
    ]


def _recipe(values: Mapping[str, Any], source: str, folder: Path, options: Options, output: Path, name: str) -> Recipe:
    files = {}
    for split in ("train", "test"):
        files[f"{split}_data"] = output / "questions" / f"{split}.json"
        reading = replace(options, extracted=output / "questions" / "images")
        write_questions(files[f"{split}_data"], read_source(source, folder, split, reading).questions)
    if (config := values["train"].get("deepspeed")) and not Path(config).exists():
        values = {**values, "train": {**values["train"], "deepspeed": str(FOLDER / Path(config).name)}}
    return make_recipe({**values, **files, "output_dir": output}, f"preset {name}")
