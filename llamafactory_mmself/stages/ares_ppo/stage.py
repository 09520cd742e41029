# SPDX-License-Identifier: Apache-2.0
"""Stage `ares_ppo`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..base import FormHints, RunArguments, TreeStage
from .arguments import AresPPOArguments
from .settings import INERT_KEYS


if TYPE_CHECKING:
    from torch import Tensor

    from ...data.encode import RowEncoder, Segments
    from ...data.faults import Fault
    from ...data.rows import PreferenceRow
    from ...losses.types import LossOutput
    from ...tree.sample import SampleTree
    from ...tree.scores import ScoreTable


class AresPPOStage(TreeStage):
    """Sampling, feedback on each sentence, and the clipped loss (ARES, arXiv 2407.00087).

    Its samples come from a buffer and not from the rows of a data set, which hold questions only.
    """

    name = "ares_ppo"
    arguments = "llamafactory_mmself.stages.ares_ppo.arguments:AresPPOArguments"
    help = (
        "reinforcement learning with a reward for each sentence, from a teacher, outcomes or your own function (ARES)."
    )
    inert = INERT_KEYS

    def form(self) -> FormHints:
        """See `FormHints`."""
        return FormHints(
            title="ARES PPO",
            rows="questions",
            suggestions={"reward": ("teacher", "outcome"), "rollout_prompt": ("ares_rationale", "r3v_cot")},
        )

    def check(self, run: RunArguments, given: frozenset[str]) -> None:
        """See `Stage.check`; also resolves the default of `whiten_advantages`."""
        from .settings import check_settings

        check_settings(run, given)
        super().check(run, given)

    def needs_reference(self, run: RunArguments) -> bool:
        """See `TreeStage.needs_reference`."""
        return bool(run.stage.kl_coef > 0)

    def encode(self, row: PreferenceRow, encoder: RowEncoder) -> tuple[list[Segments], list[Fault]]:
        """Not used: rows are questions, and responses are sampled."""
        raise NotImplementedError("Stage `ares_ppo` reads questions; see `stages.ares_ppo.prompts`.")

    def segment_types(self) -> Mapping[str, Any]:
        """Not used; see `encode`."""
        return {}

    def tree(self, segments: Segments, run: RunArguments, rejected_crop: tuple[float, float] | None) -> SampleTree:
        """The tree of a rollout: a row of the buffer holds it under `rollout`."""
        from .tree import build_tree

        return build_tree(segments["rollout"], segments["width"])

    def loss(
        self, policy: ScoreTable, reference: ScoreTable | None, side: Mapping[str, Tensor], run: RunArguments
    ) -> LossOutput:
        """See `TreeStage.loss`."""
        from .tree import rollout_loss

        return rollout_loss(policy, side, run.stage)

    def plotted(self, run: RunArguments) -> Sequence[str]:
        """See `TreeStage.plotted`."""
        critic = ["value_loss"] if run.stage.advantage == "gae" else []
        return ["reward", "approx_kl", "entropy", *critic]

    def run(self, run: RunArguments, callbacks: list[Any]) -> None:
        """See `Stage.run`."""
        from .workflow import run_ares_ppo

        run_ares_ppo(self, run, callbacks)


STAGE = AresPPOStage()

__all__ = ["STAGE", "AresPPOArguments", "AresPPOStage"]
