# SPDX-License-Identifier: Apache-2.0
"""From entries of the buffer to rows for the collator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ....data.encode import RowEncoder
from ...base import SettingError
from ..arguments import GRPO, MDPOArguments
from .annotate import needs_negative
from .entries import Answer, Entry
from .prompts import OnlinePrompt, PromptOrder


@dataclass(frozen=True)
class RowMaker:
    """Makes rows; token ids are those that were sampled.

    Attributes:
        order: prompts by position.
        encoder: encodes prompts with negative pictures.
        args: the stage's arguments.
    """

    order: PromptOrder
    encoder: RowEncoder
    args: MDPOArguments

    def __call__(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """Rows of a micro-batch; those of groups have room for the longest of its responses, and for the most."""
        rows = [self.row(entry, self.order[entry.position]) for entry in entries]
        if self.args.strategy == GRPO:
            width = max(len(answer.ids) for entry in entries for answer in entry.answers)
            count = max(len(entry.answers) for entry in entries)
            rows = [{**row, "width": width, "count": count} for row in rows]
        return rows

    def row(self, entry: Entry, prompt: OnlinePrompt) -> dict[str, Any]:
        """The segments of an entry: of a pair as `data.encode.encode_pairs` makes them, of a group with the entry.

        Raises:
            SettingError: a negative picture leaves no room for an answer.
        """
        negative: list[int] = []
        pictures: list[str] = []
        if entry.negative is not None:
            pictures = [entry.negative] * len(prompt.row.images)
            negative = self.encoder.prompt(prompt.row, pictures)
        room = self.encoder.cutoff_len - max(len(prompt.ids), len(negative))
        if room < 1:
            raise SettingError(
                f"With the picture {entry.negative} the prompt has {len(negative)} tokens; cutoff_len is "
                f"{self.encoder.cutoff_len}. Raise it, lower image_max_pixels, or have smaller pictures painted."
            )
        segments = prompt.segments(f"{prompt.row.key}/{entry.id}")
        segments |= {
            "negative_prompt": negative,
            "negative_spans": self.encoder.spans(negative),
            "rejected_images": pictures,
        }
        if self.args.strategy == GRPO:
            return segments | {"entry": entry}
        chosen, rejected = (list(answer.ids[:room]) for answer in entry.answers)
        return segments | {"chosen": chosen, "rejected": rejected}


class Sketches(Sequence[dict[str, Any]]):
    """What the rows of a run will look like: answers of half the length that is allowed, the real picture twice.

    The choice of a layout looks at these, so that it is the same whatever has been sampled, and after a resume.

    Args:
        prompts: of the run.
        maker: of its rows.
        fillers: different token ids, no special ones.
    """

    def __init__(self, prompts: Sequence[OnlinePrompt], maker: RowMaker, fillers: Sequence[int]) -> None:
        self._prompts = prompts
        self._maker = maker
        args = maker.args
        count = args.rollout_n if args.strategy == GRPO else 2
        length = max(1, args.rollout_max_new_tokens // 2)
        self._answers = tuple(Answer("", (fillers[place % len(fillers)],) * length) for place in range(count))
        self._shape = {"width": length, "count": count} if args.strategy == GRPO else {}

    def __len__(self) -> int:
        return len(self._prompts)

    def __getitem__(self, index: Any) -> Any:
        prompt, args = self._prompts[index], self._maker.args
        pictures = prompt.row.images
        entry = Entry(
            id="0.0",
            position=0,
            step=0,
            answers=self._answers,
            how="group" if args.strategy == GRPO else "gap",
            advantages=(0.0,) * len(self._answers),
            best=0 if args.strategy == GRPO and args.grpo_image_term != "none" else None,
            negative=pictures[0] if pictures and needs_negative(args) else None,
        )
        return {**self._maker.row(entry, prompt), **self._shape}
