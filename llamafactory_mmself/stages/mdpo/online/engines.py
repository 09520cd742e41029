# SPDX-License-Identifier: Apache-2.0
"""Where a run's samples come from: the model in training itself, vLLM in this process, or a vLLM server."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import httpx
from torch import nn

from ....data.rows import PreferenceRow
from ....generate.client import Endpoint
from ....generate.config import EngineConfig, follow_training, read_engine
from ....generate.openai import OpenAIEngine
from ....generate.types import Completion, EngineError, Message, Request, SamplingParams
from ....tree.unwrap import unwrap
from ...base import RunArguments, SettingError
from ...policy_sampling import PolicySampler
from ...ranks import from_first
from .prompts import OnlinePrompt


ADAPTERS = "rollout_adapters"
KEPT = 2  # adapters: the one that samples, and the one that a request under way may still use


class Rollouts(Protocol):
    """Samples with the weights that are being trained."""

    def refresh(self, model: nn.Module, step: int) -> None:
        """Called on all ranks at the same time, before anything is sampled at a step."""
        ...

    def __call__(self, model: nn.Module, prompts: Sequence[OnlinePrompt], seed: int) -> list[list[Completion]]:
        """`rollout_n` answers to each prompt."""
        ...

    def close(self) -> None:
        """Frees what is open."""
        ...


class OwnRollouts:
    """The model in training samples itself.

    Args:
        sampler: of the policy.
    """

    def __init__(self, sampler: PolicySampler) -> None:
        self._sampler = sampler

    def refresh(self, model: nn.Module, step: int) -> None:
        """Nothing has to be handed over."""

    def __call__(self, model: nn.Module, prompts: Sequence[OnlinePrompt], seed: int) -> list[list[Completion]]:
        """See `Rollouts`. Answers depend on the batch."""
        return self._sampler(model, [prompt.encoded for prompt in prompts], seed)

    def close(self) -> None:
        """Nothing is open."""


class EngineRollouts:
    """An engine with the same base model samples with the adapter as it is at each step.

    Args:
        params: how to sample.
        folder: where adapters are handed over; a server has to see it.
        use: makes the engine sample with the adapter in a folder from now on, and returns it.
    """

    def __init__(self, params: SamplingParams, folder: Path, use: Callable[[Path], Any]) -> None:
        self._params = params
        self._folder = folder / ADAPTERS
        self._use = use
        self._engine: Any = None
        self._step: int | None = None

    def refresh(self, model: nn.Module, step: int) -> None:
        """Saves the adapter, once for all ranks, and has it loaded.

        Raises:
            EngineError: on all ranks, if the engine does not take it.
        """
        if step == self._step:
            return
        target = self._folder / f"step-{step}"
        problem = from_first(self._saved(model, target) if _first() else None)
        if problem is not None:
            raise EngineError(problem)
        self._engine = self._use(target)
        self._step = step

    def __call__(self, model: nn.Module, prompts: Sequence[OnlinePrompt], seed: int) -> list[list[Completion]]:
        """See `Rollouts`; each prompt has a seed of its own."""
        requests = [as_request(prompt.row, f"{prompt.row.key}/{place}") for place, prompt in enumerate(prompts)]
        found: list[list[Completion]] = self._engine.generate(requests, self._params, seed)
        return found

    def close(self) -> None:
        """Ends the engine."""
        if self._engine is not None:
            self._engine.close()

    def _saved(self, model: nn.Module, target: Path) -> str | None:
        """Saves the adapter and removes old ones; returns what went wrong."""
        try:
            unwrap(model).save_pretrained(str(target))
            old = sorted(self._folder.glob("step-*"), key=lambda path: path.stat().st_mtime)[:-KEPT]
            for path in old:
                shutil.rmtree(path, ignore_errors=True)
        except OSError as error:
            return f"The adapter cannot be saved to {target}: {error}."
        return None


class InProcess:
    """vLLM in this process; it starts with the first adapter.

    Args:
        config: of the engine.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._engine: Any = None

    def __call__(self, folder: Path) -> Any:
        """See `EngineRollouts`."""
        from ....generate.vllm import VLLMEngine

        if self._engine is None:
            self._engine = VLLMEngine(replace(self._config, adapter=(str(folder),)))
        else:
            self._engine.use_adapter(folder)
        return self._engine


