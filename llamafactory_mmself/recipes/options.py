# SPDX-License-Identifier: Apache-2.0
"""Options of the builders from plain values, with errors that name the option."""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .records import RecipeError


Options = TypeVar("Options")


def options_from(kind: type[Options], values: Mapping[str, Any]) -> Options:
    """Makes an options dataclass; lists become tuples.

    Raises:
        RecipeError: for unknown names, and for values of the wrong type.
    """
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in values:
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1)
            hint = f"Did you mean `{close[0]}`?" if close else f"The options are: {', '.join(names)}."
            raise RecipeError(f"There is no option `{name}` of this builder. {hint}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def check_types(options: Any) -> None:
    """Checks the values of an options dataclass against their annotations.

    Raises:
        RecipeError: naming the option and what is expected.
    """
    for name, kind in get_type_hints(type(options)).items():
        value = vars(options)[name]
        if not _fits(value, kind):
            raise RecipeError(f"Option `{name}`: {value!r} is not {_words(kind)}.")


def _fits(value: Any, kind: Any) -> bool:
    origin = get_origin(kind)
    if origin is Literal:
        return value in get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(value, item) for item in get_args(kind))
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, get_args(kind)[0]) for item in value)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool) and value >= 0
    return isinstance(value, kind)


def _words(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if origin in (Union, types.UnionType):
        return " or ".join(_words(item) for item in get_args(kind))
    if origin is tuple:
        return f"a list, each item {_words(get_args(kind)[0])}"
    words = {bool: "true or false", int: "a whole number from 0 on", float: "a number from 0 on", type(None): "empty"}
    return words.get(kind, str(kind))
