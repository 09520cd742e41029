# SPDX-License-Identifier: Apache-2.0
"""Forms are made from the arguments' dataclasses, and write and read LlamaBoard's extra arguments."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal

import pytest

from llamafactory_mmself.board.forms import FormError, form_fields, shown_values, with_form, without_fields
from llamafactory_mmself.plugin.registry import form_hints, load_arguments, stage_entry_points


@dataclass
class Base:
    cached: bool = field(default=False, metadata={"help": "Keep it."})


@dataclass
class Arguments(Base):
    mode: Literal["a", "b"] = field(default="a", metadata={"help": "Which."})
    maybe: Literal["x"] | None = None
    whiten: bool | None = None
    count: int = 4
    limit: int | None = None
    weight: float = 0.5
    strategy: str = "orm"
    file: str | None = None
    old: bool = False


FIELDS = form_fields(Arguments, {"old"}, {"strategy": ("orm", "dpo")})


def form(text: str, **changes) -> str:
    shown = dict(zip([item.name for item in FIELDS], shown_values(text, FIELDS), strict=True)) | changes
    return with_form(text, FIELDS, [shown[item.name] for item in FIELDS])


def test_kinds_help_and_order():
    assert {item.name: item.kind for item in FIELDS} == {
        "mode": "choice",
        "maybe": "choice",
        "whiten": "switch",
        "count": "whole",
        "limit": "whole",
        "weight": "number",
        "strategy": "suggested",
        "file": "text",
        "cached": "flag",
    }
    assert [item.name for item in FIELDS][-1] == "cached"  # inherited ones come last
    assert FIELDS[0].help == "Which." and FIELDS[0].choices == ("a", "b") and FIELDS[1].choices == ("", "x")


def test_defaults_add_nothing_and_other_keys_stay():
    assert form('{"optim": "adamw_torch"}') == '{"optim": "adamw_torch"}'
    assert form("") == "{}"


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ({"mode": "b"}, {"mode": "b"}),
        ({"maybe": "x"}, {"maybe": "x"}),
        ({"whiten": "false"}, {"whiten": False}),
        ({"count": 5.0}, {"count": 5}),
        ({"limit": "3"}, {"limit": 3}),
        ({"weight": 1}, {"weight": 1.0}),
        ({"strategy": "mdpo"}, {"strategy": "mdpo"}),
        ({"file": "ö.txt"}, {"file": "ö.txt"}),
        ({"cached": True}, {"cached": True}),
    ],
)
def test_a_change_is_carried_there_and_back(change, value):
    text = form('{"optim": "x"}', **change)
    assert json.loads(text) == {"optim": "x", **value}
    assert form(text) == text
    (name,) = change
    assert form(text, **{name: dict(zip([f.name for f in FIELDS], shown_values("", FIELDS), strict=True))[name]}) == (
        '{"optim": "x"}'
    )


def test_texts_that_are_no_arguments():
    for text in ("{", "[1]", '"a"'):
        with pytest.raises(FormError):
            form(text)
        assert without_fields(text, {"mode"}) == text
        assert shown_values(text, FIELDS)[0] == "a"
    with pytest.raises(FormError, match="count"):
        form("{}", count=1.5)
    with pytest.raises(FormError, match="weight"):
        form("{}", weight="much")


def test_keys_of_other_stages_leave_and_all_else_stays_to_the_letter():
    assert without_fields('{"optim" :  "a"}', {"mode"}) == '{"optim" :  "a"}'
    assert without_fields('{"optim": "a", "mode": "b"}', {"mode"}) == '{"optim": "a"}'


@pytest.mark.parametrize("name", list(stage_entry_points()))
def test_every_stage_has_a_form_of_all_its_arguments(name):
    hints, arguments = form_hints(name), load_arguments(name)
    fields = form_fields(arguments, hints.unlisted, hints.suggestions)
    names = {item.name for item in dataclasses.fields(arguments)}
    assert {item.name for item in fields} == names - hints.unlisted
    assert hints.unlisted <= names and set(hints.suggestions) <= names
    assert all(item.help for item in fields)
    assert with_form("", fields, shown_values("", fields)) == "{}"
    arguments(**{item.name: item.value(item.shown_default) for item in fields})
