# SPDX-License-Identifier: Apache-2.0
"""The baseline of `training_steps.py`: a preference step as the published trainers take it. This file stays as it is.

Every sequence of a sample is a row of its own with its own copy of the picture. All rows go through the model in one
padded forward, the head gives logits at every position, and log-probs are taken over the whole of them in fp32. The
reference is asked the same way, with the adapter switched off or with a second model. Nothing here is slower than it
is there: attention is the model's own, pictures are prepared once a step, and the loss is a few lines.

It imports nothing of this project and takes final token ids, so that all contenders train on the same tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn


BETA = 0.1
REFINE_BETA = 0.25
SC_COEF, DPO_COEF = 0.8, 0.2
KL_COEF = 0.04

#: Method -> (weight, winner, loser): the loss is the weighted sum of -log sigmoid(beta * margin).
PAIRS = {
    "dpo": ((1.0, "cc", "cr"),),
    "ovip": ((0.5, "cc", "cn"), (0.5, "cn", "rc"), (1.0, "cc", "cr")),
    "svco_single": ((0.5, "cc", "cn"), (0.5, "cn", "rc")),
    "svco": ((0.25, "cc", "cn"), (0.25, "cn", "rc"), (0.25, "rr", "rn"), (0.25, "rn", "cr")),
}


@dataclass(frozen=True)
class Sequence_:
    """One row for the model: ids, which of them are scored, and the pictures behind its placeholders.

    A picture is a path and whether a white one of its size is shown instead.
    """

    role: str
    ids: Sequence[int]
    scored: Sequence[bool]
    pictures: Sequence[tuple[str, bool]] = ()


@dataclass(frozen=True)
class Sample:
    """The sequences of a sample and, by method, its weight or the advantages of its answers."""

    sequences: Sequence[Sequence_]
    weight: float = 1.0
    advantages: Mapping[str, float] = field(default_factory=dict)


class NaiveTrainer:
    """Takes steps on batches of samples.

    Args:
        model: a vision-language model, with or without a LoRA adapter.
        reference: a frozen copy, or None if the model's adapter can be switched off.
        processor: the model's.
        method: a key of `PAIRS`, `sherlock` or `group`.
        learning_rate: of AdamW.
        autocast: dtype of mixed precision, or None.
    """

    def __init__(
        self,
        model: Any,
        reference: Any,
        processor: Any,
        method: str,
        learning_rate: float,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.model = model
        self.reference = reference
        self.processor = processor
        self.method = method
        self.autocast = autocast
        self.device = next(model.parameters()).device
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.0, fused=True)

    def step(self, samples: Sequence[Sample]) -> float:
        """One optimizer step; returns the loss before it."""
        rows = [sequence for sample in samples for sequence in sample.sequences]
        inputs, targets, mask = self._inputs(rows)
        with torch.no_grad(), nullcontext() if self.reference is not None else self.model.disable_adapter():
            reference = self._logps(self.reference or self.model, inputs, targets)
        policy = self._logps(self.model, inputs, targets)
        losses, start = [], 0
        for sample in samples:
            end = start + len(sample.sequences)
            roles = [sequence.role for sequence in sample.sequences]
            tables = [
                {role: (row[kept], int(kept.sum())) for role, row, kept in zip(roles, logps, masks, strict=True)}
                for logps, masks in ((policy[start:end], mask[start:end]), (reference[start:end], mask[start:end]))
            ]
            losses.append(_loss(self.method, sample, *tables))
            start = end
        loss = torch.stack(losses).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())

    def _inputs(self, rows: Sequence[Sequence_]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The forward's arguments; what each position predicts, and whether it counts, each [rows, t - 1]."""
        length = -(-max(len(row.ids) for row in rows) // 8) * 8
        ids = torch.full((len(rows), length), self.processor.tokenizer.pad_token_id)
        attention, scored = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        for place, row in enumerate(rows):
            ids[place, : len(row.ids)] = torch.tensor(row.ids)
            attention[place, : len(row.ids)] = 1
            scored[place, : len(row.ids)] = torch.tensor(row.scored)
        inputs = {"input_ids": ids, "attention_mask": attention}
        pictures = [_open(path, white) for row in rows for path, white in row.pictures]
        inputs |= self.processor.image_processor(pictures, return_tensors="pt")
        if "image_grid_thw" in inputs:
            token = self.processor.tokenizer.convert_tokens_to_ids(self.processor.image_token)
            inputs["mm_token_type_ids"] = (ids == token).int()
        inputs = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        return inputs, inputs["input_ids"][:, 1:], scored[:, 1:].to(self.device)

    def _logps(self, model: Any, inputs: Mapping[str, Tensor], targets: Tensor) -> Tensor:
        """Log-prob of each position's target, [rows, t - 1]."""
        mixed = nullcontext() if self.autocast is None else torch.autocast(self.device.type, self.autocast)
        with mixed:
            logits = model(**inputs, use_cache=False).logits
        logps = logits[:, :-1].float().log_softmax(-1)
        return torch.gather(logps, 2, targets.unsqueeze(2)).squeeze(2)


Table = Mapping[str, tuple[Tensor, int]]


def _loss(method: str, sample: Sample, policy: Table, reference: Table) -> Tensor:
    if method == "group":
        return _group_loss(sample, policy, reference)
    h = {role: policy[role][0].sum() - reference[role][0].sum() for role in policy}
    if method == "sherlock":
        return _sherlock_loss(sample.weight, h)
    pairs = [-weight * F.logsigmoid(BETA * (h[winner] - h[loser])) for weight, winner, loser in PAIRS[method]]
    return torch.stack(pairs).sum()


def _sherlock_loss(weight: float, h: Mapping[str, Tensor]) -> Tensor:
    loss = -DPO_COEF * F.logsigmoid(weight * BETA * (h["dpo.w"] - h["dpo.l"]))
    for group in ("sc_l", "sc_w"):
        v = h[f"{group}.ww"] - h[f"{group}.ll"]
        u = h[f"{group}.wl"] - h[f"{group}.lw"]
        loss = loss + SC_COEF * (1 - weight * REFINE_BETA * (v + u)) ** 2
    return loss


def _group_loss(sample: Sample, policy: Table, reference: Table) -> Tensor:
    """GRPO's loss of answers that were sampled from the present policy, with its penalty for leaving the reference."""
    losses = []
    for role, advantage in sample.advantages.items():
        logp, anchor = policy[role][0], reference[role][0]
        gain = (logp - logp.detach()).exp() * advantage
        away = (anchor - logp).exp() - (anchor - logp) - 1
        losses.append((KL_COEF * away - gain).mean())
    return torch.stack(losses).mean()


def _open(path: str, white: bool) -> Image.Image:
    with Image.open(path) as image:
        return Image.new("RGB", image.size, (255, 255, 255)) if white else image.convert("RGB")
