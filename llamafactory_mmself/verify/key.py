# SPDX-License-Identifier: Apache-2.0
"""Scoring extracted letters against a key file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class KeyScore:
    """Ids answered right and wrong, and how many questions the key has.

    Attributes:
        right: ids whose option is the key's, in the order of the answers.
        wrong: all other answered ids, those that the key does not have among them.
        total: questions of the key, answered or not.
    """

    right: tuple[str, ...]
    wrong: tuple[str, ...]
    total: int

    @property
    def accuracy(self) -> float:
        """Right answers over all questions of the key, in percent with two places."""
        return round(100 * len(self.right) / self.total, 2) if self.total else 0.0


def score_key(answers: Iterable[tuple[str | int, str]], key: Mapping[str, str]) -> KeyScore:
    """Compares options such as `(b)` or `B` with a key; ids are compared as texts, so 7 is "7".

    A question that was skipped or never answered counts in the total, an id that is not in the key does not.
    """
    right: list[str] = []
    wrong: list[str] = []
    for name, option in answers:
        truth = key.get(str(name))
        (right if truth is not None and _letter(option) == _letter(truth) else wrong).append(str(name))
    return KeyScore(tuple(right), tuple(wrong), len(key))


def _letter(option: str) -> str:
    return option.strip().strip("()").upper()
