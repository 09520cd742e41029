# SPDX-License-Identifier: Apache-2.0
"""Where a remote teacher is, what it costs, and what it keeps on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from .sections import make_section
from .teacher import TeacherError


Api = Literal["openai", "anthropic"]

#: Environment variables with the API keys.
KEYS: Mapping[str, str] = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


@dataclass(frozen=True)
class TeacherConfig:
    """A remote teacher; the keys of its YAML.

    Attributes:
        api_base: the server's address, up to and with `/v1`.
        api_model: the model's name there.
        api: `openai` for chat completions, `anthropic` for the Messages API.
        api_key_env: environment variable with the key; by default that of the API.
        concurrency: requests under way at the same time.
        timeout: seconds for one attempt.
        retries: further attempts of a request that is not answered.
        temperature: of its answers.
        max_tokens: of an answer.
        structured: ask for JSON by schema (`response_format`, or a forced tool); servers that refuse are asked without
            it.
        show_answer: tell the teacher the right option.
        score_prompt: your own prompt file for scores; None for the package's.
        correct_prompt: your own prompt file for corrections.
        repair: ask once more about a reply that cannot be read.
        patience: failures in a row, without an answer, after which the rest is not asked any more.
        cache: JSONL file of answers; nothing is asked twice. None: beside what a command or a loop makes of them; in
            training, in `output_dir`.
        failures: JSONL file of lessons that failed, with reason and reply.
        input_price: price of a million tokens of prompts.
        output_price: price of a million tokens of answers.
        budget: no request is sent once this is spent, in the unit of the prices.
    """

    api_base: str
    api_model: str
    api: Api = "openai"
    api_key_env: str = ""
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 4
    temperature: float = 0.0
    max_tokens: int = 1024
    structured: bool = True
    show_answer: bool = True
    score_prompt: str | None = None
    correct_prompt: str | None = None
    repair: bool = True
    patience: int = 20
    cache: str | None = None
    failures: str | None = None
    input_price: float = 0.0
    output_price: float = 0.0
    budget: float | None = None

    @property
    def key_env(self) -> str:
        """The environment variable with the key."""
        return self.api_key_env or KEYS[self.api]

    def cost(self, prompt_tokens: int, answer_tokens: int) -> float:
        """What tokens cost."""
        return (prompt_tokens * self.input_price + answer_tokens * self.output_price) / 1e6


def read_teacher_config(path: Path) -> TeacherConfig:
    """Reads a teacher's YAML.

    Raises:
        TeacherError: naming file and key.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TeacherError(f"{path} cannot be read: {error}") from error
    return make_teacher_config(values, str(path))


def make_teacher_config(values: Any, where: str) -> TeacherConfig:
    """A configuration from plain values; `where` names their source in errors.

    Raises:
        TeacherError: for unknown, missing and wrong keys.
    """
    config = make_section(TeacherConfig, values, where, TeacherError)
    if config.budget == 0:
        raise TeacherError(f"{where}: `budget` cannot be 0.")
    if config.budget is not None and not (config.input_price or config.output_price):
        raise TeacherError(f"{where}: `budget` needs `input_price` and `output_price`, per million tokens.")
    return config
