# SPDX-License-Identifier: Apache-2.0
"""The buffer of rollouts, in memory and in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...files import read_json, read_jsonl, write_json, write_jsonl
from ..checkpoints import CheckpointError
from .advantages import longest
from .loader import Place
from .prompts import Asked
from .rollouts import Response, Rollout


ROLLOUTS, STATE = "rollouts.jsonl", "rollout_state.json"


@dataclass
class Buffer:
    """Rollouts of a round, the same on all ranks.

    Attributes:
        rollouts: with advantages.
        figures: see `alarms.figures`.
        first: figures of the run's first buffer.
    """

    rollouts: Sequence[Rollout] = ()
    figures: dict[str, float] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Rows for the collator."""
        width = longest(self.rollouts)
        return [{"rollout": rollout, "width": width} for rollout in self.rollouts]

    def save(self, folder: Path, place: Place) -> None:
        """Writes the buffer and where the run stands in it into a checkpoint."""
        write_jsonl(folder / ROLLOUTS, (rollout.to_row() for rollout in self.rollouts))
        write_json(folder / STATE, {"place": place.to_dict(), "figures": self.figures, "first": self.first})

    @classmethod
    def load(cls, folder: Path) -> tuple[Buffer, Place]:
        """Reads what `save` wrote.

        Raises:
            CheckpointError: the checkpoint has no buffer.
        """
        if not (folder / STATE).exists() or not (folder / ROLLOUTS).exists():
            raise CheckpointError(f"The checkpoint {folder} has no {ROLLOUTS}: it is not one of stage `ares_ppo`.")
        state: Mapping[str, Any] = read_json(folder / STATE)
        rollouts = [Rollout.from_row(row) for row in read_jsonl(folder / ROLLOUTS)]
        return cls(rollouts, dict(state["figures"]), dict(state["first"])), Place(**state["place"])


class Sketches(Sequence[dict[str, Any]]):
    """What the rows of a run will look like: prompts with K responses of half the length that is allowed.

    The choice of a layout looks at these, so that it is the same whatever has been sampled, and after a resume.

    Args:
        asked: the questions.
        count: K.
        length: tokens of a sketched response.
        fillers: K different token ids.
    """

    def __init__(self, asked: Sequence[Asked], count: int, length: int, fillers: Sequence[int]) -> None:
        self._asked = asked
        self._length = max(1, length)
        self._responses = tuple(
            Response((fillers[place % len(fillers)],) * self._length, "", "stop", rewards={}) for place in range(count)
        )

    def __len__(self) -> int:
        return len(self._asked)

    def __getitem__(self, index: Any) -> Any:
        item = self._asked[index]
        rollout = Rollout(item.question.id, item.prompt, item.request.images, self._responses)
        return {"rollout": rollout, "width": self._length}
