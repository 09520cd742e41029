# SPDX-License-Identifier: Apache-2.0
"""Stage `mdpo`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..base import FormHints, RunArguments, TreeStage
from .arguments import GRPO, GRPO_ONLY, ONLINE_ONLY, PAIRS_ONLY, WITHOUT_EFFECT, MDPOArguments


if TYPE_CHECKING:
    from torch import Tensor

    from ...data.encode import RowEncoder, Segments
    from ...data.faults import Fault
    from ...data.rows import PreferenceRow
    from ...losses.types import LossOutput
    from ...tree.sample import SampleTree
    from ...tree.scores import ScoreTable


OFFLINE = "is read by online strategies only, and `strategy` is none"
INERT = "is accepted for old command lines and does nothing"


class MDPOStage(TreeStage):
    """Preference learning on answers and on pictures; see `losses.mdpo` for the formulas."""

    name = "mdpo"
    arguments = "llamafactory_mmself.stages.mdpo.arguments:MDPOArguments"
    help = "preferences between answers and between pictures, offline or sampled in training (DPO, mDPO, S-VCO, OViP)."

    def form(self) -> FormHints:
        """See `FormHints`."""
        from ...losses.mdpo import STRATEGIES
        from .settings import ONLINE_STRATEGIES

        return FormHints(
            title="Multimodal DPO",
            rows="pairs",
            unlisted=WITHOUT_EFFECT,
            suggestions={"strategy": (*STRATEGIES, *ONLINE_STRATEGIES)},
            shared=("pref_beta", "pref_ftx", "pref_loss"),
        )

    def check(self, run: RunArguments, given: frozenset[str]) -> None:
        """See `Stage.check`; also resolves the default of `anchor_ratio`."""
        from ...plugin.lf import get_logger
        from .settings import check_online, check_settings

        check_settings(run.finetuning, run.stage, given)
        super().check(run, given)
        unread = {} if run.stage.online else dict.fromkeys(ONLINE_ONLY | PAIRS_ONLY | GRPO_ONLY, OFFLINE)
        if run.stage.online:
            check_online(run, given)
        for name, reason in sorted({**unread, **dict.fromkeys(WITHOUT_EFFECT, INERT)}.items()):
            if name in given:
                get_logger(__name__).warning_rank0(f"`{name}` {reason}.")

    def needs_reference(self, run: RunArguments) -> bool:
        """See `TreeStage.needs_reference`."""
        from ...losses.mdpo import needs_reference

        if run.stage.strategy == GRPO:
            return bool(run.finetuning.pref_beta > 0 or run.stage.grpo_image_term != "none")
        return needs_reference(run.stage.loss_strategy, run.finetuning.pref_loss)

    def required_columns(self, run: RunArguments) -> frozenset[str]:
        """See `TreeStage.required_columns`."""
        from ...losses.mdpo import strategy_roles

        if run.stage.strategy == GRPO:
            return frozenset({"images"} if run.stage.grpo_image_term != "none" else ())
        roles = set(strategy_roles(run.stage.loss_strategy, run.stage.vtcl_mode))
        columns = {"images"} if roles & {"rc", "rr", "cn", "rn"} else set()
        if roles & {"rc", "rr"} and run.stage.loss_strategy != "ori-mdpo":
            columns.add("rejected_images")
        return frozenset(columns)

    def samples(self, row: PreferenceRow, run: RunArguments) -> list[PreferenceRow]:
        """See `TreeStage.samples`; a strategy without rejected answers uses a row once."""
        from ...losses.mdpo import strategy_roles

        roles = set(strategy_roles(run.stage.loss_strategy, run.stage.vtcl_mode))
        samples = super().samples(row, run)
        return samples if roles & {"cr", "rr", "rn"} else samples[:1]

    def encode(self, row: PreferenceRow, encoder: RowEncoder) -> tuple[list[Segments], list[Fault]]:
        """See `TreeStage.encode`."""
        from ...data.encode import encode_pairs

        return encode_pairs(row, encoder)

    def segment_types(self) -> Mapping[str, Any]:
        """See `TreeStage.segment_types`."""
        from ...data.encode import SEGMENT_TYPES

        return SEGMENT_TYPES

    def tree(self, segments: Segments, run: RunArguments, rejected_crop: tuple[float, float] | None) -> SampleTree:
        """See `TreeStage.tree`."""
        from .tree import build_tree

        if "entry" in segments:
            from .grpo_tree import build_group_tree

            return build_group_tree(segments, run.stage)
        return build_tree(segments, run.stage, rejected_crop, run.training.seed)

    def loss(
        self, policy: ScoreTable, reference: ScoreTable | None, side: Mapping[str, Tensor], run: RunArguments
    ) -> LossOutput:
        """See `TreeStage.loss`."""
        from ...losses.mdpo import mdpo_loss
        from ...losses.pairs import MEAN_LOGPS

        args, finetuning = run.stage, run.finetuning
        if args.strategy == GRPO:
            from .grpo_tree import group_loss

            return group_loss(policy, reference, side, args, finetuning.pref_beta)
        mean = finetuning.pref_loss in MEAN_LOGPS

        def logps(table: ScoreTable) -> dict[str, Tensor]:
            return {role: scores.sums / scores.lengths if mean else scores.sums for role, scores in table.items()}

        lengths = {role: policy[role].lengths for role in ("cc", "rr") if role in policy}
        return mdpo_loss(
            logps(policy),
            None if reference is None else logps(reference),
            strategy=args.loss_strategy,
            mode=args.vtcl_mode,
            beta=finetuning.pref_beta,
            loss_type=finetuning.pref_loss,
            label_smoothing=finetuning.dpo_label_smoothing,
            simpo_gamma=finetuning.simpo_gamma,
            anchor_ratio=args.anchor_ratio,
            neg_anchor_ratio=args.neg_anchor_ratio,
            not_half_dpo_loss=args.not_half_dpo_loss,
            pref_ftx=finetuning.pref_ftx,
            chosen_lengths=lengths,
            quirks=args.quirks,
        )

    def plotted(self, run: RunArguments) -> Sequence[str]:
        """See `TreeStage.plotted`."""
        from ...losses.mdpo import strategy_terms

        if run.stage.strategy == GRPO:
            return ["generation_score", "KL_loss", "clip_fraction"]
        terms = [term.name for term in strategy_terms(run.stage.loss_strategy, run.stage.vtcl_mode)]
        return [*dict.fromkeys(terms), "rewards/margins", "rewards/accuracies"] if terms else []

    def run(self, run: RunArguments, callbacks: list[Any]) -> None:
        """See `Stage.run`."""
        if not run.stage.online:
            super().run(run, callbacks)
            return
        from .online.workflow import run_online

        run_online(self, run, callbacks)


STAGE = MDPOStage()

__all__ = ["STAGE", "MDPOArguments", "MDPOStage"]
