# SPDX-License-Identifier: Apache-2.0
"""The model under what wraps it."""

from __future__ import annotations

from typing import Any

from peft import PeftModel
from torch import nn


def unwrap(model: nn.Module) -> Any:
    """The adapter model or plain model under data-parallel, DeepSpeed and compile wrappers."""
    inner: Any = model
    while not isinstance(inner, PeftModel):
        if hasattr(inner, "_orig_mod"):
            inner = inner._orig_mod
        elif hasattr(inner, "module"):
            inner = inner.module
        else:
            break
    return inner


def bare_model(model: nn.Module) -> Any:
    """The transformers model under all wrappers, adapters included."""
    inner = unwrap(model)
    return inner.get_base_model() if isinstance(inner, PeftModel) else inner
