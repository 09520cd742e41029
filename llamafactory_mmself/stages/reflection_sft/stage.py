# SPDX-License-Identifier: Apache-2.0
"""Stage `reflection_sft`."""

from __future__ import annotations

from typing import Any, Literal

from ..base import FormHints, RunArguments
from .arguments import ReflectionSFTArguments
from .settings import INERT_KEYS


class ReflectionSFTStage:
    """LLaMA-Factory's `sft` on rows of several kinds; see `stages.base.Stage`.

    R3V (arXiv 2411.00855) mixes chains of thought, refinements and selections; STL (arXiv 2512.02456) mixes rationales
    and refutations.
    """

    name = "reflection_sft"
    base: Literal["sft", "dpo"] = "sft"
    arguments = "llamafactory_mmself.stages.reflection_sft.arguments:ReflectionSFTArguments"
    help = "supervised training on rows of several kinds, weighed and logged by kind (R3V, STL)."
    inert = INERT_KEYS
    pref_losses: tuple[str, ...] = ()

    def form(self) -> FormHints:
        """See `FormHints`."""
        return FormHints("Reflection SFT", "examples")

    def check(self, run: RunArguments, given: frozenset[str]) -> None:
        """See `Stage.check`; also reads `kind_weights`."""
        from .settings import check_settings

        check_settings(run, given)

    def run(self, run: RunArguments, callbacks: list[Any]) -> None:
        """See `Stage.run`."""
        from .workflow import run_reflection_sft

        run_reflection_sft(run, callbacks)


STAGE = ReflectionSFTStage()

__all__ = ["STAGE", "ReflectionSFTArguments", "ReflectionSFTStage"]
