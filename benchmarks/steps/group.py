# SPDX-License-Identifier: Apache-2.0
"""A stage for groups of answers to one prompt, so that the engines can be timed on what GRPO scores.

Rows bring their answers along: the first is `chosen`, the others are `rejected`. Advantages are fixed and sum to zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from llamafactory_mmself.data.encode import RowEncoder, Segments
from llamafactory_mmself.data.faults import Fault
from llamafactory_mmself.data.rows import PreferenceRow
from llamafactory_mmself.losses.types import LossOutput
from llamafactory_mmself.stages.base import RunArguments, TreeStage
from llamafactory_mmself.tree.sample import Media, SampleTree, TreeBuilder
from llamafactory_mmself.tree.scores import ScoreTable


KL_COEF = 0.04


class GroupStage(TreeStage):
    """GRPO's loss (arXiv 2402.03300, eq. 3) at the first step after sampling: no ratio is clipped yet."""

    name = "benchmark_group"
    arguments = "llamafactory_mmself.stages.base:TreeArguments"
    help = "groups of answers to one prompt."

    def needs_reference(self, run: RunArguments) -> bool:
        """See `TreeStage.needs_reference`."""
        return True

    def samples(self, row: PreferenceRow, run: RunArguments) -> list[PreferenceRow]:
        """See `TreeStage.samples`; a group stays together."""
        return [row]

    def encode(self, row: PreferenceRow, encoder: RowEncoder) -> tuple[list[Segments], list[Fault]]:
        """See `TreeStage.encode`."""
        answers = [encoder.response(row, text) for text in (row.chosen, *row.rejected)]
        prompt = encoder.prompt(row, row.images)
        record: Segments = {"key": row.key, "prompt": prompt, "answers": answers, "images": list(row.images)}
        shown = {"chosen": answers[0], "rejected": answers[1], "origin": f"{row.file}, row {row.row}"}
        return [{**record, **shown}], []

    def segment_types(self) -> Mapping[str, Any]:
        """See `TreeStage.segment_types`."""
        ids = {"prompt": ["int32"], "answers": [["int32"]], "chosen": ["int32"], "rejected": ["int32"]}
        return {"key": "string", "origin": "string", "images": ["string"], **ids}

    def tree(self, segments: Segments, run: RunArguments, rejected_crop: tuple[float, float] | None) -> SampleTree:
        """See `TreeStage.tree`."""
        builder = TreeBuilder(segments["key"])
        context = builder.add(segments["prompt"], media=[Media("image", path) for path in segments["images"]])
        for place, answer in enumerate(segments["answers"]):
            builder.score(f"sample.{place}", answer, context)
        return builder.build({"advantages": torch.tensor(advantages(len(segments["answers"])))})

    def loss(
        self, policy: ScoreTable, reference: ScoreTable | None, side: Mapping[str, Tensor], run: RunArguments
    ) -> LossOutput:
        """See `TreeStage.loss`."""
        assert reference is not None
        losses = []
        for place, (role, scores) in enumerate(policy.items()):
            away = reference[role].logp - scores.logp
            gain = (scores.logp - scores.logp.detach()).exp() * side["advantages"][:, place, None]
            terms = (KL_COEF * (away.exp() - away - 1) - gain) * scores.mask
            losses.append(terms.sum(-1) / scores.lengths)
        return LossOutput.of(torch.stack(losses).mean(0), {})


def advantages(count: int) -> Sequence[float]:
    """From 1 to -1 in equal steps."""
    return [1 - 2 * place / (count - 1) for place in range(count)]
