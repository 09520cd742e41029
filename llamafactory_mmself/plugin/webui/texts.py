# SPDX-License-Identifier: Apache-2.0
"""What our parts of the web UI say, in LlamaBoard's five languages; the words are in texts.yaml."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml


LANGUAGES = ("en", "ru", "zh", "ko", "ja")
PREFIX = "mmself_"  # of components, so that no label of LlamaBoard's is replaced
#: Dataclass of arguments that several stages share -> the section that holds them.
OWNERS = {"TreeArguments": "shared", "EvalTaskArguments": "evaluation"}


def labels(stages: tuple[str, ...] = ()) -> dict[str, dict[str, dict[str, str]]]:
    """Component -> language -> its label, help and value, as LlamaBoard keeps them.

    Args:
        stages: that have sections of shared arguments; each section is a component of its own.
    """
    found = {
        name: {lang: {part: texts[place] for part, texts in parts.items()} for place, lang in enumerate(LANGUAGES)}
        for name, parts in _texts().items()
        if name.startswith(PREFIX)
    }
    sections = {
        section_name(section, stage): found[PREFIX + section] for section in OWNERS.values() for stage in stages
    }
    return found | sections


def section_name(section: str, stage: str) -> str:
    """The component of a stage's section."""
    return f"{PREFIX}{section}_{stage}"


def text(name: str, lang: str | None) -> str:
    """A text in a language; English where LlamaBoard has not said which one yet."""
    place = LANGUAGES.index(lang) if lang in LANGUAGES else 0
    return str(_texts()[name]["text"][place])


@cache
def _texts() -> dict[str, dict[str, list[Any]]]:
    found: dict[str, dict[str, list[Any]]] = yaml.safe_load(
        Path(__file__).with_name("texts.yaml").read_text(encoding="utf-8")
    )
    return found
