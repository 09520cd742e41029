# SPDX-License-Identifier: Apache-2.0
"""Rows of a data set, from wherever LLaMA-Factory would load them."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.faults import DataError, Fault
from ..data.read import JSON_SUFFIXES, read_rows, rows_from_raw
from ..data.rows import PreferenceRow
from ..data.schema import (
    EXTRA_COLUMNS,
    LLAMAFACTORY_COLUMNS,
    DatasetSchema,
    find_schema,
    schema_from_attr,
)
from ..data.validate import missing_requirements
from ..plugin import lf
from .base import RunArguments, TreeStage


logger = lf.get_logger(__name__)

#: Formats that are read here; others go through the converter that is registered for them.
_OWN_FORMATS = ("sharegpt", "alpaca", "mmself")


def checked_rows(stage: TreeStage, run: RunArguments, name: str) -> list[PreferenceRow]:
    """The rows of a data set that the stage can use, in order.

    Raises:
        DataError: if there are none, or if some cannot be used and `invalid_rows` is `error`.
    """
    schema, rows, faults = _read(stage, run, name)
    required = stage.required_columns(run)
    missing = {row: missing_requirements(row, schema, required) for row in rows}
    faults += [fault for found in missing.values() for fault in found]
    rows = [row for row in rows if not missing[row]]
    apply_policy(faults, run.stage.invalid_rows, name)
    if not rows:
        raise DataError((), f"Data set `{name}` has no row that can be trained on.")
    return rows


def _read(stage: TreeStage, run: RunArguments, name: str) -> tuple[DatasetSchema, list[PreferenceRow], list[Fault]]:
    media_dir = Path(run.data.media_dir)
    (attr,) = lf.get_dataset_list([name], run.data.dataset_dir)
    schema = stage.schema(find_schema(run.data.dataset_dir, name) or schema_from_attr(name, attr), run)
    if attr.load_from == "file":
        path = Path(run.data.dataset_dir, attr.dataset_name)
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        if schema.formatting in _OWN_FORMATS and all(file.suffix in JSON_SUFFIXES for file in files):
            return schema, *read_rows(schema, Path(run.data.dataset_dir), media_dir)
    raw = lf.load_raw_dataset(attr, run.model, _unlimited(run.data), run.training)
    if attr.formatting not in _OWN_FORMATS:
        raw = [_converted(row, attr, run.data) for row in raw]
        schema = stage.schema(CONVERTED, run)
    found = list(rows_from_raw(enumerate(raw, start=1), schema, attr.dataset_name, media_dir))
    rows = [row for row, _ in found if row is not None]
    return schema, rows, [fault for _, faults in found for fault in faults]


def _unlimited(data_args: Any) -> Any:
    return dataclasses.replace(data_args, max_samples=None, streaming=False, val_size=0.0)


#: Rows as registered converters return them, in our own columns.
CONVERTED = DatasetSchema(
    name="converted",
    file_name=None,
    formatting="sharegpt",
    ranking=True,
    columns={column: column for column in (*LLAMAFACTORY_COLUMNS, *EXTRA_COLUMNS)},
    tags={"role_tag": "role", "content_tag": "content"}
    | {f"{role}_tag": role for role in ("user", "assistant", "observation", "function", "system")},
)


def _converted(row: dict[str, Any], attr: Any, data_args: Any) -> dict[str, Any]:
    """A row through a registered converter: LLaMA-Factory's aligned form, renamed to our columns."""
    aligned = lf.convert_row(row, attr, data_args)
    answers = aligned.get("_response") or []
    result = {
        "messages": aligned.get("_prompt"),
        "chosen": answers[0] if answers else None,
        "rejected": answers[1:],
        "images": aligned.get("_images") or [],
        "rejected_images": aligned.get("_rejected_images") or [],
        "videos": aligned.get("_videos") or [],
        "system": aligned.get("_system") or "",
        "tools": aligned.get("_tools") or "",
    }
    extras = {key: aligned[f"_{key}"] for key in ("id", "prefix", "prefix_l", "weights") if f"_{key}" in aligned}
    return {key: value for key, value in result.items() if value not in (None, [], "")} | extras


def apply_policy(faults: Sequence[Fault], policy: str, name: str) -> None:
    """Warns, and stops or counts, according to `invalid_rows`."""
    groups: dict[str, list[Fault]] = defaultdict(list)
    for fault in faults:
        groups[f"{fault.level}/{fault.code}"].append(fault)
    for fault, *others in groups.values():
        if fault.level == "warning":
            more = f" ({len(others)} more rows like this)" if others else ""
            logger.warning_rank0(f"{fault}{more}")
    errors = [fault for fault in faults if fault.level == "error"]
    if not errors:
        return
    if policy == "error":
        raise DataError(
            errors,
            f"`mmself validate` lists every fault of `{name}`; `invalid_rows: drop` drops such rows and counts them.",
        )
    dropped = len({(fault.file, fault.row) for fault in errors if fault.row})
    counts = ", ".join(f"{len(group)} {code.split('/')[1]}" for code, group in groups.items() if code[0] == "e")
    logger.warning_rank0(f"Data set `{name}`: {dropped} rows dropped ({counts}).")
