# SPDX-License-Identifier: Apache-2.0
"""Data-set formats from entry points, and our own format for stock stages."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..data.schema import DatasetSchema
from .registry import format_names, load_format


def install(module: ModuleType) -> list[str]:
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
