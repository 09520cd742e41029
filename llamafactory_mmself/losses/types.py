# SPDX-License-Identifier: Apache-2.0
"""What every loss returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class LossOutput:
    """A loss as a sum and the weight to divide it by.

    Means are taken by the trainer, over all ranks and accumulated micro-batches at once. That is what makes two ranks
    with accumulation equal to one rank with the same global batch, on ragged batches too.

    Attributes:
        value: sum of the per-sample losses, shape [], with gradient.
        weight: number of samples (or tokens) in that sum, shape [].
        metrics: name -> (sum, count), both of shape [] and detached. The set of names depends on the loss's arguments
            only, never on the batch, so that ranks can add them up.
    """

    value: Tensor
    weight: Tensor
    metrics: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @classmethod
    def of(cls, losses: Tensor, metrics: Mapping[str, Tensor]) -> LossOutput:
        """Sums per-sample losses [n]; each metric is a tensor of values to be averaged."""
        return cls(
            value=losses.sum(),
            weight=losses.new_tensor(losses.numel()),
            metrics={name: _summed(values.detach()) for name, values in metrics.items()},
        )

    @property
    def loss(self) -> Tensor:
        """The mean over this batch alone, shape []."""
        return self.value / self.weight


def _summed(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.sum(), values.new_tensor(values.numel())
