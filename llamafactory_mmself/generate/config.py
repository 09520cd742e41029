# SPDX-License-Identifier: Apache-2.0
"""Which engine samples, and how it is set up."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import yaml

from ..files import FileError
from .types import EngineError


ENGINES = ("hf", "vllm", "openai")
DTYPES = ("auto", "float32", "bfloat16", "float16")
#: Settings that change how fast and where a job runs, not what it samples.
PACE = frozenset({"model", "adapter", "workers", "ray", "api_key_env", "concurrency", "timeout", "retries"})
#: LLaMA-Factory arguments that have a setting of their own here.
OWN = {
    "model_name_or_path": "model",
    "adapter_name_or_path": "adapter",
    "template": "template",
    "infer_dtype": "dtype",
    "infer_backend": "name",
}
#: LLaMA-Factory arguments that prompts depend on: sampling has those of training.
PROMPTED = (
    *("image_max_pixels", "image_min_pixels", "image_do_pan_and_scan", "crop_to_patches"),
    *("default_system", "enable_thinking", "tool_format"),
)
#: What training, sampling and merging have to share.
SHARED = (
    *PROMPTED,
    *("add_tokens", "add_special_tokens", "resize_vocab", "split_special_tokens", "use_fast_tokenizer"),
    *("model_revision", "trust_remote_code"),
)
PIXELS = (32 * 32, 768 * 768)  # LLaMA-Factory's defaults of image_min_pixels and image_max_pixels


@dataclass(frozen=True)
class EngineConfig:
    """An engine with its settings.

    Attributes:
        name: `hf` (transformers, everywhere), `vllm` (in this process), `openai` (an endpoint).
        model: folder or hub name.
        adapter: folders of adapters, merged in this order (hf), or the one adapter that vllm serves.
        template: LLaMA-Factory's chat template; prompts are encoded with it.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        device: `auto` (GPUs if there are any), `cpu`, `cuda`.
        batch_size: prompts sampled together; each brings its n samples into memory.
        workers: processes that share a job; on GPUs each has one of its own.
        ray: run the workers as actors of Ray Data, on one machine or on a cluster.
        threads: CPU threads of a worker; fixed, because sums depend on it in the last bits.
        llamafactory: more of LLaMA-Factory's inference arguments: `image_max_pixels`, `trust_remote_code`, ...
        api_base: address of an OpenAI-compatible endpoint, such as `http://localhost:8000/v1`.
        api_model: the model's name there.
        api_key_env: environment variable that holds the key.
        concurrency: requests under way at once.
        timeout: seconds until a request counts as lost.
        retries: how often a failed request is sent again.
        vllm: more keyword arguments for `vllm.LLM`.
    """

    name: Literal["hf", "vllm", "openai"] = "hf"
    model: str | None = None
    adapter: tuple[str, ...] = ()
    template: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    batch_size: int = 16
    workers: int = 1
    ray: bool = False
    threads: int = 1
    llamafactory: Mapping[str, Any] = field(default_factory=dict)
    api_base: str | None = None
    api_model: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 16
    timeout: float = 120.0
    retries: int = 4
    vllm: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "engine") -> EngineConfig:
        """Checks and reads settings, as they stand in YAML.

        Args:
            values: name -> value; missing ones keep their defaults, None is the same as missing.
            where: what errors call the place that the values come from.

        Raises:
            EngineError: naming place and key, for unknown keys, wrong types and wrong values.
        """
        known = {item.name for item in fields(cls)}
        for name in values:
            if name not in known:
                raise EngineError(f"{where}: unknown key `{name}`.{_hint(name, known)}")
        read = {name: _CHECKS[name](value, f"{where}.{name}") for name, value in values.items() if value is not None}
        for place in ("llamafactory", "vllm"):
            given = read.get(place, {})
            if secrets := sorted(name for name in given if name.endswith("_token") and given[name]):
                raise EngineError(
                    f"{where}.{place}: {', '.join(secrets)} would be written to files beside the samples. Set the "
                    "environment variable HF_TOKEN instead."
                )
        for name in read.get("llamafactory", ()):
            if name in OWN:
                raise EngineError(f"{where}.llamafactory.{name}: set `{where}.{OWN[name]}` instead.")
        return cls(**read)

    def check(self, where: str = "engine") -> None:
        """Sees that the engine has what it needs to start.

        Raises:
            EngineError: naming the missing key.
        """
        needed = ("api_base",) if self.name == "openai" else ("model", "template")
        values = asdict(self)
        for name in needed:
            if not values[name]:
                raise EngineError(f"{where}: the {self.name} engine needs `{name}`.")

    @property
    def pixels(self) -> tuple[int, int]:
        """The fewest and the most pixels that a picture has when the model sees it."""
        least, most = (
            self.llamafactory.get(name, usual)
            for name, usual in zip(("image_min_pixels", "image_max_pixels"), PIXELS, strict=True)
        )
        return int(least), int(most)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them."""
        return {**asdict(self), "adapter": list(self.adapter)}

    def identity(self) -> dict[str, Any]:
        """The settings that a job's samples depend on; which weights answer is the policy's part."""
        return {name: value for name, value in self.to_dict().items() if name not in PACE}


