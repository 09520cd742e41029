# SPDX-License-Identifier: Apache-2.0
"""Data-set formats from entry points, and our own format for stock stages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data.faults import DataError
from ..data.rows import PreferenceRow, normalise
from ..data.schema import schema_from_attr
from .registry import format_names, load_format


def install(module: Any) -> list[str]:
    """Makes LLaMA-Factory's converter look-up fall back to entry points; returns the replaced names."""
    original = module.get_dataset_converter

    def get_dataset_converter(name: str, dataset_attr: Any, data_args: Any) -> Any:
        if name not in module.DATASET_CONVERTERS:
            converter = load_format(name)
            if converter is None:
                known = sorted({*module.DATASET_CONVERTERS, *format_names()})
                raise ValueError(
                    f"Data set {dataset_attr}: unknown formatting `{name}` in dataset_info.json. "
                    f"Known: {', '.join(known)}."
                )
            module.register_dataset_converter(name, converter)
        return original(name, dataset_attr, data_args)

    module.get_dataset_converter = get_dataset_converter
    return ["get_dataset_converter"]


class MMSelfConverter:
    """Lets LLaMA-Factory's own stages read our preference files, with `"formatting": "mmself"`.

    Stage `dpo` (a data set with `ranking`) gets the chosen and the first rejected answer with the real pictures; `sft`
    (without `ranking`) gets the chosen answer. Rejected pictures, prefixes and weights are left out.

    Raises:
        DataError: for a row that cannot be read, with its faults.
    """

    def __init__(self, dataset_attr: Any, data_args: Any) -> None:
        schema = schema_from_attr(str(dataset_attr), dataset_attr)
        self._ranking: bool = dataset_attr.ranking
        self._media_dir = Path(data_args.media_dir)
        answers = {column: column for column in ("chosen", "rejected", "images")}
        self._schema = replace(schema, ranking=True, columns={**answers, **schema.columns})
        self._file: str = dataset_attr.dataset_name
        self._row = 0

    def __call__(self, example: dict[str, Any]) -> dict[str, Any]:
        """One row in LLaMA-Factory's aligned form."""
        self._row += 1
        row, faults = normalise(
            {key: value for key, value in example.items() if value is not None},
            self._schema,
            file=self._file,
            row=self._row,
            media_dir=self._media_dir,
            prefix_reading=None,
        )
        if row is None:
            raise DataError(faults)
        return _aligned(row, self._ranking)


def _aligned(row: PreferenceRow, ranking: bool) -> dict[str, Any]:
    answers = [row.chosen, row.rejected[0]] if ranking else [row.chosen]
    return {
        "_prompt": [turn._asdict() for turn in row.prompt],
        "_response": [{"role": "assistant", "content": text} for text in answers],
        "_system": row.system,
        "_tools": row.tools,
        "_images": list(row.images) or None,
        "_videos": list(row.videos) or None,
        "_audios": None,
    }
