# SPDX-License-Identifier: Apache-2.0
"""Keeps the experience buffer filled: samples, has groups annotated, and gives out what a step trains on.

At each step's beginning all ranks tell each other what has been finished since (`_collect`). Everything else follows
from what all of them know: the cursor, the buffer, which positions are under way. So they sample, wait, draw and stop
alike, and nothing else has to be agreed on.

*In turn* (`sync`), a wave of prompts is sampled and annotated to its end whenever the buffer holds too little for a
step. *Ahead*, waves are sampled before a step, annotated while it trains, and training waits only for an empty buffer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ....files import read_json, read_jsonl, write_json, write_jsonl
from ....generate.services import ServiceDead
from ....generate.types import EngineError
from ...checkpoints import CheckpointError
from ...ranks import gathered
from .buffer import ExperienceBuffer, shares
from .clock import Clock
from .entries import Entry, Group, Outcome
from .journal import Journal, Recorded
from .pipeline import Pipeline
from .prompts import PromptOrder
from .published import PublishedFiles


STATE, ENTRIES, UNDER_WAY = "online_state.json", "experience.jsonl", "under_way.jsonl"

#: Seconds after which a rank that waits for its services looks at what the others have.
PATIENCE = 1.0
#: Seconds that a wave may take in turn: services give up themselves long before.
FOREVER = 1e9


class SampleGroups(Protocol):
    """Samples with the policy."""

    def refresh(self, step: int) -> None:
        """Called on all ranks at the same time before they sample at a step; errors come on all of them."""
        ...

    def __call__(self, positions: Sequence[int], step: int) -> list[Group]:
        """Groups for some positions, all in one batch, of the policy after some steps."""
        ...

    def close(self) -> None:
        """Frees what is open."""
        ...


@dataclass(frozen=True)
class Plan:
    """How a run is cut up.

    Attributes:
        size: entries of a micro-batch.
        ranks: processes.
        rank: this one.
        accumulation: micro-batches of a step.
        steps: of the run.
        positions: prompts of the run; None for as many as its steps need.
        batch: prompts sampled together.
        ahead: steps that sampling may be ahead.
        sync: everything in turn.
        keep: entries that a step does not take stay for later ones.
    """

    size: int
    ranks: int
    rank: int
    accumulation: int
    steps: int
    positions: int | None
    batch: int = 1
    ahead: int = 2
    sync: bool = False
    keep: bool = True

    @property
    def need(self) -> int:
        """Entries of a step, of all ranks; and prompts of a wave."""
        return self.size * self.ranks * self.accumulation

    @property
    def bound(self) -> int:
        """Prompts that may be under way."""
        return self.need * (1 + self.ahead)


@dataclass(frozen=True)
class Portion:
    """A rank's part of a step.

    Attributes:
        batches: entries of each micro-batch, fewer than `Plan.size` in the last step of a run.
        filler: an entry of the step, to fill them up with, marked as a filler.
    """

    batches: list[list[Entry]]
    filler: Entry


class Supply:
    """See the module.

    Args:
        plan: of the run.
        order: its prompts.
        sample: samples a batch of positions.
        pipeline: annotates groups.
        buffer: for what is finished.
        journal: of this rank.
        files: for people; None on all ranks but the first.
        clock: of this rank.
        run: id of the run.

    Attributes:
        counts: prompts, samples, duplicates, pairs by rule, and reasons for lost ones, of all ranks since the start.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        order: PromptOrder,
        sample: SampleGroups,
        pipeline: Pipeline,
        buffer: ExperienceBuffer,
        journal: Journal,
        files: PublishedFiles | None,
        clock: Clock,
        run: str,
    ) -> None:
        self.plan = plan
        self.buffer = buffer
        self.clock = clock
        self.counts: Counter[str] = Counter()
        self._order = order
        self._sample = sample
        self._pipeline = pipeline
        self._journal = journal
        self._files = files
        self._run = run
        self._cursor = 0
        self._under_way: set[int] = set()
        self._mine: dict[int, Group] = {}
        self._fruitless = 0
        self._recorded = Recorded()
        self._unsampled: list[int] = []
        self._failure: Exception | None = None
        self._scores = [0.0, 0.0]  # sum and number since the last log

    # Steps.

    def take(self, step: int) -> Portion | None:
        """What this rank trains on in a step; None when the prompts have run out.

        Args:
            step: optimizer steps done.

        Raises:
            ServiceDead, EngineError, FileError: on all ranks, what has stopped one of them.
        """
        self.clock.step = step
        self._deal(self._unsampled, step)
        self._unsampled = []
        if not self.plan.sync or self._under_way:  # in turn, something is under way only where a run was stopped
            self._collect(self.plan.sync)
        self.buffer.drop_stale(step)
        while len(self.buffer) < self.plan.need:
            if self._may_sample():
                self._sample_wave(step)
                waiting = self.plan.sync
            elif self._under_way:
                waiting = True
            else:
                break
            self._collect(waiting)
        entries = self.buffer.take(self.plan.need, step)
        if not self.plan.keep:
            self.buffer.clear()
        while not self.plan.sync and self._room_ahead() and self._may_sample():
            self._sample_wave(step)
        parts = shares(entries, self.plan.size, self.plan.ranks, self.plan.accumulation)
        return Portion([ranks[self.plan.rank] for ranks in parts], entries[0]) if entries else None

    def close(self) -> None:
        """Ends the threads and the engine."""
        self._pipeline.close()
        self._sample.close()

    # Sampling.

    def _may_sample(self) -> bool:
        """Whether there are prompts left, and room for them under way."""
        if self.plan.positions is None:
            left = self._fruitless < max(len(self._order), self.plan.need)
        else:
            left = self._cursor < self.plan.positions
        return left and (self.plan.sync or len(self._under_way) + self.plan.need <= self.plan.bound)

    def _room_ahead(self) -> bool:
        """Whether less than `ahead` steps are ready or under way."""
        return self.buffer.capacity + len(self._under_way) < self.plan.need * self.plan.ahead

    def _sample_wave(self, step: int) -> None:
        """Samples the next positions, each batch on one rank, and hands them over."""
        end = self._cursor + self.plan.need
        if self.plan.positions is not None:
            end = min(end, self.plan.positions)
        wave = range(self._cursor, end)
        self._cursor = end
        self._under_way.update(wave)
        self._deal(wave, step)

    def _deal(self, positions: Sequence[int], step: int) -> None:
        if not positions:
            return
        with self.clock.measure("sample", 0):
            self._sample.refresh(step)
        for number, start in enumerate(range(0, len(positions), self.plan.batch)):
            if number % self.plan.ranks == self.plan.rank and self._failure is None:
                self._dispatch(positions[start : start + self.plan.batch], step)

    def _dispatch(self, positions: Sequence[int], step: int) -> None:
        """Hands a batch over, and samples of it what has not been sampled yet. Errors wait for the next exchange."""
        missing = [
            place for place in positions if place not in self._recorded.groups and place not in self._recorded.outcomes
        ]
        sampled: dict[int, Group] = {}
        try:
            if missing:
                with self.clock.measure("sample", len(missing)):
                    sampled = {group.position: group for group in self._sample(missing, step)}
                self._journal.sampled(list(sampled.values()))
        except (ValueError, OSError) as error:
            self._failure = error
            return
        for position in positions:
            self._hand_over(position, sampled.get(position) or self._recorded.groups.get(position))

    def _hand_over(self, position: int, group: Group | None) -> None:
        if group is not None:
            self._mine[position] = group
        if position in self._recorded.outcomes:
            self._pipeline.deliver(self._recorded.outcomes.pop(position))
        elif group is not None:
            self._pipeline.submit(group)

    # Exchange.

    def _collect(self, wait: bool = False) -> None:
        """Takes what all ranks have finished into the buffer; every rank calls it at the same time.

        Args:
            wait: for something new to be there; in turn, for all that is under way.
        """
        with self.clock.measure("wait"):
            if wait:
                self._pipeline.wait(FOREVER if self.plan.sync else PATIENCE, everything=self.plan.sync)
            mine = self._pipeline.ready()
            failure = _described(self._failure or self._pipeline.failure)
            parts = gathered((mine, failure, self.clock.pop_spans()))
        outcomes = sorted((item for found, _, _ in parts for item in found), key=lambda item: item.position)
        for outcome in outcomes:
            self._deliver(outcome)
        if self._files is not None:
            spans = [span for _, _, found in parts for span in found]
            self._files.write([(outcome, self._order[outcome.position]) for outcome in outcomes], spans)
        for _, found, _ in parts:
            if found is not None:
                raise _raised(*found)

    def _deliver(self, outcome: Outcome) -> None:
        self._under_way.discard(outcome.position)
        self._mine.pop(outcome.position, None)
        self._fruitless = 0 if outcome.entries else self._fruitless + 1
        self.buffer.add(outcome.entries)
        self.counts.update(
            {
                "prompts": 1,
                "samples": len(outcome.texts) + outcome.unscored + outcome.duplicates,
                "duplicates": outcome.duplicates,
                "unscored": outcome.unscored,
            }
        )
        self.counts.update(f"made/{entry.how}" for entry in outcome.entries)
        self.counts.update({f"lost/{reason}": count for reason, count in outcome.lost.items()})
        self._scores[0] += sum(outcome.scores)
        self._scores[1] += len(outcome.scores)

    # Figures and checkpoints.

    def figures(self) -> dict[str, float]:
        """For the log: the buffer, and counts since the start of the run."""
        counts, used = self.counts, self.buffer.counts
        mean = self._scores[0] / self._scores[1] if self._scores[1] else 0.0
        self._scores = [0.0, 0.0]
        unpaired = counts["lost/no pair"] + counts["lost/equal scores"] + counts["lost/no score"]
        lost = sum(count for name, count in counts.items() if name.startswith("lost/"))
        found: dict[str, float] = {
            "generation_score": mean,
            "experience/accepted": counts["made/gap"] + counts["made/relaxed"] + counts["made/group"],
            "experience/fallback": counts["made/reference"],
            "experience/unpaired": unpaired,
            "experience/rejected": lost - unpaired,
            "experience/duplicates": counts["duplicates"],
            "experience/unscored": counts["unscored"],
            "experience/stale": used["stale"],
            "experience/replayed": used["replayed"],
            "experience/age": used["age"] / max(used["used"], 1),
            "experience/buffer": len(self.buffer),
            "experience/under_way": len(self._under_way),
        }
        return {name: float(value) for name, value in found.items()}

    def save(self, folder: Path, write: bool) -> None:
        """Writes the buffer, the cursor and what is under way into a checkpoint; every rank takes part.

        Args:
            folder: of the checkpoint.
            write: whether this rank writes.
        """
        groups = sorted((group for part in gathered(list(self._mine.values())) for group in part), key=_position)
        if not write:
            return
        folder.mkdir(parents=True, exist_ok=True)
        write_jsonl(folder / ENTRIES, self.buffer.to_rows())
        write_jsonl(folder / UNDER_WAY, (group.to_row() for group in groups))
        state: dict[str, Any] = {
            "run": self._run,
            "cursor": self._cursor,
            "under_way": sorted(self._under_way),
            "fruitless": self._fruitless,
            "counts": dict(self.counts),
            "buffer": dict(self.buffer.counts),
        }
        write_json(folder / STATE, state)

    def load(self, folder: Path) -> None:
        """Goes on from a checkpoint; what is under way is dealt out again, and what a journal knows is not done again.

        Raises:
            CheckpointError: the checkpoint is of another strategy.
        """
        state = read_state(folder)
        self.buffer.load(read_jsonl(folder / ENTRIES), state["buffer"])
        self._cursor, self._fruitless = state["cursor"], state["fruitless"]
        self._under_way = set(state["under_way"])
        self.counts = Counter(state["counts"])
        self._recorded = self._journal.read(lambda place: place >= self._cursor or place in self._under_way)
        groups = {group.position: group for group in map(Group.from_row, read_jsonl(folder / UNDER_WAY))}
        self._recorded.groups.update(groups)
        known = sorted(self._under_way & (self._recorded.groups.keys() | self._recorded.outcomes.keys()))
        self._unsampled = sorted(self._under_way - set(known))  # what a failure has left
        for position in known[self.plan.rank :: self.plan.ranks]:
            self._hand_over(position, self._recorded.groups.get(position))


def read_state(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of the loop.

    Raises:
        CheckpointError: it is none of an online strategy.
    """
    if not (folder / STATE).exists():
        raise CheckpointError(f"The checkpoint {folder} has no {STATE}: it is not one of an online strategy.")
    state: dict[str, Any] = read_json(folder / STATE)
    return state


def _position(group: Group) -> int:
    return group.position


def _described(failure: Exception | None) -> tuple[str, str] | None:
    """A failure as text, for the other ranks: the name of the dead service, or "", and what was said."""
    if failure is None:
        return None
    return (failure.service if isinstance(failure, ServiceDead) else "", str(failure))


def _raised(service: str, text: str) -> EngineError:
    return ServiceDead(service, text) if service else EngineError(text)
