# SPDX-License-Identifier: Apache-2.0
"""What all sampling engines share: a request goes in, completions come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol


class EngineError(ValueError):
    """An engine that cannot start or answer, with the reason and what to do."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; `content` has one `<image>` for each picture that it shows."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Request:
    """A prompt to sample from.

    Attributes:
        id: unique within a job.
        messages: an optional system message, then user and assistant in turn, a user turn last.
        images: paths of the pictures, in the order of the `<image>` placeholders in the messages.
        prefix: how the answer begins; completions go on from there and do not repeat it.
    """

    id: str
    messages: tuple[Message, ...]
    images: tuple[str, ...] = ()
    prefix: str = ""

    @classmethod
    def ask(cls, id: str, prompt: str, images: Sequence[str] = (), prefix: str = "") -> Request:
        """A request of one user turn."""
        return cls(id, (Message("user", prompt),), tuple(images), prefix)

    def to_row(self) -> dict[str, Any]:
        """The line of a requests file."""
        values = asdict(self)
        return values if self.prefix else {name: value for name, value in values.items() if name != "prefix"}


@dataclass(frozen=True)
class SamplingParams:
    """How to sample; names and meanings are those of vLLM and of the OpenAI API.

    Attributes:
        n: completions for each request.
        temperature: 0 is greedy.
        top_p: nucleus; 1 is off.
        top_k: 0 is off.
        repetition_penalty: 1 is off.
        max_new_tokens: at most this many tokens; a completion that ends there has the finish reason `length`.
        stop: texts that end a completion; they are cut off.
        logprobs: keep the log-prob of each sampled token under the model (before temperature and cuts).
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()
    logprobs: bool = False

    def __post_init__(self) -> None:
        for name, good, range_ in (
            ("n", self.n >= 1, "at least 1"),
            ("temperature", self.temperature >= 0, "at least 0"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "at least 0"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("stop", all(self.stop), "texts that are not empty"),
        ):
            if not good:
                raise EngineError(f"Sampling parameter `{name}` has to be {range_}, found {getattr(self, name)!r}.")

    @property
    def greedy(self) -> SamplingParams:
        """The same without chance: one completion of the likeliest tokens."""
        return replace(self, n=1, temperature=0.0, top_p=1.0, top_k=0)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for manifests."""
        return {**asdict(self), "stop": list(self.stop)}


@dataclass(frozen=True)
class Completion:
    """One sampled answer.

    Attributes:
        text: without special tokens.
        token_ids: as they were sampled, the end of sequence included when it was sampled; empty for engines that do
            not tell them.
        finish_reason: `stop` for an end of sequence or a stop text, `length` for a cut one.
        logprobs: one for each token id, or None.
        prompt_tokens: length of the prompt in tokens, image tokens included; 0 if not known.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: Literal["stop", "length"]
    logprobs: tuple[float, ...] | None = None
    prompt_tokens: int = 0


class Engine(Protocol):
    """Samples completions.

    Attributes:
        name: `hf`, `vllm` or `openai`.
        policy: which weights answer: a digest of model, adapter and template, or of the endpoint and its model name.
    """

    name: str
    policy: str

    def generate(self, requests: Sequence[Request], params: SamplingParams, seed: int) -> list[list[Completion]]:
        """Returns `params.n` completions for each request; the same call gives the same ones where the engine can."""
        ...

    def close(self) -> None:
        """Frees model and connections."""
        ...


@dataclass(frozen=True)
class Sample:
    """One line of a samples file.

    Attributes:
        id: `<request>#<k>`.
        request: the request's id.
        k: which of its completions, from 0.
        policy: see `Engine.policy`.
        completion: what was sampled.
    """

    id: str
    request: str
    k: int
    policy: str
    completion: Completion

    @property
    def text(self) -> str:
        """The sampled text."""
        return self.completion.text

    def to_row(self) -> dict[str, Any]:
        """The line as JSON."""
        values = asdict(self.completion)
        values["token_ids"] = list(self.completion.token_ids)
        values["logprobs"] = None if self.completion.logprobs is None else list(self.completion.logprobs)
        return {"id": self.id, "request": self.request, "k": self.k, "policy": self.policy, **values}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Sample:
        """Reads what `to_row` wrote."""
        logprobs = row["logprobs"]
        completion = Completion(
            row["text"],
            tuple(row["token_ids"]),
            row["finish_reason"],
            None if logprobs is None else tuple(logprobs),
            row["prompt_tokens"],
        )
        return cls(row["id"], row["request"], row["k"], row["policy"], completion)
