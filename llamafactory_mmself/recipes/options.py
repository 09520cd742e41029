# SPDX-License-Identifier: Apache-2.0
"""Options of the builders from plain values, with errors that name the option."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, get_type_hints

from ..annotations import fits, words
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
        if not fits(value, kind):
            raise RecipeError(f"Option `{name}`: {value!r} is not {words(kind)}.")
