# SPDX-License-Identifier: Apache-2.0
"""A stage's arguments as fields of a form, and the JSON text that carries them to a run.

Names, kinds, defaults and help texts come from the arguments dataclass. The text is LlamaBoard's box of extra
arguments; keys that belong to no field of the stage are left as they are.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


Kind = Literal["flag", "switch", "choice", "suggested", "whole", "number", "text"]
SWITCH = {"": None, "true": True, "false": False}


class FormError(ValueError):
    """A value or text that is no argument, with the reason."""


@dataclass(frozen=True)
class FormField:
    """One argument.

    Attributes:
        name: of the argument.
        kind: `flag` true or false; `switch` true, false or neither; `choice` one of `choices`; `suggested` a text,
            usually one of `choices`; `whole` and `number` numbers; `text`.
        default: what a run takes if the argument is not given.
        help: its help text.
        choices: values to choose from, as texts.
        owner: name of the dataclass that declares it.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    owner: str = ""

    @property
    def optional(self) -> bool:
        """Whether it may be left unset, which a box for numbers cannot show."""
        return self.default is None

    @property
    def shown_default(self) -> Any:
        """The default as a form shows it."""
        return self.shown(self.default)

    def shown(self, value: Any) -> Any:
        """A value as a form shows it: flags and numbers as they are, "" where nothing is set."""
        if self.kind == "flag":
            return bool(value)
        if self.kind in ("whole", "number"):
            usable = isinstance(value, (int, float)) and not isinstance(value, bool)
            if self.optional:
                return repr(value) if usable else ""
            return value if usable else self.default
        if isinstance(value, bool):
            return "true" if value else "false"
        return "" if value is None else str(value)

    def value(self, shown: Any) -> Any:
        """The argument's value for what a form shows.

        Raises:
            FormError: it is no number where one is needed.
        """
        if self.kind == "flag":
            return bool(shown)
        if shown is None or shown == "":
            return self.default
        if self.kind in ("whole", "number"):
            return self._number(shown)
        return SWITCH[shown] if self.kind == "switch" else str(shown)

    def _number(self, shown: Any) -> int | float:
        try:
            number = float(shown)
        except (TypeError, ValueError) as error:
            raise FormError(f"`{self.name}` is a number; found {shown!r}.") from error
        if self.kind == "number":
            return number
        if number != int(number):
            raise FormError(f"`{self.name}` is a whole number; found {shown!r}.")
        return int(number)


def form_fields(
    arguments: type, unlisted: Collection[str] = (), suggestions: Mapping[str, Sequence[str]] | None = None
) -> tuple[FormField, ...]:
    """The fields of an arguments dataclass: its own first, then those of the classes that it is made from.

    Args:
        arguments: the dataclass.
        unlisted: arguments that a form leaves out.
        suggestions: argument -> values that a free text usually has.
    """
    hints = get_type_hints(arguments)
    owners: dict[str, type] = {}
    for owner in reversed(arguments.__mro__):
        owners |= dict.fromkeys(vars(owner).get("__annotations__", {}), owner)
    order = [owner for owner in arguments.__mro__ if owner in owners.values()]
    fields = [item for item in dataclasses.fields(arguments) if item.init and item.name not in unlisted]
    fields.sort(key=lambda item: order.index(owners[item.name]))
    return tuple(
        _field(item, hints[item.name], tuple((suggestions or {}).get(item.name, ())), owners[item.name].__name__)
        for item in fields
    )


def _field(item: Any, hint: Any, suggested: tuple[str, ...], owner: str) -> FormField:
    default = item.default if item.default is not dataclasses.MISSING else None
    if default is None and item.default_factory is not dataclasses.MISSING:
        default = item.default_factory()
    text = str(item.metadata.get("help", ""))
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    optional = NoneType in parts
    bare = next(part for part in parts if part is not NoneType)
    if get_origin(bare) is Literal:
        choices = tuple(str(value) for value in get_args(bare))
        return FormField(item.name, "choice", default, text, (("", *choices) if optional else choices), owner)
    if bare is bool and optional:
        return FormField(item.name, "switch", default, text, tuple(SWITCH), owner)
    kinds: dict[Any, Kind] = {bool: "flag", int: "whole", float: "number"}
    kind = kinds.get(bare, "suggested" if suggested else "text")
    return FormField(item.name, kind, default, text, suggested, owner)


def read_extra(text: str) -> dict[str, Any]:
    """The extra arguments of a text; an empty text has none.

    Raises:
        FormError: it is no JSON object.
    """
    if not text.strip():
        return {}
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise FormError(f"The extra arguments are no JSON: {error}") from error
    if not isinstance(values, dict):
        raise FormError("The extra arguments are no JSON object: {...} is expected.")
    return values


def write_extra(values: Mapping[str, Any]) -> str:
    """The text of extra arguments."""
    return json.dumps(dict(values), ensure_ascii=False)


def with_form(text: str, fields: Sequence[FormField], shown: Sequence[Any]) -> str:
    """The text of extra arguments with a form in it: what differs from its default, and nothing else of these fields.

    Raises:
        FormError: the text is no JSON object, or a value is none.
    """
    values = read_extra(text)
    for item, value in zip(fields, shown, strict=True):
        given = item.value(value)
        if given == item.default and type(given) is type(item.default):
            values.pop(item.name, None)
        else:
            values[item.name] = given
    return write_extra(values)


def without_fields(text: str, names: Collection[str]) -> str:
    """The text of extra arguments without some keys; unchanged to the letter if it has none of them or is no JSON."""
    try:
        values = read_extra(text)
    except FormError:
        return text
    if not values.keys() & set(names):
        return text
    return write_extra({name: value for name, value in values.items() if name not in names})


def shown_values(text: str, fields: Sequence[FormField]) -> list[Any]:
    """What a form shows for a text of extra arguments; defaults where it is no JSON object."""
    try:
        values = read_extra(text)
    except FormError:
        values = {}
    return [item.shown(values.get(item.name, item.default)) for item in fields]
