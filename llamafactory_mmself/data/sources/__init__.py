# SPDX-License-Identifier: Apache-2.0
"""Readers of benchmarks in the layouts that their authors publish; each yields `data.questions.Question`s."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType

from ..questions import Question
from . import aokvqa, chartqa, clevr, geoqa, llava_cot, m3cot, scienceqa, tabmwp
from .layout import Layout, MissingFile, Options, Source, SourceError, collect


__all__ = ["SOURCES", "MissingFile", "Options", "Source", "SourceError", "read_source"]

Reader = Callable[[Layout, str, Options], Iterator[Question]]
SOURCES = MappingProxyType(
    {
        "geoqa": (geoqa.read, geoqa.SPLITS),
        "tabmwp": (tabmwp.read, tabmwp.SPLITS),
        "chartqa": (chartqa.read, chartqa.SPLITS),
        "clevr": (clevr.read, clevr.SPLITS),
        "m3cot": (m3cot.read, m3cot.SPLITS),
        "llava_cot": (llava_cot.read, llava_cot.SPLITS),
        "scienceqa": (scienceqa.read, scienceqa.SPLITS),
        "aokvqa": (aokvqa.read, aokvqa.SPLITS),
    }
)


def read_source(name: str, folder: Path, split: str, options: Options) -> Source:
    """Reads one split of a benchmark.

    Args:
        name: a key of `SOURCES`.
        folder: where the benchmark was unpacked.
        split: `train`, `dev`, `test` ... as the benchmark calls it.
        options: what to read and what to do with rows that cannot be used.

    Raises:
        SourceError: naming file, row and field, for files that are not there or have another form, and, unless
            `options.drop_invalid`, for the first row that cannot be used.
    """
    read, _ = SOURCES[name]
    layout = Layout(Path(folder), options)
    if not layout.folder.is_dir():
        raise SourceError(f"{folder} is not a folder; --src is the folder where {name} was unpacked.")
    return collect(layout, read(layout, split, options), options)