class Server:
    """A vLLM server that was started with `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.

    The first rank has adapters loaded and unloaded, under a new name each, and all ranks ask for that name.

    Args:
        config: of the engine, with `api_base`.
    """

    def __init__(self, config: EngineConfig) -> None:
        if not config.api_base:
            raise EngineError("A rollout server needs `api_base`.")
        self._config = config
        self._endpoint = Endpoint.at(
            config.api_base, config.api_key_env, config.concurrency, config.timeout, config.retries
        )
        self._run = from_first(secrets.token_hex(4))
        self._name: str | None = None

    def __call__(self, folder: Path) -> OpenAIEngine:
        """See `EngineRollouts`.

        Raises:
            EngineError: on all ranks, if the server does not take the adapter.
        """
        name = f"policy-{self._run}-{folder.name}"
        problem = from_first(self._exchange(name, folder) if _first() else None)
        if problem is not None:
            raise EngineError(problem)
        self._name = name
        return OpenAIEngine(replace(self._config, api_model=name))

    def _exchange(self, name: str, folder: Path) -> str | None:
        """Loads the new adapter and unloads the one before; returns what went wrong."""
        try:
            self._post("load_lora_adapter", {"lora_name": name, "lora_path": str(folder.resolve())})
            if self._name is not None:
                self._post("unload_lora_adapter", {"lora_name": self._name})
        except httpx.HTTPError as error:
            return (
                f"{self._endpoint.base} did not load the adapter of {folder.name}: {error}. Start `vllm serve` with "
                f"--enable-lora, VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and a --max-lora-rank that holds it, where it "
                f"sees {folder.parent.resolve()}."
            )
        return None

    def _post(self, what: str, body: dict[str, str]) -> None:
        key = os.environ.get(self._endpoint.key_env, "").strip()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        response = httpx.post(
            f"{self._endpoint.base}/{what}", json=body, headers=headers, timeout=self._endpoint.timeout
        )
        if response.status_code != 200:
            raise httpx.HTTPError(f"HTTP {response.status_code}: {response.text[:300]}")


def engine_of(run: RunArguments) -> EngineConfig | None:
    """The engine that a run samples with; None for the model in training itself.

    Raises:
        SettingError: it cannot sample with the weights that this run trains.
        EngineError, FileError: its file cannot be used.
    """
    if run.stage.rollout_engine == "hf":
        return None
    own = {"model": run.model.model_name_or_path, "template": run.data.template}
    config = follow_training(read_engine(Path(run.stage.rollout_engine), own), run.shared(), run.stage.rollout_engine)
    if config.name == "hf":
        raise SettingError("`rollout_engine`: for transformers, which sample in training itself, leave it at hf.")
    if run.finetuning.finetuning_type != "lora" or run.model.adapter_name_or_path:
        raise SettingError(
            f"`rollout_engine`: {config.name} gets a new adapter at each step, so it needs `finetuning_type: lora` on "
            "a model without an earlier adapter. Merge that one (`llamafactory-cli export`), or sample with hf."
        )
    if config.name == "vllm" and run.training.world_size > 1:
        raise SettingError(
            "`rollout_engine`: vLLM samples inside a run of one process only. Start a server (`vllm serve "
            "--enable-lora`) and give a file with `name: openai` and its `api_base`."
        )
    return config


def make_rollouts(
    config: EngineConfig | None, sampler: PolicySampler, params: SamplingParams, folder: Path
) -> Rollouts:
    """What samples for a run; see `engine_of`."""
    if config is None:
        return OwnRollouts(sampler)
    return EngineRollouts(params, folder, InProcess(config) if config.name == "vllm" else Server(config))


def as_request(row: PreferenceRow, name: str) -> Request:
    """What an engine is asked."""
    system = [Message("system", row.system)] if row.system else []
    turns: list[Any] = [Message(turn.role, turn.content) for turn in row.prompt]  # type: ignore[arg-type]
    return Request(name, (*system, *turns), row.images)


def _first() -> bool:
    from torch import distributed

    return not distributed.is_initialized() or distributed.get_rank() == 0
