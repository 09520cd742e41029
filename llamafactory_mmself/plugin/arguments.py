# SPDX-License-Identifier: Apache-2.0
"""Our stages in LLaMA-Factory's argument parser.

The parser sees a subclass of `FinetuningArguments` that maps our stage name to its base stage, so that all of
LLaMA-Factory's own checks for that base hold, and remembers ours as `plugin_stage`. A run of one of our stages gets
the stage's arguments as one more dataclass; it ends up as `finetuning_args.stage_args`.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from types import ModuleType
from typing import Any, Literal, get_args, get_type_hints

from ..stages.base import RunArguments
from .launch import env_enabled
from .registry import (
    STOCK_STAGES,
    StageError,
    load_arguments,
    load_stage,
    pref_losses,
    resolve_stage,
    stage_entry_points,
)


class ArgumentError(ValueError):
    """An argument that cannot be used as given."""


def install(module: Any) -> list[str]:
    """Patches `llamafactory.hparams.parser`; returns the replaced names."""
    stock = module.FinetuningArguments
    ours = _finetuning_arguments(stock)
    module._TRAIN_ARGS[:] = [ours if item is stock else item for item in module._TRAIN_ARGS]
    module._INFER_ARGS[:] = [ours if item is stock else item for item in module._INFER_ARGS]
    module._parse_train_args = _parser(module, module._parse_train_args, ours)
    return ["_TRAIN_ARGS", "_INFER_ARGS", "_parse_train_args"]


def refuse_plugin_stages(module: ModuleType) -> None:
    """Where the contract is broken: one of our stages ends at once with the reason, others are left alone."""
    original: Callable[..., Any] | None = vars(module).get("get_train_args")
    if original is None:
        return

    def get_train_args(args: Any = None) -> Any:
        given = _given_stage(module.read_args(args))
        if given is not None and resolve_stage(given) not in STOCK_STAGES:
            from .activation import require_contract

            require_contract()
        return original(args)

    vars(module)["get_train_args"] = get_train_args


def _finetuning_arguments(stock: Any) -> type:
    """A subclass of LLaMA-Factory's `FinetuningArguments` that knows our stages."""
    stock_losses = get_args(get_type_hints(stock)["pref_loss"])

    @dataclasses.dataclass
    class FinetuningArguments(stock):
        stage: str = dataclasses.field(
            default="sft",
            metadata={
                "help": "Which stage will be performed in training: "
                f"{', '.join(STOCK_STAGES)}, or one that a plugin adds: {', '.join(_stage_names())}."
            },
        )
        plugin_stage: str | None = dataclasses.field(default=None, init=False)

        def __post_init__(self) -> None:
            name = resolve_stage(self.stage)
            if name not in STOCK_STAGES:
                self.plugin_stage = name
                name = load_stage(name).base
            elif self.pref_loss not in stock_losses and (owner := pref_losses().get(self.pref_loss)):
                raise ArgumentError(
                    f"Stage `{name}` has no pref_loss `{self.pref_loss}`: it is the loss of stage `{owner}`. "
                    f"Set `stage: {owner}`."
                )
            self.stage = name
            self.stage_args: Any = None
            super().__post_init__()

        def to_dict(self) -> dict[str, Any]:
            stage_args = dataclasses.asdict(self.stage_args) if self.stage_args is not None else {}
            result: dict[str, Any] = super().to_dict()
            return result | stage_args

    FinetuningArguments.__qualname__ = FinetuningArguments.__name__
    FinetuningArguments.__module__ = __name__
    globals()["FinetuningArguments"] = FinetuningArguments  # picklable, for Ray and data workers
    return FinetuningArguments


def _offer_pref_losses(ours: type) -> None:
    """Adds the losses of plugin stages to the choices of `pref_loss`, which a parser of flags takes from here."""
    known = get_args(get_type_hints(ours)["pref_loss"])
    ours.__annotations__["pref_loss"] = Literal[(*known, *pref_losses())]


def _stage_names() -> list[str]:
    try:
        return list(stage_entry_points())
    except StageError as error:
        return [f"({error})"]


def _parser(module: ModuleType, original: Callable[..., Any], ours: type) -> Callable[..., Any]:
    def _parse_train_args(args: dict[str, Any] | list[str] | None = None) -> Any:
        args = module.read_args(args)
        allow_extra = module.is_env_enabled("ALLOW_EXTRA_ARGS")
        if isinstance(args, list):
            asks_help = bool({"-h", "--help"} & set(args))
            if asks_help or "pref_loss" in _given_keys(args):  # else no stage is loaded that the run does not need
                _offer_pref_losses(ours)
            if asks_help:
                return _print_help(module, args)

        name = resolve_stage(_given_stage(args) or "sft")
        if name in STOCK_STAGES:
            if not allow_extra:
                _refuse_foreign(args, _field_names(module._TRAIN_ARGS), name)
            return original(args)
        return _parse_plugin_stage(module, args, name, allow_extra)

    return _parse_train_args


