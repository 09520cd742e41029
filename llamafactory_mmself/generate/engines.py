# SPDX-License-Identifier: Apache-2.0
"""From settings to an engine."""

from __future__ import annotations

from .config import EngineConfig
from .types import Engine


def build_engine(config: EngineConfig) -> Engine:
    """Starts an engine: loads the model, or connects to the endpoint.

    Raises:
        EngineError: it cannot start; the text says why and what to do.
    """
    config.check()
    if config.name == "openai":
        from .openai import OpenAIEngine

        return OpenAIEngine(config)
    if config.name == "vllm":
        from .vllm import VLLMEngine

        return VLLMEngine(config)
    from .hf import HFEngine

    return HFEngine(config)
