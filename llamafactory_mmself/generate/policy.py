# SPDX-License-Identifier: Apache-2.0
"""Which weights answer: a digest of model, adapters and template that goes into every sample."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from .. import files
from .config import EngineConfig
from .types import EngineError


WHOLE = 1 << 30  # bytes; larger files are known by size, time, head and tail
EDGE = 1 << 20  # bytes
#: What changes answers: weights, configurations, tokenizer and processor. Training logs and states do not.
SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".json", ".model", ".jinja", ".txt", ".py", ".tiktoken"})
IGNORED = frozenset(
    {
        "all_results.json",
        "eval_results.json",
        "train_results.json",
        "trainer_state.json",
        "training_args.bin",
        "toy_model.json",
        "optimizer.bin",
        "optimizer.pt",
        "scheduler.pt",
    }
)


def policy_of(config: EngineConfig) -> str:
    """The policy version of a model with its adapters and template, without loading it.

    Folders are known by the content of their files (those above 1 GiB by size, modification time, head and tail), hub
    names by their commit.

    Raises:
        EngineError: the model is not there.
    """
    config.check()
    parts = [_weights(str(config.model), config), *(_weights(adapter, config) for adapter in config.adapter)]
    return f"{_name(config)}-{_digest([*parts, config.template, config.dtype])}"


def _name(config: EngineConfig) -> str:
    last = Path(config.adapter[-1] if config.adapter else str(config.model)).name
    return "".join(letter if letter.isalnum() or letter in "._" else "_" for letter in last) or "model"


def _weights(place: str, config: EngineConfig) -> Any:
    folder = Path(place)
    if folder.is_dir():
        found = sorted(
            path
            for path in folder.iterdir()
            if path.suffix in SUFFIXES and path.name not in IGNORED and path.is_file()
        )
        if not found:
            raise EngineError(f"Folder {place} holds no model: there are no weights or configurations in it.")
        return [[path.name, _content(path)] for path in found]
    return [place, _commit(place, config)]


def _content(path: Path) -> str:
    facts = path.stat()
    return _cached_content(str(path.resolve()), facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=4096)
def _cached_content(path: str, size: int, changed: int) -> str:
    if size < WHOLE:
        return files.digest(Path(path))
    with open(path, "rb") as file:
        head = file.read(EDGE)
        file.seek(-EDGE, 2)
        tail = file.read(EDGE)
    return hashlib.sha256(f"{size} {changed} ".encode() + head + tail).hexdigest()


def _commit(name: str, config: EngineConfig) -> str:
    """The commit of a model on the hub; its configuration is downloaded if need be."""
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise EngineError(f"There is no folder {name}.")
    from transformers.utils.hub import cached_file, extract_commit_hash

    settings = config.llamafactory
    adapter = name != config.model
    try:
        file = cached_file(
            name,
            "adapter_config.json" if adapter else "config.json",
            revision=None if adapter else settings.get("model_revision", "main"),
            cache_dir=settings.get("cache_dir"),
        )
    except OSError as error:
        what = "adapter" if adapter else "model"
        raise EngineError(f"There is no {what} {name}: no such folder, and the hub does not give it.") from error
    return str(extract_commit_hash(file, None))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