def _parse_plugin_stage(module: ModuleType, args: Any, name: str, allow_extra: bool) -> tuple[Any, ...]:
    from .activation import require_contract

    require_contract()
    stage, arguments = load_stage(name), load_arguments(name)
    known = _field_names([*module._TRAIN_ARGS, arguments])
    if not allow_extra:
        _refuse_foreign(args, known, name)
        _refuse_unknown(args, known, name)

    parser = module.HfArgumentParser([*module._TRAIN_ARGS, arguments])
    *parsed, stage_args = module._parse_args(parser, args, allow_extra_keys=allow_extra)
    _refuse_inert(args, parsed, name, stage.inert)
    model_args, data_args, training_args, finetuning_args, _ = parsed
    finetuning_args.stage_args = stage_args
    _check_back_end(name)
    run = RunArguments(model_args, data_args, training_args, finetuning_args, stage_args)
    stage.check(run, frozenset(_given_keys(args)))
    return tuple(parsed)


def _check_back_end(name: str) -> None:
    for variable in ("USE_MCA", "USE_V1"):
        if env_enabled(variable):
            raise ArgumentError(f"Stage `{name}` does not run with {variable}; unset it.")


def _given_stage(args: Any) -> str | None:
    if isinstance(args, dict):
        return str(args["stage"]) if args.get("stage") is not None else None
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--stage", default=None)
    stage: str | None = parser.parse_known_args([str(item) for item in args])[0].stage
    return stage


def _given_keys(args: Any) -> list[str]:
    if isinstance(args, dict):
        return list(args)
    flags = [str(item) for item in args]
    return [flag[2:].split("=", 1)[0].replace("-", "_") for flag in flags if flag.startswith("--")]


def _field_names(classes: Iterable[Any]) -> set[str]:
    return {field.name for item in classes for field in dataclasses.fields(item) if field.init}


def _refuse_foreign(args: Any, known: set[str], name: str) -> None:
    """Arguments of one plugin stage given to another stage."""
    unknown = [key for key in _given_keys(args) if key not in known]
    if not unknown:
        return
    owners: dict[str, list[str]] = {}
    for stage in stage_entry_points():
        try:
            fields = _field_names([load_arguments(stage)])
        except StageError:  # somebody else's broken stage is no reason to hide the user's mistake
            continue
        for key in unknown:
            if key in fields:
                owners.setdefault(key, []).append(stage)
    if owners:
        listed = "; ".join(f"`{key}` belongs to {', '.join(stages)}" for key, stages in owners.items())
        raise ArgumentError(f"Stage `{name}` does not take these arguments: {listed}. Remove them or change `stage`.")


def _refuse_unknown(args: Any, known: set[str], name: str) -> None:
    unknown = [key for key in _given_keys(args) if key not in known and not _abbreviates(args, key, known)]
    if not unknown:
        return
    hints = []
    for key in unknown:
        close = get_close_matches(key, known, n=1)
        hints.append(f"`{key}`" + (f" (did you mean `{close[0]}`?)" if close else ""))
    raise ArgumentError(f"Stage `{name}` does not know {', '.join(hints)}.")


def _abbreviates(args: Any, key: str, known: set[str]) -> bool:
    """argparse takes an unambiguous beginning of a flag; boolean flags also exist with `no_`."""
    if isinstance(args, dict):
        return False
    return sum(name.startswith(key) for name in known) == 1 or key.removeprefix("no_") in known


def _refuse_inert(args: Any, parsed: list[Any], name: str, inert: frozenset[str]) -> None:
    """Keys that would do nothing, unless they are set to what they are anyway."""
    useless = []
    for key in _given_keys(args):
        if key not in inert:
            continue
        for item in parsed:
            field = {field.name: field for field in dataclasses.fields(item)}.get(key)
            if field is not None and getattr(item, key) not in (field.default, None, False):
                useless.append(f"`{key}`")
    if useless:
        raise ArgumentError(f"Stage `{name}` would ignore {', '.join(dict.fromkeys(useless))}: remove it.")


def _print_help(module: ModuleType, args: list[str]) -> Any:
    """LLaMA-Factory's own help, then the arguments of the chosen stage, or of all of them."""
    given = _given_stage([item for item in args if item not in ("-h", "--help")])
    chosen = [resolve_stage(given)] if given else list(stage_entry_points())
    parser = module.HfArgumentParser(module._TRAIN_ARGS)
    parser.print_help()
    for stage in chosen:
        if stage in STOCK_STAGES:
            continue
        own = module.HfArgumentParser([load_arguments(stage)], add_help=False, usage=argparse.SUPPRESS)
        own.description = f"Arguments of stage `{stage}`: {load_stage(stage).help}"
        print()
        own.print_help()
    raise SystemExit(0)
