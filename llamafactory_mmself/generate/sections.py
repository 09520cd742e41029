# SPDX-License-Identifier: Apache-2.0
"""Sections of YAML files as dataclasses, checked against the types of their fields."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints


Section = TypeVar("Section")


def make_section(kind: type[Section], values: Any, where: str, error: type[ValueError]) -> Section:
    """A dataclass from plain values: numbers are 0 or more, a text may stand for a list of one, lists become tuples.

    Args:
        kind: the dataclass.
        values: key -> value, as a YAML file has them.
        where: what errors call the place that the values come from.
        error: the type of errors.

    Raises:
        ValueError: of the given type, for unknown, missing and wrong keys.
    """
    if not isinstance(values, Mapping):
        raise error(f"{where}: keys and values are expected, found {values!r}.")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(str(name) for name in values if name not in known):
        raise error(f"{where}: unknown key `{unknown[0]}`. Known keys: {', '.join(known)}.")
    needed = [name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING]
    if missing := [name for name in needed if not values.get(name)]:
        raise error(f"{where}: the key `{missing[0]}` is missing.")
    hints = get_type_hints(kind)
    read = {name: _listed(value, hints[name]) for name, value in values.items()}
    for name, value in read.items():
        if not _fits(value, hints[name]):
            raise error(f"{where}: `{name}` cannot be {values[name]!r}.")
    return kind(**read)


def _listed(value: Any, kind: Any) -> Any:
    if get_origin(kind) is not tuple:
        return value
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def _fits(value: Any, kind: Any) -> bool:
    origin = get_origin(kind)
    if origin is Literal:
        return value in get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(value, item) for item in get_args(kind))
    if origin is tuple:
        return isinstance(value, tuple) and bool(value) and all(_fits(item, get_args(kind)[0]) for item in value)
    if origin is not None:
        return isinstance(value, origin)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool) and value >= 0
    return isinstance(value, kind)
