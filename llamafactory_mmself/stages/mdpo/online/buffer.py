# SPDX-License-Identifier: Apache-2.0
"""The experience buffer: what may be trained on, how often and for how long.

Every rank holds the same buffer: entries are exchanged when they are finished, and what is drawn follows from the
entries, the step and the seed. So ranks share it without a lock, and take their parts of one draw.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ....generate.seeds import seed_digest
from .entries import Entry


EASIEST = 0.05  # difficulty of an entry whose prompt is all but solved, so that its weight is not 0


@dataclass
class Held:
    """An entry with the number of times that it was trained on."""

    entry: Entry
    uses: int = 0


@dataclass(frozen=True)
class Limits:
    """How long entries stay, and how they are drawn.

    Attributes:
        size: entries that are kept at most.
        replay: how often an entry is trained on.
        staleness: steps after which an entry is dropped; 0 keeps it.
        half_life: steps after which an entry's weight is half; 0 does not look at the age.
        difficulty: power of the difficulty in an entry's weight; 0 does not look at it.
        seed: of the draws.
    """

    size: int = 1024
    replay: int = 1
    staleness: int = 0
    half_life: float = 0.0
    difficulty: float = 0.0
    seed: int = 0

    @property
    def weighted(self) -> bool:
        """Whether entries are drawn by weight, and not in the order of sampling."""
        return self.half_life > 0 or self.difficulty > 0

    def log_weight(self, entry: Entry, step: int) -> float:
        """log w of w = 2^(-age / half_life) difficulty^power."""
        halvings = age(entry, step) / self.half_life if self.half_life > 0 else 0.0
        return -halvings * math.log(2) + self.difficulty * math.log(max(entry.difficulty, EASIEST))


@dataclass
class ExperienceBuffer:
    """Entries in the order in which they came.

    Attributes:
        limits: see `Limits`.
        held: the entries.
        counts: `added`, `used`, `replayed`, `stale`, `evicted` entries since the start of the run, and `age`, the sum
            of the used entries' ages in steps.
    """

    limits: Limits
    held: list[Held] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.held)

    @property
    def capacity(self) -> int:
        """How often what it holds may still be trained on."""
        return sum(self.limits.replay - item.uses for item in self.held)

    def add(self, entries: Iterable[Entry]) -> None:
        """Adds new entries; above `limits.size` the most used ones go, of these the oldest."""
        for entry in entries:
            self.held.append(Held(entry))
            self.counts["added"] += 1
        while len(self.held) > self.limits.size:
            self.held.remove(max(self.held, key=lambda item: (item.uses, -item.entry.step)))
            self.counts["evicted"] += 1

    def drop_stale(self, step: int) -> None:
        """Drops entries that are too old at a step; those that were never used count as stale."""
        if not self.limits.staleness:
            return
        fresh = [item for item in self.held if age(item.entry, step) <= self.limits.staleness]
        self.counts["stale"] += sum(not item.uses for item in self.held) - sum(not item.uses for item in fresh)
        self.held = fresh

    def take(self, count: int, step: int) -> list[Entry]:
        """Draws up to `count` different entries and counts their use.

        Without weights those that were used least come first, in their order. With weights it is a draw without
        replacement (Efraimidis and Spirakis, 2006): the entries with the smallest -log(u) / w.
        """
        if self.limits.weighted:
            chosen = sorted(self.held, key=lambda item: self._key(item, step))[:count]
            chosen.sort(key=self.held.index)
        else:
            chosen = sorted(self.held, key=lambda item: item.uses)[:count]
        for item in chosen:
            self.counts["used"] += 1
            self.counts["replayed"] += item.uses > 0
            self.counts["age"] += age(item.entry, step)
            item.uses += 1
        self.held = [item for item in self.held if item.uses < self.limits.replay]
        return [item.entry for item in chosen]

    def clear(self) -> None:
        """Drops all entries."""
        self.counts["evicted"] += len(self.held)
        self.held = []

    def to_rows(self) -> list[dict[str, Any]]:
        """The entries for a checkpoint."""
        return [{"uses": item.uses, "entry": item.entry.to_row()} for item in self.held]

    def load(self, rows: Iterable[Mapping[str, Any]], counts: Mapping[str, int]) -> None:
        """Takes what `to_rows` gave, and the counts."""
        self.held = [Held(Entry.from_row(row["entry"]), row["uses"]) for row in rows]
        self.counts = Counter(counts)

    def _key(self, item: Held, step: int) -> float:
        """log(-log(u) / w), which orders as -log(u) / w does."""
        digest = seed_digest(self.limits.seed, "draw", step, item.entry.id)
        chance = (int.from_bytes(digest[:8], "big") + 0.5) / 2**64
        return math.log(-math.log(chance)) - self.limits.log_weight(item.entry, step)


def age(entry: Entry, step: int) -> int:
    """Steps since an entry was sampled. A resumed run may find entries of steps that it has yet to repeat."""
    return max(step - entry.step, 0)


def shares(entries: Sequence[Entry], size: int, ranks: int, batches: int) -> list[list[list[Entry]]]:
    """Deals a step's entries out: for each micro-batch, for each rank, up to `size` of them.

    n ranks with m micro-batches see together, in this order, what one rank with n m micro-batches would.
    """
    parts = [list(entries[start : start + size]) for start in range(0, size * ranks * batches, size)]
    return [parts[batch * ranks : (batch + 1) * ranks] for batch in range(batches)]