def read_engine(path: Path | None, changes: Mapping[str, Any] | None = None) -> EngineConfig:
    """An engine's settings from a YAML file, if there is one, and values that override it.

    Raises:
        EngineError, FileError: naming file and key.
    """
    values: Any = {}
    where = "engine"
    if path is not None:
        where = str(path)
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise FileError(f"{path} cannot be read: {error}") from error
        if not isinstance(values, dict):
            raise FileError(f"{path}: settings of an engine are expected, one `name: value` a line.")
    named = {str(name): value for name, value in values.items()}  # YAML has keys of other kinds, too
    config = EngineConfig.from_dict({**named, **(changes or {})}, where)
    config.check(where)
    return config


def follow_training(config: EngineConfig, trained: Mapping[str, Any], where: str) -> EngineConfig:
    """The engine with the arguments of a training that it has to share, see `SHARED`.

    Args:
        config: the engine as it is set up.
        trained: LLaMA-Factory's arguments of the training; None stands for one that is not set.
        where: place of the engine's settings, for messages.

    Raises:
        EngineError: the engine sets one of `PROMPTED` to something else.
    """
    own = config.llamafactory
    if other := [name for name in PROMPTED if own.get(name, trained.get(name)) != trained.get(name)]:
        raise EngineError(
            f"{where}.llamafactory: {', '.join(other)} would give sampling other prompts than training. Leave it out: "
            "the engine takes it from the training."
        )
    return replace(config, llamafactory={**shared_arguments(trained), **own})


def shared_arguments(trained: Mapping[str, Any]) -> dict[str, Any]:
    """A training's arguments that sampling and merging have to share (`SHARED`), as far as they are set."""
    return {name: trained[name] for name in SHARED if trained.get(name) is not None}


def _hint(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean `{close[0]}`?" if close else f" Known keys: {', '.join(sorted(known))}."


def _wrong(where: str, expected: str, value: Any) -> EngineError:
    return EngineError(f"{where}: {expected} is expected, found {value!r}.")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(where, "text", value)
    return value


def _texts(value: Any, where: str) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) and item for item in items):
        raise _wrong(where, "a path or a list of paths", value)
    return tuple(items)


def _bool(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(where, "true or false", value)
    return value


def _count(least: int) -> Callable[[Any, str], int]:
    def check(value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise _wrong(where, f"a whole number of at least {least}", value)
        return value

    return check


def _seconds(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise _wrong(where, "a number of seconds above 0", value)
    return float(value)


def _one_of(*choices: str) -> Callable[[Any, str], str]:
    def check(value: Any, where: str) -> str:
        if value not in choices:
            raise _wrong(where, f"one of {', '.join(choices)}", value)
        return str(value)

    return check


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise _wrong(where, "a mapping of names to values", value)
    return dict(value)


_CHECKS: Mapping[str, Callable[[Any, str], Any]] = MappingProxyType(
    {
        "name": _one_of(*ENGINES),
        "model": _text,
        "adapter": _texts,
        "template": _text,
        "dtype": _one_of(*DTYPES),
        "device": _one_of("auto", "cpu", "cuda"),
        "batch_size": _count(1),
        "workers": _count(1),
        "ray": _bool,
        "threads": _count(1),
        "llamafactory": _mapping,
        "api_base": _text,
        "api_model": _text,
        "api_key_env": _text,
        "concurrency": _count(1),
        "timeout": _seconds,
        "retries": _count(0),
        "vllm": _mapping,
    }
)
