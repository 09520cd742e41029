# SPDX-License-Identifier: Apache-2.0
"""The tab Self-improve: its components, and which event calls what."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.context import Context

from ...board.launch import SETTINGS
from ...board.style import STYLE
from .handlers import VERDICTS, Handlers
from .texts import PREFIX


#: Names of the form's fields in rows, with their widths.
_ROWS = (
    (("base_model", 3), ("template", 2), ("iterations", 1), ("seed", 1)),
    (("train_data", 2), ("test_data", 2), ("data_folder", 2), ("domain", 1)),
    (
        ("engine", 1),
        ("batch_size", 1),
        ("samples", 1),
        ("temperature", 1),
        ("max_new_tokens", 1),
        ("learning_rate", 1),
    ),
)
_SECONDS = 2.0  # between looks at a run


def add_tab(engine: Any) -> dict[str, Any]:
    """Builds the tab; returns its elements, by the names that their labels have.

    It has to be called where LlamaBoard's last tab has just been made, so that Gradio puts it beside the others.
    """
    lang = engine.manager.get_elem_by_id("top.lang")
    with gr.Tab("Self-improve", elem_id="mmself-tab"):
        parts = {**_form(), **_view(), **_browser()}
        gr.HTML(STYLE, padding=False)
    handlers = Handlers()
    _connect(parts, handlers, lang)
    return {PREFIX + name: part for name, part in parts.items() if not isinstance(part, (gr.State, gr.Timer))}


def _form() -> dict[str, Any]:
    from ..lf_web import TEMPLATES

    parts: dict[str, Any] = {}
    with gr.Row():
        parts["recipe"] = gr.Dropdown(allow_custom_value=True, scale=3, elem_id="mmself-recipe")
        parts["run"] = gr.Dropdown(allow_custom_value=True, scale=3, elem_id="mmself-run")
    choices = {"engine": ["hf", "vllm"], "template": list(TEMPLATES)}
    for row in _ROWS:
        with gr.Row():
            for name, scale in row:
                shown: dict[str, Any] = {"scale": scale, "min_width": 120, "elem_id": f"mmself-{name}"}
                if name == "domain":
                    parts[name] = gr.Dropdown(choices=_domains(), value=None, visible=False, **shown)
                elif name in choices:
                    parts[name] = gr.Dropdown(choices=choices[name], value=None, allow_custom_value=True, **shown)
                else:
                    parts[name] = gr.Textbox(visible=name != "data_folder", **shown)
    with gr.Accordion(open=False) as parts["more"], gr.Row():
        parts["further"] = gr.Textbox(lines=3, scale=3, elem_id="mmself-further")
        parts["again"] = gr.Textbox(scale=1, elem_id="mmself-again")
    with gr.Row():
        parts["plan_btn"] = gr.Button(elem_id="mmself-plan")
        parts["start_btn"] = gr.Button(variant="primary", elem_id="mmself-start")
        parts["stop_btn"] = gr.Button(variant="stop", elem_id="mmself-stop")
        parts["report_btn"] = gr.Button(elem_id="mmself-report")
    return parts


def _view() -> dict[str, Any]:
    parts: dict[str, Any] = {}
    parts["answer"] = gr.Markdown(elem_id="mmself-answer")
    with gr.Row():
        with gr.Column(scale=3):
            parts["progress"] = gr.HTML(elem_id="mmself-progress", padding=False)
            with gr.Accordion(open=False) as parts["log_tab"]:
                parts["log"] = gr.HTML(elem_id="mmself-log", padding=False)
        with gr.Column(scale=2):
            parts["accuracy"] = gr.Plot(elem_id="mmself-accuracy")
    parts["report"] = gr.HTML(elem_id="mmself-report-page", padding=False)
    return parts


def _browser() -> dict[str, Any]:
    parts: dict[str, Any] = {}
    with gr.Accordion(open=True) as parts["browser"]:
        with gr.Row():
            parts["source"] = gr.Dropdown(choices=[], value=None, scale=3, elem_id="mmself-source")
            parts["verdicts"] = gr.Dropdown(choices=list(VERDICTS), value="all", scale=1, elem_id="mmself-verdicts")
            parts["page"] = gr.Number(value=1, precision=0, minimum=1, scale=1, elem_id="mmself-page")
            parts["prev_btn"] = gr.Button(scale=1, elem_id="mmself-prev")
            parts["next_btn"] = gr.Button(scale=1, elem_id="mmself-next")
        parts["cards"] = gr.HTML(elem_id="mmself-samples-cards", padding=False)
    parts["seen"] = gr.State(None)
    parts["timer"] = gr.Timer(_SECONDS)
    return parts


def _domains() -> list[str]:
    from ...data.sources.m3cot import STL_DOMAINS

    return list(STL_DOMAINS)


def _connect(parts: dict[str, Any], handlers: Any, lang: Any) -> None:
    fields = [parts[setting.name] for setting in SETTINGS]
    recipe, run, further, again = (parts[name] for name in ("recipe", "run", "further", "again"))
    form = [lang, recipe, run, further, again, *fields]
    browse = [lang, run, parts["source"], parts["verdicts"], parts["page"]]
    shown = [parts["page"], parts["cards"]]
    look = [parts[name] for name in ("progress", "log", "accuracy", "source", "seen")]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_name": False}
    hidden: dict[str, Any] = {**quiet, "concurrency_limit": None}
    paging: dict[str, Any] = {**quiet, "concurrency_limit": 1, "concurrency_id": "mmself-pages"}  # one after the other

    recipe.focus(handlers.list_recipes, None, [recipe], queue=False, **quiet)
    recipe.input(handlers.open_recipe, [lang, recipe], [run, parts["answer"], further, again, *fields], **hidden)
    run.focus(handlers.list_runs, None, [run], queue=False, **quiet)
    run.input(handlers.open_run, [run], [recipe, further, again, *fields], **hidden)
    run.change(handlers.look_again, [lang, run], [*look, parts["report"]], **hidden).then(
        handlers.first_page, browse, shown, **paging
    )
    parts["plan_btn"].click(handlers.plan, form, [parts["answer"]], api_name=False)
    parts["start_btn"].click(handlers.start, form, [parts["answer"], run, again, parts["seen"]], api_name=False)
    parts["stop_btn"].click(handlers.stop, [lang, run], [parts["answer"]], api_name=False)
    parts["report_btn"].click(handlers.report, [lang, run], [parts["report"], parts["answer"]], api_name=False)
    parts["timer"].tick(handlers.look, [lang, run, parts["source"], parts["seen"]], look, **hidden)

    parts["source"].change(handlers.first_page, browse, shown, **paging)
    parts["verdicts"].input(handlers.first_page, browse, shown, **paging)
    parts["page"].submit(handlers.this_page, browse, shown, **paging)
    parts["prev_btn"].click(handlers.earlier_page, browse, shown, **paging)
    parts["next_btn"].click(handlers.later_page, browse, shown, **paging)
    lang.change(handlers.change_words, [lang], [parts["verdicts"]], queue=False, **quiet)
    Context.root_block.load(  # type: ignore[union-attr, unused-ignore]
        handlers.open_page, None, [run, recipe, further, again, *fields], **hidden
    )
