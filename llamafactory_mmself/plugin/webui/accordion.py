# SPDX-License-Identifier: Apache-2.0
"""The accordion of our stages' arguments in the tab Train, kept in step with the box of extra arguments.

The box is what runs, is saved and is loaded; the accordion is another way to write into it. A state remembers what the
accordion wrote last: only a change that somebody else made moves the fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ...board.datasets import suitable
from ...board.forms import FormError, FormField, form_fields, read_extra, shown_values, with_form, without_fields
from ...stages.base import FormHints, RunArguments
from ..registry import form_hints, load_arguments, load_stage
from .texts import OWNERS, argument_name, section_name, text


_PER_ROW = 3


@dataclass(frozen=True)
class StageForm:
    """A stage's part of the accordion.

    Attributes:
        name: of the stage.
        hints: see `FormHints`.
        fields: its arguments.
        group: the part that is shown or hidden.
        boxes: one component a field.
        headings: elements that change with the language.
    """

    name: str
    hints: FormHints
    fields: tuple[FormField, ...]
    group: Any
    boxes: tuple[Any, ...]
    headings: dict[str, Any]


def add_accordion(engine: Any, elements: dict[str, Any], ours: dict[str, str]) -> dict[str, Any]:
    """Builds the accordion below LlamaBoard's own for preferences; returns its elements that have labels.

    Args:
        engine: LlamaBoard's.
        elements: of the tab.
        ours: title -> name of our stages.
    """
    with gr.Accordion(open=True, visible=False, elem_id="mmself-arguments") as accordion:
        note = gr.Markdown()
        forms = [_form(name) for name in ours.values()]
    _move_below(accordion, elements["rlhf_tab"])
    written = gr.State("")
    stage, extra, dataset = (elements[name] for name in ("training_stage", "extra_args", "dataset"))
    lang = engine.manager.get_elem_by_id("top.lang")
    sync = _Sync(forms, ours)
    boxes = [box for form in forms for box in form.boxes]
    groups = [form.group for form in forms]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_name": False}
    stage.change(
        sync.stage_changed,
        [stage, extra, elements["dataset_dir"], dataset],
        [accordion, extra, written, dataset, *groups, *boxes],
        queue=False,
        **quiet,
    )
    extra.change(sync.text_changed, [stage, extra, written], boxes, queue=False, **quiet)
    for form in forms:
        write = sync.writer(form)
        for box in form.boxes:
            box.input(
                write,
                [lang, extra, *form.boxes],
                [extra, written],
                trigger_mode="always_last",
                concurrency_limit=None,
                **quiet,
            )
    dataset.focus(sync.list_data, [stage, extra, elements["dataset_dir"]], [dataset], queue=False, **quiet)
    headings = {name: element for form in forms for name, element in form.headings.items()}
    for form in forms:
        named = zip(form.fields, form.boxes, strict=True)
        headings |= {argument_name(form.name, item.name): box for item, box in named}
    return {"mmself_arguments": accordion, "mmself_arguments_note": note, **headings}


def _move_below(block: Any, above: Any) -> None:
    """Places a block that was just made directly below another one of the same parent."""
    siblings = above.parent.children
    siblings.remove(block)
    siblings.insert(siblings.index(above) + 1, block)


def _form(name: str) -> StageForm:
    hints = form_hints(name)
    fields = form_fields(load_arguments(name), hints.unlisted, hints.suggestions)
    boxes: dict[str, Any] = {}
    headings: dict[str, Any] = {}
    with gr.Column(visible=False, elem_id=f"mmself-stage-{name}") as group:
        for owner in dict.fromkeys(field.owner for field in fields):
            members = [field for field in fields if field.owner == owner]
            if owner in OWNERS:
                with gr.Accordion(open=False) as section:
                    boxes |= _rows(name, members)
                headings[section_name(OWNERS[owner], name)] = section
            else:
                boxes |= _rows(name, members)
    return StageForm(name, hints, fields, group, tuple(boxes[field.name] for field in fields), headings)


def _rows(stage: str, fields: Sequence[FormField]) -> dict[str, Any]:
    """Components in rows: values first, flags last."""
    ordered = sorted(fields, key=lambda field: field.kind == "flag")
    made = {}
    for start in range(0, len(ordered), _PER_ROW):
        with gr.Row():
            for field in ordered[start : start + _PER_ROW]:
                made[field.name] = _component(stage, field)
    return made


def _component(stage: str, field: FormField) -> Any:
    common: dict[str, Any] = {
        "label": field.name,
        "info": field.help,
        "elem_id": f"mmself-{stage}-{field.name}",
        "value": field.shown_default,
        "interactive": True,
    }
    if field.kind == "flag":
        return gr.Checkbox(**common)
    if field.kind in ("choice", "switch"):
        choices = [("–" if value == "" else value, value) for value in field.choices]
        return gr.Dropdown(choices=choices, **common)
    if field.kind == "suggested":
        return gr.Dropdown(choices=list(field.choices), allow_custom_value=True, **common)
    if field.kind in ("whole", "number") and not field.optional:
        return gr.Number(precision=0 if field.kind == "whole" else None, **common)
    return gr.Textbox(placeholder="–" if field.optional else None, **common)


class _Sync:
    """Handlers of the accordion's events."""

    def __init__(self, forms: Sequence[StageForm], ours: dict[str, str]) -> None:
        self._forms = forms
        self._ours = ours
        self._names = {field.name for form in forms for field in form.fields}

    def stage_changed(self, title: str, extra: str, folder: str, dataset: list[str]) -> list[Any]:
        """Shows the chosen stage's fields; arguments of stages that were chosen before leave the box."""
        chosen = self._chosen(title)
        kept = {field.name for field in chosen.fields} if chosen is not None else set()
        hidden = chosen.hints.unlisted if chosen is not None else frozenset()
        cleaned = without_fields(extra, self._names - kept - hidden)
        text_update = gr.skip() if cleaned == extra else cleaned
        fitting: Any = gr.skip()
        if chosen is not None:
            there = self._fitting(chosen, extra, folder)
            fitting = [name for name in dataset if name in there]
        return [
            gr.update(visible=chosen is not None),
            text_update,
            cleaned,
            fitting,
            *(gr.update(visible=form is chosen) for form in self._forms),
            *self._shown(chosen, cleaned),
        ]

    def text_changed(self, title: str, extra: str, written: str) -> list[Any]:
        """Moves the fields to what somebody else wrote into the box."""
        chosen = None if extra == written else self._chosen(title)
        return self._shown(chosen, extra)

    def writer(self, form: StageForm) -> Any:
        """The handler that writes a form into the box."""

        def write(lang: str, extra: str, *shown: Any) -> Any:
            try:
                written = with_form(extra, form.fields, shown)
            except FormError as error:
                gr.Warning(text("no_argument", lang).format(error=error))
                return gr.skip(), gr.skip()
            return written, written

        return write

    def list_data(self, title: str, extra: str, folder: str) -> Any:
        """The data sets that have the columns that the chosen stage needs with these arguments."""
        chosen = self._chosen(title)
        return gr.skip() if chosen is None else gr.update(choices=self._fitting(chosen, extra, folder))

    def _chosen(self, title: str) -> StageForm | None:
        name = self._ours.get(title)
        return next((form for form in self._forms if form.name == name), None)

    def _shown(self, chosen: StageForm | None, extra: str) -> list[Any]:
        updates: list[Any] = []
        for form in self._forms:
            if form is chosen:
                updates += [gr.update(value=value) for value in shown_values(extra, form.fields)]
            else:
                updates += [gr.skip() for _ in form.fields]
        return updates

    def _fitting(self, form: StageForm, extra: str, folder: str) -> list[str]:
        from ..lf_web import load_dataset_info

        return suitable(load_dataset_info(folder), Path(folder), form.hints.rows, needed_columns(form.name, extra))


def needed_columns(name: str, extra: str) -> frozenset[str]:
    """Columns without which the stage cannot use a row, for these extra arguments as far as they can be read."""
    stage, arguments = load_stage(name), load_arguments(name)
    if not hasattr(stage, "required_columns"):
        return frozenset()
    try:
        given = read_extra(extra)
        known = {field.name for field in form_fields(arguments)}
        values = arguments(**{key: value for key, value in given.items() if key in known})
        return frozenset(stage.required_columns(RunArguments(None, None, None, None, values)))
    except (ValueError, TypeError, AttributeError):  # settings that the run itself will refuse
        return frozenset()
