# SPDX-License-Identifier: Apache-2.0
"""Tiny models as hf engines, prompts with pictures, and an engine that answers at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.types import Completion, Request, SamplingParams
from llamafactory_mmself.toyworld.models import FAMILIES, TEMPLATES


@pytest.fixture(scope="session")
def mixed(shapes) -> list[Request]:
    """Prompts of different lengths with no, one and two pictures; two show the same one."""
    return [
        Request.ask("circle", "<image>\nWhat is shown?", [shapes[0]]),
        Request.ask("long", "<image>\nHow many shapes are there in this picture, and which are they?", [shapes[1]]),
        Request.ask("text", "Hello there"),
        Request.ask("again", "<image>\nHow many?", [shapes[0]]),
        Request.ask("two", "<image><image>\nCompare both pictures.", [shapes[2], shapes[0]]),
    ]


@pytest.fixture(scope="session")
def tiny_config(tiny_models) -> Callable[..., EngineConfig]:
    """family -> settings of an hf engine on the CPU."""

    def make(family: str = "qwen2_vl", **changes: Any) -> EngineConfig:
        values = {"model": str(tiny_models(family)), "template": TEMPLATES[family], "device": "cpu", "batch_size": 4}
        return EngineConfig.from_dict({**values, **changes})

    return make


@pytest.fixture(scope="session")
def tiny_engine(tiny_config) -> Callable[[str], Any]:
    """family -> an hf engine, loaded once."""
    from llamafactory_mmself.generate.hf import HFEngine

    engines: dict[str, Any] = {}

    def make(family: str = "qwen2_vl") -> Any:
        if family not in engines:
            engines[family] = HFEngine(tiny_config(family))
        return engines[family]

    return make


@pytest.fixture(params=FAMILIES)
def family_engine(request, tiny_engine) -> Any:
    """Every family in turn."""
    return tiny_engine(request.param)


@dataclass
class EchoEngine:
    """Answers with the prompt, the seed and the number of the sample; may be made to fail at some call."""

    policy: str = "echo-1"
    name: str = "echo"
    fail_at: int | None = None
    error: BaseException = field(default_factory=lambda: RuntimeError("power cut"))
    calls: list[tuple[str, ...]] = field(default_factory=list)

    def generate(self, requests: Sequence[Request], params: SamplingParams, seed: int) -> list[list[Completion]]:
        if len(self.calls) == self.fail_at:
            raise self.error
        self.calls.append(tuple(request.id for request in requests))
        return [
            [
                Completion(f"{request.messages[-1].content} {seed} {k}", (1, 2, k), "stop", (-0.5, -0.1, -1 / 3), 7)
                for k in range(params.n)
            ]
            for request in requests
        ]

    def close(self) -> None:
        pass


@pytest.fixture
def echo() -> Callable[..., EchoEngine]:
    """Makes echo engines."""
    return EchoEngine
