# SPDX-License-Identifier: Apache-2.0
"""Small values that ranks tell each other; every rank has to call these functions at the same time."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist


Value = TypeVar("Value")


def gathered(value: Value) -> list[Value]:
    """The values of all ranks, in order."""
    if not dist.is_initialized():
        return [value]
    values: list[Value | None] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def from_first(value: Value) -> Value:
    """The value of the first rank."""
    return gathered(value)[0]
