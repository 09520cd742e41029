# SPDX-License-Identifier: Apache-2.0
"""What passes from sampling to training: groups of answers, what became of them, and entries of the buffer.

A position is a place in the endless row of a run's prompts (`prompts.PromptOrder`); everything is known by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """A response of t tokens.

    Attributes:
        text: without special tokens.
        ids: as sampled, the end of sequence included where it was sampled.
        sampled_logps: [t], of the engine while sampling; empty where they are not needed.
        old_logps: [t], of the policy that sampled, as training computes them; for grpo.
        ref_logps: [t], of the reference; for grpo.
        score: of the judge; None until there is one, and for answers without one.
        sampled: False for the reference answer.
    """

    text: str
    ids: tuple[int, ...]
    sampled_logps: tuple[float, ...] = ()
    old_logps: tuple[float, ...] = ()
    ref_logps: tuple[float, ...] = ()
    score: float | None = None
    sampled: bool = True

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Answer:
        """Reads what `asdict` made."""
        tuples = {name: tuple(row[name]) for name in ("ids", "sampled_logps", "old_logps", "ref_logps")}
        return cls(**{**row, **tuples})


@dataclass(frozen=True)
class Group:
    """What was sampled for a position.

    Attributes:
        position: of the prompt.
        step: optimizer steps of the policy that sampled.
        rank: that sampled.
        answers: different ones.
        duplicates: samples that said the same as an earlier one.
    """

    position: int
    step: int
    rank: int
    answers: tuple[Answer, ...]
    duplicates: int = 0

    def to_row(self) -> dict[str, Any]:
        """Plain JSON values; floats come back as they were."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Group:
        """Reads what `to_row` wrote."""
        return cls(**{**row, "answers": tuple(map(Answer.from_row, row["answers"]))})


@dataclass(frozen=True)
class Entry:
    """Something to train on: a pair, or (a part of) a group.

    Attributes:
        id: `<position>.<number>`.
        position: of its prompt.
        step: see `Group.step`.
        answers: chosen and rejected, or the responses of a group.
        how: which rule made it: gap, relaxed, reference, or group.
        rule: the run's pair rule; "" for groups.
        advantages: of a group's responses; empty for pairs.
        best: place of the answer that a group's image term is about; None without one.
        against: the worst answer of the whole group, which may be in another entry; None without a `best`.
        description: what the negative picture shows; None without one.
        negative: path of the negative picture; None without one.
        seed: of the painter; None without a picture.
        figures: what the checks of the picture measured.
        difficulty: from 0 to 1, how far the prompt's samples are from the highest score in the mean.
    """

    id: str
    position: int
    step: int
    answers: tuple[Answer, ...]
    how: str
    rule: str = ""
    advantages: tuple[float, ...] = ()
    best: int | None = None
    against: Answer | None = None
    description: str | None = None
    negative: str | None = None
    seed: int | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    difficulty: float = 0.0

    def to_row(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Entry:
        """Reads what `to_row` wrote."""
        answers = tuple(map(Answer.from_row, row["answers"]))
        against = None if row["against"] is None else Answer.from_row(row["against"])
        return cls(**{**row, "answers": answers, "advantages": tuple(row["advantages"]), "against": against})


@dataclass(frozen=True)
class Outcome:
    """What became of a position.

    Attributes:
        position: of the prompt.
        step: see `Group.step`.
        rank: that sampled.
        texts: of the answers that have a score.
        scores: of these answers.
        entries: what there is to train on.
        duplicates: see `Group.duplicates`.
        unscored: answers without a score.
        lost: why pairs did not become entries: reason -> how many.
    """

    position: int
    step: int
    rank: int
    texts: tuple[str, ...]
    scores: tuple[float, ...]
    entries: tuple[Entry, ...]
    duplicates: int = 0
    unscored: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Outcome:
        """Reads what `to_row` wrote."""
        tuples = {name: tuple(row[name]) for name in ("texts", "scores")}
        return cls(**{**row, **tuples, "entries": tuple(map(Entry.from_row, row["entries"]))})
