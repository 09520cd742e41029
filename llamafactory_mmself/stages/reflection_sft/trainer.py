# SPDX-License-Identifier: Apache-2.0
"""LLaMA-Factory's supervised trainer with weights and losses by kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput

from ...plugin import lf
from ..base import RunArguments
from ..checkpoints import LoadsByName
from ..sampling import PaddedRows
from .losses import summed_weights, token_losses
from .pairs import PairSampler, torn_groups
from .projector import projector_parameters, split_projector_groups


logger = lf.get_logger(__name__)


@dataclass(frozen=True)
class Extras:
    """What the trainer knows beyond LLaMA-Factory's.

    Attributes:
        run: arguments of the run.
        kinds: names of the kinds; a kind's place is its id.
        weights: weight of each kind, or None where all weigh the same.
        groups: rows of the training set that stay together, or None.
    """

    run: RunArguments
    kinds: tuple[str, ...]
    weights: tuple[float, ...] | None
    groups: Sequence[Sequence[int]] | None


class ReflectionTrainer(LoadsByName, lf.CustomSeq2SeqTrainer):
    """Trains on rows of several kinds.

    Where all kinds weigh the same, the loss is stage `sft`'s, computed by it. Otherwise it is the weighted mean over
    the tokens of a step, all ranks and micro-batches together: sum of weight × cross-entropy over sum of weights.
    The loss of a kind is the mean cross-entropy of its tokens, without weights, over all steps since the last log.
    """

    def __init__(self, *, extras: Extras, **kwargs: Any) -> None:
        self._extras = extras
        kwargs["args"].accelerator_config.dispatch_batches = False  # the dispatcher would slice pixels by rows
        super().__init__(**kwargs)
        self._weights: Tensor | None = None
        if extras.weights is not None:
            self._weights = torch.tensor(extras.weights, device=self.args.device)
            self.model_accepts_loss_kwargs = True  # compute_loss divides by the weights of all micro-batches
        self._sums = {"train": self._no_sums(), "eval": self._no_sums()}
        self._projector_rate: float | None = None

    def _no_sums(self) -> Tensor:
        return torch.zeros((2, len(self._extras.kinds)), device=self.args.device)

    # Losses.

    def compute_loss(
        self, model: nn.Module, inputs: Mapping[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of stage `sft`, or this rank's part of the weighted mean times the number of ranks."""
        kinds = inputs.get("kinds")
        rest = {name: value for name, value in inputs.items() if name != "kinds"}
        if kinds is None or self.finetuning_args.use_asft_loss:
            return super().compute_loss(model, rest, return_outputs, num_items_in_batch=num_items_in_batch)
        labels = rest["labels"]
        if self._weights is None:
            loss, outputs = super().compute_loss(model, rest, True, num_items_in_batch=num_items_in_batch)
            if outputs.get("logits") is not None:  # fused losses leave none
                with torch.no_grad():
                    losses = token_losses(outputs["logits"].detach(), labels, kinds)
                self._note(model, losses.by_kind(len(labels), len(self._extras.kinds)))
            return (loss, outputs) if return_outputs else loss
        outputs = model(**{name: value for name, value in rest.items() if name != "labels"})
        losses = token_losses(outputs["logits"], labels, kinds)
        self._note(model, losses.by_kind(len(labels), len(self._extras.kinds)))
        if num_items_in_batch is None:
            num_items_in_batch = self._get_num_items_in_batch([inputs], self.args.device)
        loss = losses.weighted_sum(self._weights) * self.args.world_size / num_items_in_batch
        return (loss, outputs) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """What a step's loss is divided by: the weights of its tokens, over all ranks and micro-batches."""
        if self._weights is None or not all("kinds" in batch for batch in batch_samples):
            return super()._get_num_items_in_batch(batch_samples, device)
        parts = [
            summed_weights(batch["labels"], batch["kinds"], self._weights.to(batch["labels"].device)).to(device)
            for batch in batch_samples
        ]
        total = self.accelerator.reduce(sum(parts, torch.zeros((), device=device)), reduction="sum")
        return total.clamp(min=torch.finfo(total.dtype).tiny)

    def _note(self, model: nn.Module, table: Tensor) -> None:
        """Adds sums by row and kind, [rows, 2, kinds]; evaluation leaves out rows that fill up the last batch."""
        if model.training:
            self._sums["train"] += table.sum(0)
        else:
            self._sums["eval"] += self.accelerator.gather_for_metrics(table.contiguous()).sum(0)

    def _means(self, table: Tensor) -> dict[str, float]:
        """Loss of each kind that had tokens."""
        columns = zip(self._extras.kinds, *table.tolist(), strict=True)
        return {f"loss_{name}": total / count for name, total, count in columns if count}

    # Logs.

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the losses by kind since the last log to the logged loss, and the projector's learning rate."""
        if "loss" in logs:
            logs.update(self._means(self.accelerator.reduce(self._sums["train"], reduction="sum")))
            self._sums["train"] = self._no_sums()
            if self._projector_rate is not None:
                logs["projector_learning_rate"] = self._projector_rate
        super().log(logs, *args, **kwargs)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """The usual loop; a weighted loss is the weighted mean over all tokens, whatever the batches were."""
        self._sums["eval"] = self._no_sums()
        output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        table = self._sums["eval"]
        output.metrics.update({f"{prefix}_{name}": value for name, value in self._means(table).items()})
        if self._weights is not None and f"{prefix}_loss" in output.metrics and (table[1] @ self._weights) > 0:
            output.metrics[f"{prefix}_loss"] = float((table[0] @ self._weights) / (table[1] @ self._weights))
        return output

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """See LLaMA-Factory's trainer; `generate` takes no kinds, and caches cannot be gathered."""
        if self.args.predict_with_generate:
            inputs = {name: value for name, value in inputs.items() if name != "kinds"}
        ignored = self.model.config.keys_to_ignore_at_inference if ignore_keys is None else ignore_keys
        ignored = [*ignored, "past_key_values"]
        return super().prediction_step(model, inputs, prediction_loss_only, ignored, **kwargs)

    # Optimizer and batches.

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """LLaMA-Factory's choice; the projector in groups of its own where it has its own learning rate."""
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(*args, **kwargs)
        rate = self._extras.run.stage.projector_learning_rate
        if fresh and rate is not None:
            split_projector_groups(optimizer, projector_parameters(self.model), rate)
        return optimizer

    def _get_learning_rate(self) -> float:
        """The learning rate of the step just made, before the schedule moves on; notes the projector's as well."""
        if self._extras.run.stage.projector_learning_rate is not None:
            self._projector_rate = self.optimizer.param_groups[-1]["lr"]
        rate: float = super()._get_learning_rate()
        return rate

    def _get_dataloader(
        self, dataset: Any, description: str, batch_size: int, *args: Any, **kwargs: Any
    ) -> DataLoader[Any]:
        groups = self._extras.groups
        if groups is None or not kwargs.get("is_training", False):
            return super()._get_dataloader(dataset, description, batch_size, *args, **kwargs)
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        sampler = PairSampler(groups, batch_size, None if self.finetuning_args.disable_shuffling else seed)
        if torn := torn_groups(groups, list(sampler), batch_size):
            logger.warning_rank0(
                f"{torn} pairs do not fit into batches of {batch_size} rows and lie in neighbouring batches."
            )
        kwargs["sampler_fn"] = lambda rows: sampler
        return super()._get_dataloader(PaddedRows(dataset, sampler), description, batch_size, *args, **kwargs)
