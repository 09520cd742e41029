# SPDX-License-Identifier: Apache-2.0
"""Readers of benchmarks in the layouts that their owners publish; each yields `metrics.base.Item`s."""

from __future__ import annotations

from types import MappingProxyType

from . import (
    ai2d,
    amber,
    aokvqa,
    cvbench,
    hallusion,
    llava_bench,
    mathvista,
    mmbench,
    mme,
    mmhal,
    mmmu,
    mmstar,
    mmvet,
    object_hal,
    pope,
    questions,
    realworldqa,
    scienceqa,
    textvqa,
)
from .common import LayoutError, MissingFile, Place, Reader


__all__ = ["LAYOUTS", "LayoutError", "MissingFile", "Place", "Reader"]

LAYOUTS: MappingProxyType[str, Reader] = MappingProxyType(
    {
        "ai2d": ai2d.read,
        "amber": amber.read,
        "aokvqa": aokvqa.read,
        "benchmark": questions.read_benchmark,
        "captions": questions.read_captions,
        "cvbench": cvbench.read,
        "hallusion": hallusion.read,
        "llava_bench": llava_bench.read,
        "mathvista": mathvista.read,
        "mmbench": mmbench.read,
        "mme": mme.read,
        "mmhal": mmhal.read,
        "mmmu": mmmu.read,
        "mmstar": mmstar.read,
        "mmvet": mmvet.read,
        "object_hal": object_hal.read,
        "pope": pope.read,
        "questions": questions.read,
        "realworldqa": realworldqa.read,
        "scienceqa": scienceqa.read,
        "textvqa": textvqa.read,
    }
)
