# SPDX-License-Identifier: Apache-2.0
"""From settings to an engine."""

from __future__ import annotations

from collections.abc import Sequence

from .config import EngineConfig
from .policy import policy_of
from .types import Completion, Engine, Request, SamplingParams


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


class LazyEngine:
    """An engine that is loaded when it is first asked: finished jobs need none, and several jobs share one.

    Args:
        config: the engine's settings.

    Raises:
        EngineError: there is no such model.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.name: str = config.name
        self._engine = build_engine(config) if config.name == "openai" else None
        self.policy = policy_of(config) if self._engine is None else self._engine.policy

    def generate(self, requests: Sequence[Request], params: SamplingParams, seed: int) -> list[list[Completion]]:
        """See `Engine.generate`."""
        if self._engine is None:
            self._engine = build_engine(self.config)
        return self._engine.generate(requests, params, seed)

    def close(self) -> None:
        """Frees the model if one was loaded; the next call loads it again."""
        if self._engine is not None:
            self._engine.close()
        if self.config.name != "openai":
            self._engine = None
