# SPDX-License-Identifier: Apache-2.0
"""Scores and votes of the published code, and how they should be: what recorded cases are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from llamafactory_mmself.verify import majority_vote
from llamafactory_mmself.verify.published import FAILED, geoqa
from llamafactory_mmself.verify.types import Response


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


@dataclass(frozen=True)
class Vote:
    """What the GeoQA vote extracts from each sample (`FAILED` without an answer), and which of it wins."""

    extracted: list[str]
    winner: str


def geoqa_vote(texts: Sequence[str], choices: Sequence[str]) -> Vote:
    """The majority vote on GeoQA: failures vote, and of equal counts the answer that was first seen last wins.

    The winner is then judged like a text, by `geoqa-published`, which reads the option D from `FAILED`.
    """
    read = geoqa("Answer:", any_letter=False)
    extracted = [read(Response(text, tuple(choices))).answer or FAILED for text in texts]
    return Vote(extracted, majority_vote(extracted, ties="last") or FAILED)


def stl_accuracy(answers: Sequence[tuple[str | int, str]], key: dict[str, str]) -> str:
    """The printed line: right answers over answers that the key has; a number as an id is in no key."""
    scored = [key[name] == option for name, option in answers if isinstance(name, str) and name in key]
    share = 100 * sum(scored) / len(scored) if scored else 0.0
    return f"Accuracy: {share:.2f}% ({sum(scored)}/{len(scored)})"
