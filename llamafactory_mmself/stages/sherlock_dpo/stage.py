# SPDX-License-Identifier: Apache-2.0
"""Stage `sherlock_dpo`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..base import FormHints, RunArguments, TreeStage
from .arguments import SherlockArguments


if TYPE_CHECKING:
    from torch import Tensor

    from ...data.encode import RowEncoder, Segments
    from ...data.faults import Fault
    from ...data.rows import PreferenceRow
    from ...data.schema import DatasetSchema
    from ...losses.types import LossOutput
    from ...tree.sample import SampleTree
    from ...tree.scores import ScoreTable


class SherlockStage(TreeStage):
    """Preference learning that also trains self-correction; see `losses.sherlock` for the formulas."""

    name = "sherlock_dpo"
    arguments = "llamafactory_mmself.stages.sherlock_dpo.arguments:SherlockArguments"
    help = "preferences and self-correction on rows with prefixes and weights (Sherlock)."
    pref_losses = ("sr",)

    def form(self) -> FormHints:
        """See `FormHints`."""
        return FormHints("Sherlock DPO", "pairs", shared=("pref_beta", "pref_ftx"))

    def check(self, run: RunArguments, given: frozenset[str]) -> None:
        """See `Stage.check`; also resolves the preset and the ablations."""
        from .settings import check_settings

        check_settings(run.finetuning, run.stage, given)
        super().check(run, given)

    def needs_reference(self, run: RunArguments) -> bool:
        """See `TreeStage.needs_reference`."""
        return True

    def required_columns(self, run: RunArguments) -> frozenset[str]:
        """See `TreeStage.required_columns`."""
        columns = {"prefix"} if run.stage.sc_coef else set()
        return frozenset(columns if run.stage.static_weight is not None else columns | {"weights"})

    def schema(self, schema: DatasetSchema, run: RunArguments) -> DatasetSchema:
        """See `TreeStage.schema`."""
        if run.stage.prefix_in_response == "auto":
            return schema
        return dataclasses.replace(schema, prefix_in_response=run.stage.prefix_in_response)

    def row_encoder(self, encoder: RowEncoder, run: RunArguments) -> RowEncoder:
        """See `TreeStage.row_encoder`; adds the correction prompt."""
        from .encode import SherlockEncoder
        from .settings import correction_prompt

        return SherlockEncoder.of(encoder, correction_prompt(run.stage))

    def fingerprint(self, run: RunArguments) -> Mapping[str, str]:
        """See `TreeStage.fingerprint`."""
        from .settings import correction_prompt

        return {"correction_prompt": correction_prompt(run.stage).digest}

    def encode(self, row: PreferenceRow, encoder: RowEncoder) -> tuple[list[Segments], list[Fault]]:
        """See `TreeStage.encode`."""
        from .encode import SherlockEncoder, encode_sherlock

        assert isinstance(encoder, SherlockEncoder)  # made by `row_encoder`
        return encode_sherlock(row, encoder)

    def segment_types(self) -> Mapping[str, Any]:
        """See `TreeStage.segment_types`."""
        from .encode import SEGMENT_TYPES

        return SEGMENT_TYPES

    def tree(self, segments: Segments, run: RunArguments, rejected_crop: tuple[float, float] | None) -> SampleTree:
        """See `TreeStage.tree`."""
        from .tree import build_tree

        return build_tree(segments, run.stage)

    def loss(
        self, policy: ScoreTable, reference: ScoreTable | None, side: Mapping[str, Tensor], run: RunArguments
    ) -> LossOutput:
        """See `TreeStage.loss`."""
        from ...losses.sherlock import sherlock_loss

        assert reference is not None
        args, finetuning = run.stage, run.finetuning
        return sherlock_loss(
            {role: scores.sums for role, scores in policy.items()},
            {role: scores.sums for role, scores in reference.items()},
            weights=side["weight"],
            pref_beta=finetuning.pref_beta,
            refine_beta=args.refine_beta,
            sc_coef=args.sc_coef,
            dpo_coef=args.dpo_coef,
            weigh_dpo=bool(args.weigh_dpo),
            pref_ftx=finetuning.pref_ftx,
            lengths={role: scores.lengths for role, scores in policy.items()},
            quirks=args.quirks,
        )

    def plotted(self, run: RunArguments) -> Sequence[str]:
        """See `TreeStage.plotted`."""
        names = []
        if run.stage.sc_coef:
            names += ["losses/sc_l", "losses/sc_w"]
            names += [f"margins/{name}" for name in ("v_l", "u_l", "v_w", "u_w")]
        return names + (["losses/dpo", "rewards/margins", "rewards/accuracies"] if run.stage.dpo_coef else [])


STAGE = SherlockStage()

__all__ = ["STAGE", "SherlockArguments", "SherlockStage"]
