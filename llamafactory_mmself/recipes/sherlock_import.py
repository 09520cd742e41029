# SPDX-License-Identifier: Apache-2.0
"""Reading preference rows in the published format, in both of its readings.

The published generators write whole responses and the prefix beside them; the published trainer puts the prefix in
front again, so what it expects are suffixes. Offline files, and the published column maps, leave out `prefix_l`,
because both responses share one prefix.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.answers import PrefixReading, decide_prefix_reading
from ..data.faults import Fault
from ..data.images import check_images
from ..data.read import iter_raw
from ..data.rows import PreferenceRow, normalise
from ..data.schema import DatasetSchema
from ..files import relative
from .records import RecipeError
from .sherlock_pairs import COLUMNS


@dataclass(frozen=True)
class ImportedRow:
    """A published row, its responses whole.

    Attributes:
        row: as it was read.
        source: file and row that it comes from.
    """

    row: PreferenceRow
    source: Mapping[str, Any]

    def to_row(self, folder: Path) -> dict[str, Any]:
        """The row of a data set whose picture paths start from `folder`."""
        row = self.row
        speakers = {"user": "human", "assistant": "gpt"}
        values = {
            "id": row.key,
            "kind": "imported",
            "images": [relative(image, folder) for image in row.images],
            "conversations": [
                {"from": speakers.get(turn.role, turn.role), "value": turn.content} for turn in row.prompt
            ],
            "chosen": {"from": "gpt", "value": row.chosen},
            "rejected": {"from": "gpt", "value": row.rejected[0]},
            "prefix": row.prefix or "",
            "prefix_l": row.prefix_l or "",
            "weights": row.weight,
            "provenance": json.dumps(self.source, ensure_ascii=False, sort_keys=True),
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Imported:
    """What a published file holds.

    Attributes:
        rows: those that can be used.
        reading: whether responses hold their prefix (`full`) or only what follows it (`suffix`); None if no row has a
            prefix, when both readings agree.
        votes: how many rows show each reading; others have an empty prefix.
        shared: rows without a `prefix_l` of their own, whose two responses share `prefix`.
        unweighted: rows without `weights`.
        faults: what is wrong with the others.
    """

    rows: list[ImportedRow]
    reading: PrefixReading | None
    votes: Mapping[str, int]
    shared: int
    unweighted: int
    faults: Sequence[Fault]


def read_published(path: Path, *, media_dir: Path | None = None, reading: PrefixReading | None = None) -> Imported:
    """Reads a file of published rows.

    Args:
        path: JSON or JSONL.
        media_dir: folder that picture paths start from; by default the file's own.
        reading: how to read responses; None finds it out from all rows.

    Raises:
        RecipeError: some rows show one reading and some the other.
        DataError: the file cannot be read.
    """
    path, media = Path(path), Path(media_dir or Path(path).parent)
    numbered = list(iter_raw(path))
    raws = [(number, _with_prefix_l(raw)) for number, raw in numbered]
    schema = DatasetSchema.from_info(
        path.stem, {"file_name": path.name, "formatting": "sharegpt", "ranking": True, "columns": COLUMNS}, str(path)
    )
    shown = {number: decide_prefix_reading([raw], schema) for number, raw in raws}
    votes = Counter(str(value) for value in shown.values() if value is not None)
    if reading is None and len(votes) > 1:
        few, most = sorted(votes, key=lambda name: votes[name])
        first = next(number for number, value in shown.items() if value == few)
        raise RecipeError(
            f"{path}: {votes[most]} rows read as `{most}` and {votes[few]} as `{few}` (the first is row {first}). "
            "Correct the few, or say --reading full or suffix; rows that do not fit are then left out."
        )
    if reading is None and votes:
        reading = "full" if "full" in votes else "suffix"
    rows, faults = [], []
    for number, raw in raws:
        row, found = normalise(raw, schema, file=str(path), row=number, media_dir=media, prefix_reading=reading)
        if row is None:
            faults += found
            continue
        if broken := check_images([row]):
            faults += broken
            continue
        rows.append(ImportedRow(row, {"file": path.name, "row": number, "reading": reading}))
    shared = sum(
        isinstance(raw, Mapping) and raw.get("prefix") is not None and "prefix_l" not in raw for _, raw in numbered
    )
    unweighted = sum(item.row.weight is None for item in rows)
    return Imported(rows, reading, dict(votes), shared, unweighted, faults)


def _with_prefix_l(raw: Any) -> Any:
    if not isinstance(raw, Mapping) or "prefix_l" in raw or raw.get("prefix") is None:
        return raw
    return {**raw, "prefix_l": raw["prefix"]}
