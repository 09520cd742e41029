# SPDX-License-Identifier: Apache-2.0
"""Sections of YAML files as dataclasses, checked against the types of their fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_origin, get_type_hints

from ..annotations import fits, words


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
        if not fits(value, hints[name]) or value == ():
            raise error(f"{where}: `{name}` cannot be {values[name]!r}; {words(hints[name])} is expected.")
    return kind(**read)


def _listed(value: Any, kind: Any) -> Any:
    if get_origin(kind) is not tuple:
        return value
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
