# SPDX-License-Identifier: Apache-2.0
"""Which examples would not fit into the token limit of training: reported or left out, never cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from ..data.encode import RowEncoder
from ..data.questions import IMAGE
from ..data.rows import PreferenceRow
from ..data.turns import Turn
from .examples import Example


# Prompt (with its `<image>` placeholders), target, pictures -> tokens of the whole row.
Count = Callable[[str, str, Sequence[str]], int]


@dataclass(frozen=True)
class TokenLimit:
    """A limit on the tokens of a row: prompt, pictures and target.

    Attributes:
        count: counts them as training will.
        limit: the most that fit (`cutoff_len`).
        bound: counts them quickly, and never too few; None if there is no quicker way.
    """

    count: Count
    limit: int
    bound: Count | None = None

    def fits(self, prompt: str, target: str, images: Sequence[str]) -> bool:
        """Whether a row fits."""
        if self.bound is not None and self.bound(prompt, target, images) <= self.limit:
            return True
        return self.count(prompt, target, images) <= self.limit

    @classmethod
    def of(cls, encoder: RowEncoder, limit: int) -> TokenLimit:
        """A limit as LLaMA-Factory's template and processor count it."""
        return cls(token_count(encoder), limit, token_bound(encoder))


@dataclass(frozen=True)
class TooLong:
    """An example over the limit.

    Attributes:
        id: the example's.
        kind: the example's.
        tokens: of its prompt, pictures and target.
    """

    id: str
    kind: str
    tokens: int


def token_count(encoder: RowEncoder) -> Count:
    """Counts with LLaMA-Factory's template and processor, as training does; equal rows are counted once."""

    @cache
    def length(prompt: str, target: str, images: tuple[str, ...]) -> int:
        row = PreferenceRow("", "", 0, "", "", (Turn("user", prompt),), target, (), images)
        return len(encoder.prompt(row, images)) + len(encoder.response(row, target))

    return lambda prompt, target, images: length(prompt, target, tuple(images))


def token_bound(encoder: RowEncoder) -> Count:
    """A bound on what `token_count` gives that opens each picture once, however many rows show it."""
    around: dict[tuple[str, ...], int] = {}

    def bound(prompt: str, target: str, images: Sequence[str]) -> int:
        key = tuple(images)
        if key not in around:
            row = PreferenceRow("", "", 0, "", "", (Turn("user", IMAGE * len(key)),), "", (), key)
            around[key] = len(encoder.prompt(row, key)) + len(encoder.response(row, ""))
        # A text cut at its placeholders and line ends has no fewer tokens than the whole one.
        parts = [part for text in (prompt, target) for part in text.replace(IMAGE, "\n").split("\n")]
        tokens = sum(len(encoder.tokenizer.encode(part, add_special_tokens=False)) for part in parts)
        return around[key] + tokens + 2 * len(parts)

    return bound


def too_long(examples: Iterable[Example], limit: TokenLimit) -> list[TooLong]:
    """Lists the examples that training would cut."""
    counted = ((item, limit.count(item.prompt, item.target, item.images)) for item in examples)
    return [TooLong(item.id, item.kind, tokens) for item, tokens in counted if tokens > limit.limit]


def fitting(examples: Iterable[Example], limit: TokenLimit | None) -> list[Example]:
    """The examples that fit; all of them without a limit."""
    return [item for item in examples if limit is None or limit.fits(item.prompt, item.target, item.images)]
