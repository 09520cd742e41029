# SPDX-License-Identifier: Apache-2.0
"""Plain values, as they come from YAML or a command line, against the annotations of dataclasses."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotated type; numbers are 0 or more, and a truth value is no number.

    Args:
        value: what was given; a list has been made a tuple.
        kind: a type, `Literal`, union, `tuple[X, ...]`, or another generic, whose items are not looked at.
    """
    origin = get_origin(kind)
    if origin is Literal:
        return value in get_args(kind)
    if origin in (Union, types.UnionType):
        return any(fits(value, item) for item in get_args(kind))
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(item, get_args(kind)[0]) for item in value)
    if origin is not None:
        return isinstance(value, origin)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool) and value >= 0
    return isinstance(value, kind)


def words(kind: Any) -> str:
    """An annotated type in words, for messages."""
    origin = get_origin(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if origin in (Union, types.UnionType):
        return " or ".join(words(item) for item in get_args(kind))
    if origin is tuple:
        return f"a list, each item {words(get_args(kind)[0])}"
    if origin is not None:
        return "keys and values"
    named = {bool: "true or false", int: "a whole number from 0 on", float: "a number from 0 on", str: "a text"}
    return "empty" if kind is type(None) else named.get(kind, str(kind))
