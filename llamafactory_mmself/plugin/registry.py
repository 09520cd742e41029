# SPDX-License-Identifier: Apache-2.0
"""Stages and data-set formats, found through entry points.

Names are read without importing anything; only what a run asks for is loaded. Other packages add theirs by declaring
entry points in the groups `llamafactory.stages` (a `Stage` object) and `llamafactory.dataset_formats` (a converter
class as LLaMA-Factory's `register_dataset_converter` takes it).
"""

from __future__ import annotations

import importlib
from contextlib import suppress
from dataclasses import is_dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ..stages.base import FormHints


STAGE_GROUP = "llamafactory.stages"
FORMAT_GROUP = "llamafactory.dataset_formats"
STOCK_STAGES = ("pt", "sft", "rm", "ppo", "dpo", "kto")


class StageError(ValueError):
    """A stage that cannot be used, with the reason."""


def normalise(name: str) -> str:
    """The canonical spelling of a stage name: `Sherlock-DPO` is `sherlock_dpo`."""
    return name.strip().lower().replace("-", "_")


@cache
def stage_entry_points() -> dict[str, EntryPoint]:
    """Canonical name -> entry point of every stage that an installed package adds."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=STAGE_GROUP):
        name = normalise(point.name)
        if name in STOCK_STAGES:
            raise StageError(
                f"{_owner(point)} registers a stage `{point.name}`, which is one of LLaMA-Factory's own; rename it."
            )
        if name in found and found[name].value != point.value:
            raise StageError(
                f"Two packages register stage `{name}`: {_owner(found[name])} ({found[name].value}) and "
                f"{_owner(point)} ({point.value}). Uninstall one of them."
            )
        found[name] = point
    return dict(sorted(found.items()))


@cache
def load_stage(name: str) -> Any:
    """The stage object of a canonical name.

    Raises:
        StageError: if it cannot be imported or is not a stage.
    """
    point = stage_entry_points()[name]
    try:
        stage = point.load()
    except Exception as error:
        raise StageError(f"Stage `{name}` of {_owner(point)} ({point.value}) cannot be loaded: {error!r}") from error
    missing = [
        part
        for part in ("name", "base", "arguments", "help", "inert", "pref_losses", "check", "run")
        if not hasattr(stage, part)
    ]
    if missing:
        raise StageError(
            f"Stage `{name}` of {_owner(point)} ({point.value}) lacks {', '.join(missing)}; "
            "see llamafactory_mmself.stages.base.Stage for what a stage has."
        )
    if stage.base not in ("sft", "dpo"):
        raise StageError(f"Stage `{name}` of {_owner(point)} has base `{stage.base}`; a base is `sft` or `dpo`.")
    return stage


@cache
def load_arguments(name: str) -> type:
    """The arguments dataclass of a stage. Importing it costs little: it needs neither torch nor transformers.

    Raises:
        StageError: as `load_stage`, or if they cannot be imported or are no dataclass.
    """
    stage = load_stage(name)
    module, _, attribute = stage.arguments.partition(":")
    try:
        arguments = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise StageError(
            f"Arguments of stage `{name}` of {_owner(stage_entry_points()[name])} ({stage.arguments}) cannot be "
            f"loaded: {error!r}"
        ) from error
    if not is_dataclass(arguments):
        raise StageError(f"Stage `{name}`: {stage.arguments} is not a dataclass.")
    return arguments  # type: ignore[return-value]


def pref_losses() -> dict[str, str]:
    """Value of `pref_loss` -> the plugin stage whose loss it is; stages that cannot be loaded have none."""
    found: dict[str, str] = {}
    for name in stage_entry_points():
        with suppress(StageError):
            found = {**dict.fromkeys(load_stage(name).pref_losses, name), **found}
    return found


def form_hints(name: str) -> FormHints:
    """What a form needs to know about a stage; for a stage that does not say, what its base says."""
    stage = load_stage(name)
    if hasattr(stage, "form"):
        hints: FormHints = stage.form()
        return hints
    return FormHints(name, "pairs" if stage.base == "dpo" else "examples")


def resolve_stage(name: str) -> str:
    """The canonical name of a stage, stock or ours.

    Raises:
        StageError: for an unknown name; the text lists the known ones.
    """
    canonical = normalise(name)
    plugin_stages = () if canonical in STOCK_STAGES else tuple(stage_entry_points())
    if canonical in STOCK_STAGES or canonical in plugin_stages:
        return canonical
    close = get_close_matches(canonical, [*STOCK_STAGES, *plugin_stages], n=1)
    hint = f" Did you mean `{close[0]}`?" if close else ""
    raise StageError(
        f"Unknown stage `{name}`.{hint} LLaMA-Factory has {', '.join(STOCK_STAGES)}; "
        f"plugins add {', '.join(plugin_stages) or 'none'}."
    )


def load_format(name: str) -> type | None:
    """The converter that an installed package registers for a data-set format, or None."""
    for point in entry_points(group=FORMAT_GROUP):
        if point.name == name:
            converter: type = point.load()
            return converter
    return None


def format_names() -> list[str]:
    """Names of all formats that installed packages add."""
    return sorted({point.name for point in entry_points(group=FORMAT_GROUP)})


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown package"
