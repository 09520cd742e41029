# SPDX-License-Identifier: Apache-2.0
"""The prompts of a run, encoded, in an endless order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ....data.encode import NOT_ENCODABLE
from ....data.faults import DataError
from ....data.rows import PreferenceRow
from ....generate.encoding import EncodedPrompt
from ....generate.seeds import derived_seed
from ....plugin import lf
from ....recipes.ovip_prompts import bare_question, read_prompts
from ...base import RunArguments


logger = lf.get_logger(__name__)


@dataclass(frozen=True)
class OnlinePrompt:
    """A prompt that is sampled for.

    Attributes:
        row: what is asked, with the reference answer as `chosen`.
        ids: token ids of the prompt, image placeholders expanded.
        spans: runs of media tokens among them, see `RowEncoder.spans`.
        reference_ids: token ids of the reference answer, as long as a sample may be.
    """

    row: PreferenceRow
    ids: tuple[int, ...]
    spans: tuple[int, ...]
    reference_ids: tuple[int, ...]

    @property
    def encoded(self) -> EncodedPrompt:
        """What a sampler gets."""
        return EncodedPrompt(self.ids, self.row.images)

    @property
    def question(self) -> str:
        """What judge and describer get."""
        return bare_question(self.row)

    def segments(self, key: str) -> dict[str, Any]:
        """The part of a row's segments (see `data.encode`) that the prompt decides."""
        return {
            "key": key,
            "prompt": list(self.ids),
            "spans": list(self.spans),
            "images": list(self.row.images),
            "videos": list(self.row.videos),
            "weight": 1.0,
            "origin": f"{self.row.file}, row {self.row.row}",
        }


def load_prompts(run: RunArguments, encoder: Any, required: frozenset[str]) -> list[OnlinePrompt]:
    """Reads and encodes the prompts of a run, in the order of their file.

    Args:
        run: its arguments.
        encoder: the run's `RowEncoder`.
        required: columns that the strategy needs, see `TreeStage.required_columns`; rejected pictures are painted.

    Raises:
        DataError: rows that cannot be used and `invalid_rows` is `error`, or none is left.
        FileError: naming file, row and field.
    """
    args = run.stage
    rows = read_prompts(Path(args.ds_path), Path(run.data.media_dir))
    if run.data.max_samples is not None:
        rows = rows[: int(run.data.max_samples)]
    room = run.data.cutoff_len - args.rollout_max_new_tokens
    found, faults = [], []
    for row in rows:
        try:
            ids = encoder.prompt(row, row.images)
            reference = encoder.response(row, row.chosen)[: args.rollout_max_new_tokens]
        except NOT_ENCODABLE as error:
            faults.append(f"{_place(row)}: {error}")
            continue
        if "images" in required and not row.images:
            faults.append(f"{_place(row)}: strategy `{args.strategy}` compares pictures, and the row has none.")
        elif len(ids) > room:
            faults.append(
                f"{_place(row)}: its prompt has {len(ids)} tokens; with rollout_max_new_tokens "
                f"{args.rollout_max_new_tokens} that is over cutoff_len {run.data.cutoff_len}."
            )
        else:
            found.append(OnlinePrompt(row, tuple(ids), tuple(encoder.spans(ids)), tuple(reference)))
    if faults and args.invalid_rows == "error":
        raise DataError((), f"{len(faults)} prompts cannot be used. {faults[0]} `invalid_rows: drop` drops them.")
    if faults:
        logger.warning_rank0(f"{len(faults)} prompts dropped. The first: {faults[0]}")
    if not found:
        raise DataError((), f"{args.ds_path} has no prompt to sample for.")
    return found


class PromptOrder:
    """An endless row of the prompts, pass after pass, each pass shuffled anew.

    Args:
        prompts: all of them.
        seed: of the run, or None for the published order: shuffled once with Python's generator seeded 0, and the same
            in every pass.
    """

    def __init__(self, prompts: Sequence[OnlinePrompt], seed: int | None) -> None:
        self._prompts = prompts
        self._seed = seed
        self._orders: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self._prompts)

    def __getitem__(self, position: int) -> OnlinePrompt:
        number, index = divmod(position, len(self._prompts))
        return self._prompts[self._order(number)[index]]

    def _order(self, number: int) -> list[int]:
        number = 0 if self._seed is None else number
        if number not in self._orders:
            self._orders[number] = self._shuffled(number)
        return self._orders[number]

    def _shuffled(self, number: int) -> list[int]:
        count = len(self._prompts)
        if self._seed is None:
            published = list(range(count))
            random.Random(0).shuffle(published)
            return published
        generator = torch.Generator().manual_seed(derived_seed(self._seed, "prompts", number))
        order: list[int] = torch.randperm(count, generator=generator).tolist()
        return order


def _place(row: PreferenceRow) -> str:
    return f"{row.file}, row {row.row}"
