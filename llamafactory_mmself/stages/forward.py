# SPDX-License-Identifier: Apache-2.0
"""Packed or dense: how a run lays out its batches, decided once, before the first one, and alike on all ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from ..plugin import lf
from ..tree.attention import FLEX, NODES, SDPA, TREE_ATTENTION, flex_failure, set_text_attention, text_attention
from ..tree.batch import Batch
from ..tree.packed import PackedCollator, unpackable_model, unpackable_tree
from ..tree.sample import SampleTree
from ..tree.saving import CostModel, Saving, ThriftyCollator
from ..tree.scores import Scorer, ScoreTable
from ..tree.unwrap import bare_model
from .base import RunArguments, SettingError
from .collating import StageCollator
from .trainer import TreeTrainer


logger = lf.get_logger(__name__)

#: Batches of rows, spread over the data set, whose tokens are counted.
COUNTED_BATCHES = 16

#: Largest difference of two log-probs of a token, relative to 1 + their size, that rounding explains.
TOLERANCES = {torch.float64: 1e-7, torch.float32: 1e-3, torch.float16: 0.03, torch.bfloat16: 0.1}

#: LLaMA-Factory's switches that put another attention or another forward into the decoder.
FOREIGN_ATTENTION = ("shift_attn", "mixture_of_depths", "use_unsloth", "use_kt")


class ChooseForward(TrainerCallback):
    """Settles `tree_forward` for a run.

    A run starts dense. `packed` is refused where it is impossible. `auto` packs if the model can, if the rows' token
    counts promise a gain, and if both layouts give one batch the same log-probs; a line in the log says what was
    chosen and why. The rows looked at are spread over the data set, whatever the order of training, so a resumed run
    chooses alike.

    Args:
        trainer: of the run.
        run: its arguments.
        collator: the trainer's; it is told what to do before its first batch.
        scorer: the trainer's.
        models: the policy and, if there is one, the second model that serves as its reference.

    Raises:
        SettingError: for `packed`, with the reason why it is impossible.
    """

    def __init__(
        self,
        trainer: TreeTrainer,
        run: RunArguments,
        collator: StageCollator,
        scorer: Scorer,
        models: Sequence[nn.Module | None],
    ) -> None:
        self._trainer = trainer
        self._wish = run.stage.tree_forward
        self._run = run
        self._collator = collator
        self._scorer = scorer
        self._models = [bare_model(model) for model in models if model is not None]
        self._settled = self._wish == "dense"
        if self._settled:
            return
        reason = _impossible(run, self._models, self._wish)
        if reason is not None and self._wish == "packed":
            raise SettingError(f"`tree_forward: packed` is impossible: {reason}. Set `tree_forward: auto`.")
        if reason is not None:
            self._stay_dense(reason)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Chooses once the model is wrapped, before the first batch is collated."""
        self.choose(self._trainer.train_dataset)

    def choose(self, dataset: Any) -> None:
        """Chooses for a data set, or for each of several the same; nothing happens the second time."""
        if self._settled:
            return
        attention = self._attention()
        packed = PackedCollator(self._collator.dense)
        if self._wish == "packed":
            self._switch(attention)
            self._pack(ThriftyCollator(packed, None), "as the run's arguments say")
            return
        batches = self._batches(next(iter(dataset.values())) if isinstance(dataset, dict) else dataset)
        if not batches:
            self._stay_dense("all rows looked at show videos")
            return
        cost = CostModel.of(self._models[0], attention)
        saving = sum(map(cost.saving, batches), Saving())
        if not cost.gains(saving):
            self._stay_dense(f"packing its rows would not pay ({_counts(saving, len(batches))})")
            return
        if self._unprepared():
            self._stay_dense("DeepSpeed and FSDP set up a model that is only evaluated too late to compare on it")
            return
        difference = self._difference(batches, packed, attention)
        tolerance = TOLERANCES[coarsest_dtype(self._models[0], self._run)]
        if not difference <= tolerance:  # not a number is no agreement either
            self._stay_dense(f"log-probs of the first batch differ by {difference:.1e}, more than {tolerance:.0e}")
            return
        self._switch(attention)
        counted = _counts(saving, len(batches))
        self._pack(ThriftyCollator(packed, cost), f"{counted}; log-probs differ by {difference:.1e} at most")

    def _pack(self, collate: ThriftyCollator, found: str) -> None:
        self._settled = True
        self._collator.collate = collate
        logger.info_rank0(f"tree_forward: packed. {found[0].upper()}{found[1:]}.")

    def _stay_dense(self, reason: str) -> None:
        self._settled = True
        logger.info_rank0(f"tree_forward: dense. {reason[0].upper()}{reason[1:]}.")

    def _attention(self) -> str:
        """What a packed run attends with: FlexAttention on GPUs, or SDPA if the user asks for it; on CPUs by node."""
        device = self._trainer.args.device
        if device.type == "cpu":
            return NODES
        if device.type != "cuda" or self._run.model.flash_attn == SDPA:
            return SDPA
        if (failure := flex_failure(device)) is None:
            return FLEX
        logger.warning_rank0(f"FlexAttention does not work on {device} ({failure}); packed rows go through SDPA.")
        return SDPA

    def _switch(self, attention: str) -> None:
        before = text_attention(self._models[0])
        for model in self._models:
            set_text_attention(model, attention)
        if before not in TREE_ATTENTION:
            logger.warning_rank0(f"The decoder's attention is `{attention}` now: `{before}` takes no tree's mask.")

    def _unprepared(self) -> bool:
        """Whether the model is sharded, and its shards have not been set up yet."""
        trainer = self._trainer
        sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
        return sharded and trainer.model_wrapped is trainer.model

    def _batches(self, dataset: Any) -> list[list[SampleTree]]:
        """Trees of rows that are spread over the data set; batches with videos, which are never packed, left out."""
        args = self._trainer.args
        size = args.per_device_train_batch_size if args.do_train else args.per_device_eval_batch_size
        count = max(COUNTED_BATCHES, args.world_size)
        rows = [dataset[place * len(dataset) // (count * size)] for place in range(count * size)]
        trees = self._collator.trees(rows)
        batches = [trees[place::count] for place in range(count)]
        return [batch for batch in batches if not any(map(unpackable_tree, batch))]

    def _difference(self, batches: Sequence[Sequence[SampleTree]], packed: PackedCollator, attention: str) -> float:
        """The largest relative difference of log-probs over all ranks, each on a batch of its own."""
        trainer = self._trainer
        trees = batches[trainer.args.process_index % len(batches)]
        before = text_attention(self._models[0])
        with evaluating(trainer.model_wrapped), torch.no_grad():
            dense = self._score(self._collator.dense(trees))
            set_text_attention(self._models[0], attention)
            found = self._score(packed(trees))
            set_text_attention(self._models[0], before)
        largest = torch.cat([_apart(dense[role].logp, found[role].logp) for role in dense]).max()
        return float(trainer.accelerator.gather(largest.reshape(1)).max())

    def _score(self, batch: Batch) -> ScoreTable:
        trainer = self._trainer
        with trainer.compute_loss_context_manager():
            return self._scorer(trainer.model_wrapped, trainer._prepare_inputs(batch))


def _impossible(run: RunArguments, models: Sequence[Any], wish: str) -> str | None:
    """Why no batch of a run can be packed, or None."""
    for model in models:
        if (reason := unpackable_model(model)) is not None:
            return reason
    for name in FOREIGN_ATTENTION:
        if getattr(run.model, name):
            return f"`{name}` changes how the decoder attends"
    if wish == "auto" and text_attention(models[0]) == "eager":
        return "`flash_attn: disabled` asks for plain attention; `tree_forward: packed` would switch it to SDPA"
    return None


def coarsest_dtype(model: Any, run: RunArguments) -> torch.dtype:
    """The coarsest type that a bare model computes with."""
    types: list[torch.dtype] = [model.dtype, run.model.compute_dtype or torch.float32]
    return max(types, key=lambda kind: torch.finfo(kind).eps)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No dropout, no checkpointing, so that layers keep their cache; the model's mode comes back."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _apart(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return ((one - other).abs() / (1 + one.abs())).flatten().float()


def _counts(saving: Saving, batches: int) -> str:
    packed, dense = saving.packed.tokens, saving.dense.tokens
    text = f"{packed:,} tokens instead of {dense:,} ({dense / packed:.1f}x) in {batches} batches"
    if saving.shown:
        text += f", {saving.distinct:,} tower passes for {saving.shown:,} places that show a picture"
    return text
