# SPDX-License-Identifier: Apache-2.0
"""What our parts of the web UI say, in LlamaBoard's five languages; the words are in texts.yaml and arguments.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml


LANGUAGES = ("en", "ru", "zh", "ko", "ja")
PREFIX = "mmself_"  # of components, so that no label of LlamaBoard's is replaced
#: Dataclass of arguments that several stages share -> the section that holds them.
OWNERS = {"TreeArguments": "shared", "EvalTaskArguments": "evaluation"}


def labels(stages: Mapping[str, Iterable[str]]) -> dict[str, dict[str, dict[str, str]]]:
    """Component -> language -> its label, help and value, as LlamaBoard keeps them.

    Args:
        stages: stage -> its arguments. Each stage has fields and sections of its own, also where it shares arguments.
    """
    found = {
        name: {lang: {part: words[place] for part, words in parts.items()} for place, lang in enumerate(LANGUAGES)}
        for name, parts in _texts().items()
        if name.startswith(PREFIX)
    }
    for stage, names in stages.items():
        found |= {section_name(section, stage): found[PREFIX + section] for section in OWNERS.values()}
        found |= {argument_name(stage, name): argument_labels(name) for name in names}
    return found


def section_name(section: str, stage: str) -> str:
    """The component of a stage's section."""
    return f"{PREFIX}{section}_{stage}"


def argument_name(stage: str, argument: str) -> str:
    """The component of a stage's argument."""
    return f"{PREFIX}{stage}_{argument}"


def argument_labels(argument: str) -> dict[str, dict[str, str]]:
    """Language -> label of an argument: its name, with words in other languages than English where there are any."""
    others = zip(LANGUAGES[1:], _arguments().get(argument, ()), strict=False)
    found = {lang: {"label": argument} for lang in LANGUAGES}
    return found | {lang: {"label": f"{word} · {argument}"} for lang, word in others}


def text(name: str, lang: str | None) -> str:
    """A text in a language; English where LlamaBoard has not said which one yet."""
    place = LANGUAGES.index(lang) if lang in LANGUAGES else 0
    return str(_texts()[name]["text"][place])


@cache
def _texts() -> dict[str, dict[str, list[Any]]]:
    return _read("texts.yaml")


@cache
def _arguments() -> dict[str, list[str]]:
    return _read("arguments.yaml")


def _read(name: str) -> Any:
    return yaml.safe_load(Path(__file__).with_name(name).read_text(encoding="utf-8"))
