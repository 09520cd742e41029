# SPDX-License-Identifier: Apache-2.0
"""Puts our parts into LlamaBoard's modules once they are all imported.

Stock parts are left alone: our stages stand below the stock ones in the list, our accordion is hidden until one of
them is chosen, and functions that we replace call the original ones for everything that is not ours.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

from ...board.forms import form_fields
from ..registry import StageError, form_hints, load_arguments, stage_entry_points
from .terms import with_terms
from .texts import labels


def install(interface: ModuleType) -> dict[str, list[str]]:
    """Patches LlamaBoard; `interface` is its module that imports all others. Returns module -> replaced names."""
    package = interface.__name__.rpartition(".")[0]
    modules: dict[str, Any] = {
        name: sys.modules[f"{package}.{name}"] for name in ("control", "runner", "components.train", "locales")
    }
    stages = _stages()
    ours = {hints.title: name for name, hints in stages.items()}
    for name in ("control", "runner", "components.train"):
        modules[name].TRAINING_STAGES = {**modules[name].TRAINING_STAGES, **ours}
    modules["locales"].LOCALES.update(labels(_arguments(stages)))
    runner, train = modules["runner"], modules["components.train"]
    runner.get_trainer_info = with_terms(runner.get_trainer_info, _smooth, _plot)
    runner.Runner._parse_train_args = _with_preferences(runner.Runner._parse_train_args, stages)
    train.change_stage = _keeping_data(train.change_stage, ours)
    train.list_datasets = _leaving_ours(train.list_datasets, ours)
    _add_tabs(interface, ours)
    return {
        interface.__name__: ["create_train_tab", "create_footer"],
        f"{package}.control": ["TRAINING_STAGES"],
        f"{package}.runner": ["TRAINING_STAGES", "get_trainer_info", "Runner._parse_train_args"],
        f"{package}.components.train": ["TRAINING_STAGES", "change_stage", "list_datasets"],
        f"{package}.locales": ["LOCALES"],
    }


def _stages() -> dict[str, Any]:
    """Hints of every stage that can be loaded; another package's broken stage takes none of ours away."""
    found = {}
    for name in stage_entry_points():
        try:
            load_arguments(name)
            found[name] = form_hints(name)
        except StageError as error:
            sys.stderr.write(f"llamafactory-mmself: {error} It is left out of the web UI.\n")
    return found


def _arguments(stages: dict[str, Any]) -> dict[str, list[str]]:
    """Stage -> the arguments that its form lists."""
    return {
        name: [field.name for field in form_fields(load_arguments(name), hints.unlisted, hints.suggestions)]
        for name, hints in stages.items()
    }


def _add_tabs(interface: Any, ours: dict[str, str]) -> None:
    create_train_tab, create_footer = interface.create_train_tab, interface.create_footer
    engines: dict[int, Any] = {}  # page that is being made -> its engine

    @wraps(create_train_tab)
    def with_accordion(engine: Any) -> dict[str, Any]:
        from gradio.context import Context

        from .accordion import add_accordion
        from .preview import add_preview

        elements: dict[str, Any] = create_train_tab(engine)
        engines[id(Context.root_block)] = engine
        added = add_accordion(engine, elements, ours)
        return {**elements, **added, **add_preview(elements)}

    @wraps(create_footer)
    def with_tab(*args: Any, **kwargs: Any) -> dict[str, Any]:
        from gradio.context import Context

        from .tab import add_tab

        engine = engines.pop(id(Context.root_block), None)
        added = {} if engine is None or engine.demo_mode else add_tab(engine)
        return {**added, **create_footer(*args, **kwargs)}

    interface.create_train_tab, interface.create_footer = with_accordion, with_tab


def _with_preferences(original: Callable[..., Any], stages: dict[str, Any]) -> Callable[..., Any]:
    @wraps(original)
    def _parse_train_args(self: Any, data: Any) -> dict[str, Any]:
        args: dict[str, Any] = original(self, data)
        hints = stages.get(args["stage"])
        for name in () if hints is None else hints.shared:
            args.setdefault(name, data[self.manager.get_elem_by_id(f"train.{name}")])
        return args

    return _parse_train_args


def _keeping_data(original: Callable[..., Any], ours: dict[str, str]) -> Callable[..., Any]:
    """For our stages the accordion decides which of the chosen data sets stay."""

    @wraps(original)
    def change_stage(training_stage: str = next(iter(ours), "")) -> Any:
        import gradio as gr

        return (gr.skip(), False) if training_stage in ours else original(training_stage)

    return change_stage


def _leaving_ours(original: Callable[..., Any], ours: dict[str, str]) -> Callable[..., Any]:
    """For our stages the accordion lists the data sets; it knows what the strategy needs."""

    @wraps(original)
    def list_datasets(*args: Any, **kwargs: Any) -> Any:
        import gradio as gr

        stage = kwargs.get("training_stage", args[1] if len(args) > 1 else None)
        return gr.skip() if stage in ours else original(*args, **kwargs)

    return list_datasets


def _smooth(values: list[float]) -> list[float]:
    from ..lf_web import smooth

    return list(smooth(values))


def _plot(figure: Any) -> Any:
    import gradio as gr

    return gr.Plot(figure)
