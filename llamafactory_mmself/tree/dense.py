# SPDX-License-Identifier: Apache-2.0
"""The dense engine: each scored leaf is one padded row. It is the yardstick for every other engine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .batch import Batch
from .head import Readout, scoring_head
from .keeping import layers_to_keep, room_on
from .last_layer import last_layer, thrifty_last_layers
from .scores import Scores, ScoreTable
from .unwrap import bare_model
from .vision import shared_features


#: Parts of a batch that are not for the model.
_OURS = frozenset({"valid", "samples", "score", "roles", "side", "shared", "dense_tokens"})


class DenseScorer:
    """Scores a dense batch with one forward of the wrapped model.

    Args:
        kept_layers: layers, from the last one up, whose activations are kept where the others are checkpointed; None
            for as many as `keeping` has room for.

    Raises:
        RuntimeError: if the model changes the head's output after the head (soft-capped or scaled logits), so that
            what comes back are not log-probs.
    """

    def __init__(self, kept_layers: int | None = None) -> None:
        self._kept_layers = kept_layers
        self._verified = False

    def __call__(self, model: nn.Module, batch: Batch) -> ScoreTable:
        """Log-probs of all roles; see `Scorer`."""
        bare = bare_model(model)
        head, score = bare.get_output_embeddings(), batch["score"]
        vocab = bare.config.get_text_config().vocab_size
        inputs = self.inputs(bare, batch)
        with (
            shared_features(bare, batch.get("shared")),
            thrifty_last_layers(bare, score["rows"], score["positions"], self._kept(bare, batch)),
            scoring_head(head, score["rows"], score["positions"], score["targets"], vocab, self.readout(bare)) as seen,
        ):
            found = model(**inputs, use_cache=False, return_dict=True).logits
        if not self._verified:
            self._verify(bare, found, seen[0])
        return {
            role: self.scores(found, where) if found.numel() else _empty(where, found)
            for role, where in batch["roles"].items()
        }

    def readout(self, bare: nn.Module) -> Readout | None:
        """What the head computes; None for log-probs."""
        return None

    def scores(self, found: Tensor, where: dict[str, Any]) -> Scores:
        """The scores of a role from what the head has computed of each scored token."""
        return Scores(found[where["index"]] * where["mask"], where["mask"])

    def inputs(self, bare: nn.Module, batch: Batch) -> Batch:
        """What the model's forward gets of a batch."""
        return {name: value for name, value in batch.items() if name not in _OURS}

    def _kept(self, bare: Any, batch: Batch) -> int:
        if self._kept_layers is not None:
            return self._kept_layers
        if not torch.is_grad_enabled() or last_layer(bare) is None:
            return 1
        ids = batch["input_ids"]
        dtype = torch.float32 if torch.is_autocast_enabled(bare.device.type) else bare.dtype
        return layers_to_keep(
            bare.config.get_text_config(),
            dtype,
            tokens=ids.numel(),
            dense_tokens=batch.get("dense_tokens", ids.numel()),
            scored=len(batch["score"]["targets"]),
            room=room_on(bare.device, bare),
        )

    def _verify(self, bare: nn.Module, returned: Tensor, computed: Tensor) -> None:
        """Once: what the model hands back is what its head computed."""
        if returned.shape != computed.shape or not torch.equal(returned.float(), computed.float()):
            raise RuntimeError(
                f"{type(bare).__name__} changes the output of its head (soft-capped or scaled logits), so its "
                "log-probs cannot be taken inside the head. This family is not supported by the tree stages."
            )
        self._verified = True


def _empty(where: dict[str, Any], logps: Tensor) -> Scores:
    return Scores(where["mask"] * logps.sum(), where["mask"])
