# SPDX-License-Identifier: Apache-2.0
"""One trainer for all tree stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.trainer_utils import EvalLoopOutput

from ..losses.types import LossOutput
from ..plugin import lf
from ..tree.batch import Batch
from ..tree.features import FeatureCache, VisionFeatures
from ..tree.heap import keep_freed_memory
from ..tree.lora import scale_narrowly
from ..tree.reference import Reference
from ..tree.scores import Scorer, ScoreTable
from .base import RunArguments, TreeStage
from .checkpoints import LoadsByName
from .reference_cache import ReferenceCache
from .sampling import EpochSampler, PaddedRows


class MetricSums:
    """Sums and counts, added over micro-batches and, when read, over ranks."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, metrics: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Adds (sum, count) of each metric."""
        for name, (total, count) in metrics.items():
            pair = torch.stack([total.detach().float(), count.detach().float()])  # stays on the device: no waiting
            self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    def pop(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The means over all ranks; starts anew. Every rank has to call it with the same set of metrics."""
        names = sorted(self._sums)
        if not names:
            return {}
        table = reduce(torch.stack([self._sums[name] for name in names]))
        self._sums.clear()
        return {name: (total / max(count, 1.0)) for name, (total, count) in zip(names, table.tolist(), strict=True)}


class TreeTrainer(LoadsByName, Trainer):
    """Trains a model on sample trees.

    Args:
        stage: gives the loss.
        run: arguments of the run.
        scorer: the engine.
        reference: scores of the start, or None for losses without one.
        reference_model: the second model behind `reference`, if there is one; it is placed on the device here.
        reference_cache: where the reference's scores are kept, or None to compute them in every step; it is filled
            before the first one.
        feature_cache: features of pictures that are kept across steps, or None.
        processor: saved with every checkpoint.

    Dropout is switched off: policy and reference have to agree before the first step.
    """

    def __init__(
        self,
        *,
        stage: TreeStage,
        run: RunArguments,
        scorer: Scorer,
        reference: Callable[[nn.Module | None], Reference | None],
        reference_model: nn.Module | None,
        reference_cache: ReferenceCache | None = None,
        feature_cache: FeatureCache | None = None,
        processor: Any,
        **kwargs: Any,
    ) -> None:
        self._stage = stage
        self._run = run
        self._scorer = scorer
        self._metrics = {"train": MetricSums(), "eval": MetricSums()}
        for model in (kwargs["model"], reference_model):
            if model is not None:
                _disable_dropout(model)
        run.training.accelerator_config.dispatch_batches = False  # the dispatcher would slice pixels by rows
        super().__init__(args=run.training, **kwargs)
        if not (is_deepspeed_zero3_enabled() or self.is_fsdp_enabled):  # their hooks make views of what layers give
            scale_narrowly(self.model)
        if self.args.device.type == "cpu":
            keep_freed_memory()
            if self.args.world_size > 1:
                _allow_numbered_cpus()
        self.model_accepts_loss_kwargs = True  # compute_loss divides by the weight of all ranks and micro-batches
        self._reference = reference(self._prepare_reference(reference_model))
        self._reference_cache = reference_cache
        self._features = VisionFeatures(self._all_ranks_agree, feature_cache)
        if processor is not None:
            self.add_callback(lf.SaveProcessorCallback(processor))
        if run.finetuning.use_badam:
            from badam import BAdamCallback, clip_grad_norm_old_version

            self.accelerator.clip_grad_norm_ = MethodType(clip_grad_norm_old_version, self.accelerator)
            self.add_callback(BAdamCallback)

    def _prepare_reference(self, model: nn.Module | None) -> nn.Module | None:
        if model is None:
            return None
        quantised = getattr(model, "is_loaded_in_8bit", False) or getattr(model, "is_loaded_in_4bit", False)
        if self.is_deepspeed_enabled and not quantised:
            from trl.models.utils import prepare_deepspeed

            return prepare_deepspeed(model, self.accelerator)
        if self.is_fsdp_enabled and self.accelerator.is_fsdp2:
            from accelerate.utils.fsdp_utils import fsdp2_prepare_model

            return fsdp2_prepare_model(self.accelerator, model)
        if self.is_fsdp_enabled:
            from trl.models.utils import prepare_fsdp

            return prepare_fsdp(model, self.accelerator)
        return self.accelerator.prepare_model(model, evaluation_mode=True).eval()

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        """Wraps the model and loads a checkpoint, as always; then completes the cache of the reference."""
        model, dataloader = super()._prepare_for_training(*args, **kwargs)
        if self._reference_cache is not None:
            assert self._reference is not None
            self._reference = self._reference_cache.fill(
                self._reference, model, self.data_collator, self._prepare_inputs
            )
            self._reference_cache = None  # `auto_find_batch_size` comes here again, with a policy that has trained
        return model, dataloader

    # Optimizer and scheduler: LLaMA-Factory's choices.

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """See `Trainer.create_optimizer`."""
        if self.optimizer is None:
            self.optimizer = lf.create_custom_optimizer(self.model, self.args, self._run.finetuning)
        return super().create_optimizer(*args, **kwargs)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """See `Trainer.create_scheduler`."""
        lf.create_custom_scheduler(self.args, num_training_steps, optimizer)
        return super().create_scheduler(num_training_steps, optimizer)

    # Batches: no row is repeated to fill up ranks.

    def _get_dataloader(
        self, dataset: Any, description: str, batch_size: int, *args: Any, **kwargs: Any
    ) -> DataLoader:
        if isinstance(dataset, torch.utils.data.IterableDataset) or not hasattr(dataset, "__len__"):
            return super()._get_dataloader(dataset, description, batch_size, *args, **kwargs)
        training = kwargs.get("is_training", False)
        shuffled = training and not self._run.finetuning.disable_shuffling
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        drop_last = self.args.dataloader_drop_last
        sampler = EpochSampler(
            len(dataset), 1 if drop_last else batch_size * self.args.world_size, seed if shuffled else None
        )
        kwargs["sampler_fn"] = lambda rows: sampler
        return super()._get_dataloader(PaddedRows(dataset, sampler), description, batch_size, *args, **kwargs)

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> Tensor:
        """Samples of all ranks and micro-batches of a step; fillers are none."""
        count = sum((batch["valid"].sum() for batch in batch_samples), torch.zeros((), device=device))
        return self.sum_over_ranks(count)

    def sum_over_ranks(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all ranks, on each of them."""
        reduced: Tensor = self.accelerator.reduce(tensor.to(self.accelerator.device), reduction="sum")
        return reduced

    def _all_ranks_agree(self, yes: bool) -> bool:
        return not self.sum_over_ranks(torch.tensor(0.0 if yes else 1.0)).item()

    def _prepare_inputs(self, inputs: Batch) -> Batch:
        """Moves a batch to the device. Side tensors keep their precision: DeepSpeed would round weights to bf16."""
        batch: Batch = super()._prepare_inputs(inputs)
        side = {name: tensor.to(self.args.device) for name, tensor in inputs["side"].items()}
        return {**batch, "side": side}

    # Losses.

    def score(self, model: nn.Module, batch: Batch) -> tuple[ScoreTable, ScoreTable | None]:
        """Log-probs of the policy and of its reference (None without one), filler samples left out."""
        batch = self._features.lend(model, batch)
        reference = None if self._reference is None else self._reference(model, batch)
        policy = self._scorer(model, batch)
        valid = batch["valid"]
        return selected(policy, valid), None if reference is None else selected(reference, valid)

    def batch_loss(self, model: nn.Module, batch: Batch) -> LossOutput:
        """The stage's loss of a batch, as sum and weight."""
        policy, reference = self.score(model, batch)
        side = {name: tensor[batch["valid"]] for name, tensor in batch["side"].items()}
        return self._stage.loss(policy, reference, side, self._run)

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This rank's part of the mean over the global batch, times the ranks that gradients are averaged over."""
        output = self.batch_loss(model, inputs)
        self._metrics["train" if model.training else "eval"].add(output.metrics)
        if num_items_in_batch is None:
            num_items_in_batch = self.sum_over_ranks(output.weight.detach().float())
        loss = output.value * self.args.world_size / num_items_in_batch.clamp(min=1)
        return (loss, output) if return_outputs else loss

    def prediction_step(
        self, model: nn.Module, inputs: Batch, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor, None, None]:
        """Loss of an evaluation batch; what counts is added up for `evaluation_loop`."""
        with torch.no_grad():
            output = self.batch_loss(model, self._prepare_inputs(inputs))
        self._metrics["eval"].add({**output.metrics, "loss": (output.value, output.weight)})
        return output.value / output.weight.clamp(min=1), None, None

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """The usual loop; loss and metrics are means over samples, whatever the batches and ranks were."""
        self._metrics["eval"] = MetricSums()
        output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        means = self._metrics["eval"].pop(self.sum_over_ranks)
        output.metrics.update({f"{prefix}_{name}": value for name, value in means.items()})
        return output

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the training metrics since the last log to the logged loss."""
        if "loss" in logs:
            logs.update(self._metrics["train"].pop(self.sum_over_ranks))
        super().log(logs, *args, **kwargs)


def selected(table: ScoreTable, samples: Tensor) -> ScoreTable:
    """The scores of some samples; `samples` is a boolean [n]."""
    return {role: scores.select(samples) for role, scores in table.items()}


def _allow_numbered_cpus() -> None:
    """Lets torch.load place tensors on `cpu:0`, the device of data-parallel CPU ranks, which it does not know.

    Without it, a checkpoint of a run with several CPU processes cannot be resumed.
    """

    def restore(storage: Any, location: str) -> Any:
        return storage if location.startswith("cpu:") else None

    torch.serialization.register_package(100, lambda storage: None, restore)


def _disable_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
