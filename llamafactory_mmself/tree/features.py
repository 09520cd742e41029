# SPDX-License-Identifier: Apache-2.0
"""Features of pictures that a frozen vision tower has computed once, for every pass that needs them.

Within a step, policy and reference look at the same pictures. Across steps, an epoch later, too. As long as the tower
and its projector are frozen and carry no adapters, what they make of a picture is the same every time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from .batch import Batch
from .media import media_digest
from .sample import Media
from .unwrap import bare_model


#: Model type -> the parts of its inner model that make the features. mllama's projector is a single layer: it runs
#: with each pass, behind the features that are kept.
TOWERS = {
    "llava": ("vision_tower", "multi_modal_projector"),
    "qwen2_vl": ("visual",),
    "qwen2_5_vl": ("visual",),
    "qwen3_vl": ("visual",),
    "mllama": ("vision_model",),
}

Result = TypeVar("Result")


@dataclass(frozen=True)
class PictureFeatures:
    """What the tower makes of one picture.

    Attributes:
        tokens: [tokens, hidden], what stands in the place of the picture's placeholders.
        layers: deep-stacked features for the first layers of the language model, each [tokens, hidden].
    """

    tokens: Tensor
    layers: tuple[Tensor, ...] = ()

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(part.numel() * part.element_size() for part in (self.tokens, *self.layers))

    def to(self, device: torch.device) -> PictureFeatures:
        """The same on another device."""
        return PictureFeatures(self.tokens.to(device), tuple(layer.to(device) for layer in self.layers))


class FeatureCache:
    """Features of the pictures that were used last, in the host's memory.

    A picture is known by the digest of its file and its view. Processor, dtype and weights are those of one run.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._features: OrderedDict[str, PictureFeatures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._features)

    def recall(
        self, pictures: Sequence[Media], compute: Callable[[int], PictureFeatures], device: torch.device
    ) -> list[PictureFeatures]:
        """The features of pictures; what is not known is computed and kept.

        Each picture is computed by itself, so that its features do not depend on its company: a run that was killed
        and resumed sees the same numbers.

        Args:
            pictures: the pictures.
            compute: place among them -> features.
            device: where the features are needed.
        """
        found = []
        for place, picture in enumerate(pictures):
            key = media_digest(picture)
            features = self._features.get(key)
            if features is None:
                features = compute(place)
                self._keep(key, features.to(torch.device("cpu")))
            else:
                self._features.move_to_end(key)
            found.append(features.to(device))
        return found

    def clear(self) -> None:
        """Forgets everything."""
        self._features.clear()
        self._size = 0

    def _keep(self, key: str, features: PictureFeatures) -> None:
        self._features[key] = features
        self._size += features.size
        while self._size > self._limit:
            _, oldest = self._features.popitem(last=False)
            self._size -= oldest.size


class StepFeatures:
    """The features of one batch: computed by the first pass that needs them, without a graph, and kept for the rest.

    Args:
        policy: the bare model whose tower is frozen.
        same_tower: whether another bare model has the same tower.
        cache: features of that tower across steps, if they are kept.
    """

    def __init__(self, policy: nn.Module, same_tower: Callable[[nn.Module], bool], cache: FeatureCache | None) -> None:
        self._cache = cache
        self._policy = policy
        self._same_tower = same_tower
        self._kept: Any = None

    def once(self, model: nn.Module, compute: Callable[[], Result]) -> Result:
        """What `compute` returns, or has returned to an earlier pass with the same tower.

        Args:
            model: the bare model that asks.
            compute: runs its tower.
        """
        if not self._known(model):
            with torch.no_grad():
                return compute()
        if self._kept is None:
            with torch.no_grad():
                self._kept = compute()
        kept: Result = self._kept
        return kept

    def cache(self, model: nn.Module) -> FeatureCache | None:
        """Features across steps, if they are kept and come from this bare model's tower."""
        return self._cache if self._cache is not None and self._known(model) else None

    def _known(self, model: nn.Module) -> bool:
        return model is self._policy or self._same_tower(model)


class VisionFeatures:
    """Hands each batch a memory for its features while the policy's tower is frozen.

    Every decision is the same on all ranks, so that ranks with a sharded tower call it together.

    Args:
        agree: whether all ranks say yes; every rank calls it at the same time.
        cache: features across steps, or None. Ranks find different pictures in it, so it must not be used with a tower
            that is sharded over them.
    """

    def __init__(self, agree: Callable[[bool], bool], cache: FeatureCache | None = None) -> None:
        self._agree = agree
        self._cache = cache
        self._trained = False
        self._same: dict[int, bool] = {}

    def lend(self, policy: nn.Module, batch: Batch) -> Batch:
        """The batch, with a memory for the passes over it.

        Once the tower was seen to train, nothing from before counts, and a second model's tower is another one.

        Args:
            policy: the wrapped policy.
            batch: of any engine.
        """
        model = bare_model(policy)
        if not batch.get("shared"):
            return batch
        if not frozen_tower(model):
            self._trained = True
            if self._cache is not None:
                self._cache.clear()
            return batch

        def same(other: nn.Module) -> bool:
            if self._trained:
                return False
            if id(other) not in self._same:
                self._same[id(other)] = self._agree(same_tower(model, other))
            return self._same[id(other)]

        return {**batch, "shared": {**batch["shared"], "features": StepFeatures(model, same, self._cache)}}


def tower(model: nn.Module) -> list[nn.Module]:
    """The parts of a bare model that make features of pictures; none for models that are not known here."""
    bare: Any = model
    return [bare.model.get_submodule(name) for name in TOWERS.get(bare.config.model_type, ())]


def frozen_tower(model: nn.Module) -> bool:
    """Whether a bare model has a tower that does not train and carries no adapters."""
    modules = [module for part in tower(model) for module in part.modules()]
    adapted = any(isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper) for module in modules)
    trains = any(weight.requires_grad for module in modules for weight in module.parameters(recurse=False))
    return bool(modules) and not adapted and not trains


def same_tower(one: nn.Module, other: nn.Module) -> bool:
    """Whether two bare models make the same features of a picture; a rank compares its own shards of them."""
    if one is other:
        return True
    if type(one) is not type(other) or _settings(one) != _settings(other) or not frozen_tower(other):
        return False
    weights, others = _weights(one), _weights(other)
    return len(weights) == len(others) and all(map(_equal, weights, others))


def _settings(model: nn.Module) -> dict[str, Any]:
    """What the configuration says about pictures."""
    bare: Any = model
    known: dict[str, Any] = bare.config.to_dict()
    names = ("vision_config", "vision_feature_layer", "vision_feature_select_strategy", "projector_hidden_act")
    return {name: known.get(name) for name in names}


def _weights(model: nn.Module) -> list[Tensor]:
    weights = []
    for part in tower(model):
        for weight in (*part.parameters(), *part.buffers()):
            if isinstance(weight, DTensor):
                weights.append(weight.to_local())
            else:
                weights.append(weight.ds_tensor if hasattr(weight, "ds_tensor") else weight)
    return weights


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.device == other.device and one.dtype == other.dtype and torch.equal(one, other)
