# SPDX-License-Identifier: Apache-2.0
"""The form that starts a loop: its fields for a recipe, and the command line that they stand for."""

from __future__ import annotations

import io
import shlex
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from ..loop.presets import PRESETS, preset_values


Place = Literal["recipe", "preset", "both"]
MOST_BYTES = 2**20  # of a recipe's file


class LaunchError(ValueError):
    """A form that no loop can be started with, with the reason."""


@dataclass(frozen=True)
class Setting:
    """A field of the form.

    Attributes:
        name: of the field.
        key: dotted key in the recipe.
        flag: of `mmself loop` for presets, "" if there is none.
        place: whether recipes, presets or both have it.
    """

    name: str
    key: str
    flag: str = ""
    place: Place = "recipe"


#: In the order of the form. `output_dir` is the run itself.
SETTINGS: tuple[Setting, ...] = (
    Setting("base_model", "base_model", "--base_model", "both"),
    Setting("template", "template", "--template", "both"),
    Setting("train_data", "train_data"),
    Setting("test_data", "test_data"),
    Setting("data_folder", "", "", "preset"),
    Setting("domain", "", "--domain", "preset"),
    Setting("iterations", "iterations", "--iterations", "both"),
    Setting("seed", "seed", "--seed", "both"),
    Setting("engine", "engine.name", "--engine", "both"),
    Setting("batch_size", "engine.batch_size", "--batch_size", "both"),
    Setting("samples", "sampling.n"),
    Setting("temperature", "sampling.temperature"),
    Setting("max_new_tokens", "sampling.max_new_tokens"),
    Setting("learning_rate", "train.learning_rate"),
)
_DATA_FLAGS = {"r3v-geoqa": "--geoqa_dir", "stl": "--m3cot_dir"}


def settings_of(recipe: str) -> tuple[Setting, ...]:
    """The fields that a recipe or preset has."""
    own: Place = "preset" if recipe in PRESETS else "recipe"
    found = [setting for setting in SETTINGS if setting.place in (own, "both")]
    return tuple(setting for setting in found if setting.name != "domain" or recipe == "stl")


def recipe_choices(folder: Path) -> list[str]:
    """Presets, and the recipes below `examples` of a folder: YAML files with a method and questions."""
    files = sorted((folder / "examples").glob("*/*.yaml"))
    return [*PRESETS, *(file.relative_to(folder).as_posix() for file in files if _is_recipe(file))]


def recipe_values(recipe: str) -> dict[str, Any]:
    """What a recipe's file or a preset says.

    Raises:
        LaunchError: there is no such file, or it is no recipe.
    """
    if recipe in PRESETS:
        return preset_values(recipe)
    path = Path(recipe)
    if not recipe or not path.is_file():
        raise LaunchError(f"There is no recipe {recipe!r}. Give a YAML file, or a preset: {', '.join(PRESETS)}.")
    values = _read(path)
    if values is None:
        raise LaunchError(f"{path} is no recipe: a YAML file with `method` and `train_data` is expected.")
    return values


def shown_settings(values: Mapping[str, Any], recipe: str) -> dict[str, str]:
    """Name of a field -> its text, for what a recipe says, "" where it says nothing; `output_dir` is among them."""
    shown = {setting.name: _shown(_lookup(values, setting.key)) for setting in settings_of(recipe) if setting.key}
    return {"output_dir": _shown(values.get("output_dir")), **shown}


def loop_command(recipe: str, shown: Mapping[str, str], further: str = "", again: str = "") -> list[str]:
    """The arguments of `mmself` for a form: only what differs from the recipe.

    Args:
        recipe: a file or a preset.
        shown: name of a field -> its text; an empty one changes nothing.
        further: more changes, `KEY=VALUE` one a line.
        again: step to begin again from.

    Raises:
        LaunchError: a field cannot be used as it is.
    """
    values = recipe_values(recipe)
    before = shown_settings(values, recipe)
    changed = {
        setting: text
        for setting in settings_of(recipe)
        if (text := (shown.get(setting.name) or "").strip()) and text != before.get(setting.name)
    }
    command = ["loop", recipe]
    if recipe in PRESETS:
        if further.strip():
            raise LaunchError("Presets have no further settings; copy their YAML to change more.")
        flags = {"data_folder": _DATA_FLAGS[recipe]}
        command += [f"{flags.get(setting.name, setting.flag)}={text}" for setting, text in changed.items()]
    else:
        pairs = [f"{setting.key}={text}" for setting, text in changed.items()] + _pairs(further)
        command += ["--set", *pairs] if pairs else []
    folder = (shown.get("output_dir") or "").strip()
    if folder and folder != before["output_dir"]:
        command.append(f"--output_dir={folder}")
    return [*command, f"--from={again.strip()}"] if again.strip() else command


def run_folder(recipe: str, shown: Mapping[str, str]) -> Path:
    """Where the run of a form lies.

    Raises:
        LaunchError: the form does not say.
    """
    folder = (shown.get("output_dir") or "").strip()
    if not folder:
        raise LaunchError("The folder of the run is missing.")
    domain = (shown.get("domain") or "").strip()
    return Path(folder, domain) if recipe == "stl" and domain else Path(folder)


def dry_run(command: Sequence[str]) -> list[str]:
    """What the command would do, step by step, or its error; nothing is sampled or trained.

    Raises:
        ValueError: with the error that the command would end with.
        OSError: a file cannot be read or written.
    """
    from ..cli import make_parser
    from ..commands.loop import recipes
    from ..loop.run import run_loop

    told = io.StringIO()
    try:
        with redirect_stderr(told):
            options = make_parser().parse_args([*command, "--dry_run"])
    except SystemExit as error:
        raise LaunchError(told.getvalue().rpartition("error: ")[2].strip() or "The command cannot be read.") from error
    lines: list[str] = []
    for recipe in recipes(options):
        run_loop(recipe, dry_run=True, restart_from=options.restart_from, say=lines.append)
    return lines


def _pairs(further: str) -> list[str]:
    pairs = []
    for line in further.splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, _ = text.partition("=")
        if not equals or not name.strip() or name.startswith("-"):
            raise LaunchError(f"Further settings are KEY=VALUE, one a line; found {text!r}.")
        pairs.append(text)
    return pairs


def _is_recipe(path: Path) -> bool:
    try:
        return _read(path) is not None
    except LaunchError:
        return False


def _read(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise LaunchError(f"{path} is too large for a recipe.")
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LaunchError(f"{path} cannot be read: {error}") from error
    return values if isinstance(values, dict) and {"method", "train_data"} <= values.keys() else None


def _lookup(values: Mapping[str, Any], key: str) -> Any:
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return str(yaml.safe_dump(value, default_flow_style=True)).removesuffix("\n...\n").strip()


def command_line(command: Sequence[str]) -> str:
    """The command as a user would type it."""
    return shlex.join(["mmself", *command])
