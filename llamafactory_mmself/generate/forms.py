# SPDX-License-Identifier: Apache-2.0
"""The forms of answer that a judge may give, and how strictly they are read.

A judge may explain itself, but its verdict stands alone: either the whole answer is the value, or exactly one value
is given in lines of the form `Verdict: yes`. Anything else is unparsed; a value is never looked for inside sentences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


_DECORATION = "*_`[]().,! \t"
_NUMBER = re.compile(r"([-+]?\d+(?:\.\d+)?)(?:\s*/\s*(\d+(?:\.\d+)?))?")


class Form(Protocol):
    """What a judge's answer looks like."""

    @property
    def values(self) -> Mapping[str, str]:
        """Placeholders of the prompt that the form fills in."""
        ...

    def parse(self, text: str) -> Any | None:
        """The value in an answer, or None if it is not clear. Values are never None."""
        ...


@dataclass(frozen=True)
class YesNo:
    """`yes` is True, `no` is False.

    Attributes:
        label: the word before the colon.
    """

    label: str = "Verdict"

    @property
    def values(self) -> Mapping[str, str]:
        """None."""
        return {}

    def parse(self, text: str) -> bool | None:
        """See `Form.parse`."""
        return {"yes": True, "no": False}.get((stated(text, self.label) or "").lower())


@dataclass(frozen=True)
class Score:
    """A number within a range; `7/10` counts as 7 where 10 is the highest score.

    Attributes:
        low: the lowest score that is valid.
        high: the highest one.
        whole: whether only integers are valid.
        label: the word before the colon.
    """

    low: float = 0
    high: float = 10
    whole: bool = False
    label: str = "Score"

    @property
    def values(self) -> Mapping[str, str]:
        """The range, for `{low}` and `{high}`."""
        return {"low": f"{self.low:g}", "high": f"{self.high:g}"}

    def parse(self, text: str) -> float | None:
        """See `Form.parse`."""
        match = _NUMBER.fullmatch(stated(text, self.label) or "")
        if match is None or (match[2] is not None and float(match[2]) != self.high):
            return None
        value = float(match[1])
        valid = self.low <= value <= self.high and (value.is_integer() or not self.whole)
        return value if valid else None


@dataclass(frozen=True)
class Choice:
    """One of several options, in any case; the value is the option as it is written here.

    Attributes:
        options: the allowed answers, different also in lower case.
        label: the word before the colon.
    """

    options: tuple[str, ...]
    label: str = "Choice"

    def __post_init__(self) -> None:
        if len({_bare(option).lower() for option in self.options}) != len(self.options) or len(self.options) < 2:
            raise ValueError(f"A choice needs two or more different options, not {list(self.options)}.")

    @property
    def values(self) -> Mapping[str, str]:
        """The options, for `{options}`."""
        return {"options": ", ".join(self.options)}

    def parse(self, text: str) -> str | None:
        """See `Form.parse`."""
        options = {_bare(option).lower(): option for option in self.options}
        return options.get((stated(text, self.label) or "").lower())


def stated(text: str, label: str) -> str | None:
    """The one value that an answer states: in its lines `<label>: <value>`, or without such lines as a whole.

    Marks such as asterisks, brackets and a full stop around label and value are left out. Lines that name different
    values state none.
    """
    line = re.compile(rf"[\s*_`#>-]*{re.escape(label)}[*_`]*\s*[:=](.*)", re.IGNORECASE)
    named = {_bare(match[1]) for match in map(line.fullmatch, text.splitlines()) if match}
    if not named:
        return _bare(text)
    return named.pop() if len({value.lower() for value in named}) == 1 else None


def _bare(text: str) -> str:
    return text.strip().strip(_DECORATION)
