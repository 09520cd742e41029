# SPDX-License-Identifier: Apache-2.0
"""A cache of keys and values with room for the tokens to come."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


#: Tokens that a layer makes room for at a time.
ROOM = 128


class RoomyLayer(DynamicLayer):
    """Writes a new token's keys and values into room that is there, where `DynamicLayer` copies all of them.

    Keys and values are views of the room's used part. Whatever replaces them (rows that are dropped or repeated)
    leaves the room behind; the next token makes a new one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._room: tuple[Tensor, Tensor] | None = None
        self._used: Tensor | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """See `DynamicLayer.update`."""
        start = self.get_seq_length()
        if start == 0 or self.keys is None or self.values is None:  # a prompt; layers of pictures never get more
            pair: tuple[Tensor, Tensor] = super().update(key_states, value_states, *args, **kwargs)
            return pair
        end = start + key_states.shape[-2]
        if self._room is None or self._used is not self.keys or end > self._room[0].shape[-2]:
            self._room = _with_room(self.keys, end), _with_room(self.values, end)
        keys, values = self._room
        keys[..., start:end, :] = key_states
        values[..., start:end, :] = value_states
        self.keys, self.values = keys[..., :end, :], values[..., :end, :]
        self._used = self.keys
        return self.keys, self.values


def roomy_cache(config: Any) -> DynamicCache:
    """The cache of a model; layers that keep a window or a state only are transformers' own.

    Args:
        config: the model's.
    """
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _with_room(states: Tensor, length: int) -> Tensor:
    room = torch.empty(*states.shape[:-2], length + ROOM, states.shape[-1], dtype=states.dtype, device=states.device)
    room[..., : states.shape[-2], :] = states
    return room
