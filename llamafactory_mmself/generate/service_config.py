# SPDX-License-Identifier: Apache-2.0
"""From a YAML file to judge, describer, painter and checks.

```yaml
judge:
  api_base: http://localhost:8002/v1       # or a list of them
  api_model: Qwen/Qwen2.5-7B-Instruct
describer: {}                              # where the judge is, unless it says otherwise
painter:
  api_base: [http://localhost:8001/v1, http://localhost:8003/v1]
  api_model: black-forest-labs/FLUX.1-dev
checks:
  min_difference: 0.03
cache: runs/ovip/services
```

Each section may name an `engine`: `openai` (the default), `toy` for the toy world's, or `module:function`, which is
called with the section's other keys and returns the service. The word `toy` instead of a file makes all of them the
toy world's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ..files import FileError
from .client import Endpoint
from .score_text import Quirks
from .sections import make_section
from .services import Closing, Services
from .types import EngineError


Chat = TypeVar("Chat", bound="ChatConfig")

TOY = "llamafactory_mmself.toyworld.services"
SECTIONS = ("judge", "describer", "painter", "checks")

JUDGE_PORT, PAINTER_PORTS = 8002, (8001, 8003)
JUDGE_MODEL = "Qwen/Qwen2.5-7B-Instruct"
PAINTER_MODEL = "black-forest-labs/FLUX.1-dev"


@dataclass(frozen=True)
class ChatConfig:
    """A describer or a witness of claims behind chat endpoints; the keys of its section.

    Attributes:
        api_base: one or several addresses of equal servers.
        api_model: the model's name there.
        api_key_env: environment variable with the key.
        concurrency: requests under way at each address.
        timeout: seconds for one attempt.
        retries: further attempts of a request that fails while others are answered.
        dead_after: seconds without any answer after which the run ends; at least `timeout`.
        temperature: of its answers.
        top_p: of its answers.
        max_tokens: of an answer.
        tries: answers to ask for, each with another seed, until one can be read.
        structured: ask for JSON by schema; servers that refuse are asked without it.
        prompt: your own prompt file.
    """

    api_base: tuple[str, ...] = (f"http://localhost:{JUDGE_PORT}/v1",)
    api_model: str = JUDGE_MODEL
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 16
    timeout: float = 60.0
    retries: int = 4
    dead_after: float = 120.0
    temperature: float = 0.1
    top_p: float = 1.0
    max_tokens: int = 128
    tries: int = 2
    structured: bool = True
    prompt: str | None = None


@dataclass(frozen=True)
class JudgeConfig(ChatConfig):
    """A judge behind chat endpoints; the keys of its section, with those of `ChatConfig`.

    Attributes:
        show_picture: show it the prompt's pictures; the model has to see.
        quirks: `published` reads scores as the published code does.
    """

    show_picture: bool = False
    quirks: Quirks = "fixed"


@dataclass(frozen=True)
class PainterConfig:
    """A painter behind images endpoints; the keys of its section. Those of `ChatConfig` mean the same.

    Attributes:
        size: width and height of a picture in pixels, such as `384x384`.
        steps: of the diffusion, the field `num_inference_steps` of a request; 0 leaves it to the server.
        guidance: its scale, the field `guidance_scale`; 0 leaves it to the server.
        extra: more fields of a request.
    """

    api_base: tuple[str, ...] = tuple(f"http://localhost:{port}/v1" for port in PAINTER_PORTS)
    api_model: str = PAINTER_MODEL
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 4
    timeout: float = 120.0
    retries: int = 4
    dead_after: float = 240.0
    size: str = "384x384"
    steps: int = 40
    guidance: float = 7.5
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ChecksConfig:
    """What a painted picture has to be; the keys of its section.

    Attributes:
        min_difference: mean difference of the pixels from the real picture, from 0 to 1; 0 switches the filter off.
        min_hash_distance: bits of 64 in which perceptual hashes differ; 0 switches the filter off.
        claim: a section like `judge` for a model that sees: it says whether the picture shows the rejected response;
            empty: nobody is asked.
        attempts: pictures to paint for a pair until one is kept.
    """

    min_difference: float = 0.03
    min_hash_distance: int = 0
    claim: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 2


def load_services(config: str | Path | Mapping[str, Any]) -> Services:
    """Makes judge, describer, painter and checks.

    Args:
        config: a YAML file, its content, or `toy`.

    Raises:
        EngineError: for unknown and wrong keys, addresses that are none, and keys that are not there.
        FileError: the file cannot be read.
        PromptError: a prompt file cannot be used.
    """
    if config == "toy":
        return load_services({name: {"engine": "toy"} for name in SECTIONS})
    values, where = (config, "services") if isinstance(config, Mapping) else (_read(Path(config)), str(config))
    if unknown := sorted(str(name) for name in values if name not in (*SECTIONS, "cache")):
        raise EngineError(f"{where}: unknown section `{unknown[0]}`. Known: {', '.join(SECTIONS)}, and `cache`.")
    folder = values.get("cache")
    if folder is not None and not isinstance(folder, str | Path):
        raise EngineError(f"{where}: `cache` has to be a folder, not {folder!r}.")
    sections = {name: _section(values, name, where) for name in SECTIONS}
    return _Maker(sections, where, None if folder is None else Path(folder)).services()


def make_endpoints(config: ChatConfig | PainterConfig, where: str) -> list[Endpoint]:
    """The endpoints of a section.

    Raises:
        EngineError: an address is none, comes twice, or the times make no sense.
    """
    if config.dead_after < config.timeout or not config.timeout:
        raise EngineError(f"{where}: `dead_after` has to be at least `timeout`, and that above 0.")
    if not config.concurrency:
        raise EngineError(f"{where}: `concurrency` has to be at least 1.")
    limits = (config.api_key_env, config.concurrency, config.timeout, config.retries)
    found = [Endpoint.at(base, *limits) for base in config.api_base]
    if len({endpoint.base for endpoint in found}) != len(found):
        raise EngineError(f"{where}: an address comes twice in `api_base`.")
    return found


def _read(path: Path) -> Mapping[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FileError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, Mapping):
        raise EngineError(f"{path}: sections {', '.join(SECTIONS)} are expected.")
    return values


def _section(values: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    section = values.get(name)
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise EngineError(f"{where}: section `{name}` has to hold keys and values, not {section!r}.")
    return dict(section)


class _Maker:
    """Makes services from sections."""

    def __init__(self, sections: Mapping[str, dict[str, Any]], where: str, cache: Path | None) -> None:
        self._sections = sections
        self._where = where
        self._cache = cache
        self._open: list[Closing] = []

    def services(self) -> Services:
        attempts = self._sections["checks"].get("attempts", ChecksConfig.attempts)
        if not isinstance(attempts, int) or attempts < 1:
            raise EngineError(f"{self._where}: checks: `attempts` has to be at least 1, not {attempts!r}.")
        try:
            found = {name: self._make(name) for name in SECTIONS}
        except BaseException:
            for item in self._open:
                item.close()
            raise
        return Services(
            found["judge"], found["describer"], found["painter"], found["checks"], attempts, tuple(self._open)
        )

    def _make(self, name: str) -> Any:
        section = dict(self._sections[name])
        engine = section.pop("engine", "openai")
        if engine == "openai":
            return getattr(self, f"_{name}")(section, f"{self._where}: {name}")
        from .teacher import load_symbol

        if name == "checks":
            section.pop("attempts", None)
        function = load_symbol(f"{TOY}:{name}" if engine == "toy" else str(engine), f"{name} engine")
        try:
            return function(**section)
        except TypeError as error:
            raise EngineError(f"{self._where}: {name}: {engine} does not take these keys: {error}.") from error

    def _judge(self, section: Mapping[str, Any], where: str) -> Any:
        from .chat_service import ChatScorer

        return self._kept(ChatScorer(self._chat(section, where, JudgeConfig), where, self._cache))

    def _describer(self, section: Mapping[str, Any], where: str) -> Any:
        from .chat_service import ChatDescriber

        judge = self._sections["judge"]
        shared = ("api_base", "api_model", "api_key_env", "concurrency", "timeout", "retries", "dead_after")
        same = {} if judge.get("engine", "openai") != "openai" else {key: judge[key] for key in shared if key in judge}
        config = self._chat({**same, **section}, where, ChatConfig)
        return self._kept(ChatDescriber(config, where, self._cache))

    def _painter(self, section: Mapping[str, Any], where: str) -> Any:
        from .painting import RemotePainter

        return self._kept(RemotePainter(make_section(PainterConfig, section, where, EngineError), where, self._cache))

    def _checks(self, section: Mapping[str, Any], where: str) -> Any:
        from .chat_service import ChatClaims
        from .picture_checks import PictureFilter

        config = make_section(ChecksConfig, section, where, EngineError)
        claims = None
        if config.claim:
            claim = self._chat(config.claim, f"{where}: claim", ChatConfig)
            claims = self._kept(ChatClaims(claim, f"{where}: claim", self._cache))
        return PictureFilter(config.min_difference, config.min_hash_distance, claims)

    def _chat(self, section: Mapping[str, Any], where: str, kind: type[Chat]) -> Chat:
        config = make_section(kind, section, where, EngineError)
        if not config.tries or not config.max_tokens:
            raise EngineError(f"{where}: `tries` and `max_tokens` have to be at least 1.")
        return config

    def _kept(self, service: Any) -> Any:
        self._open.append(service)
        return service
