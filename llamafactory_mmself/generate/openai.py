# SPDX-License-Identifier: Apache-2.0
"""The `openai` engine: sampling from any OpenAI-compatible chat endpoint.

The server encodes the prompts, with its own chat template and its own image processing. What a server does not offer
(seeds, log-probs, `top_k`) it mostly ignores without a word: `llamafactory-cli api`, for one, takes `top_k` and the
repetition penalty from its own YAML, and knows no seeds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from ..data.questions import IMAGE
from .client import LIMIT, NEW_LIMIT, Connection, Endpoint, Refused, run_to_end, wants_new_limit
from .config import EngineConfig
from .pictures import data_url
from .seeds import derived_seed
from .types import Completion, EngineError, Message, Request, SamplingParams


_CUT = frozenset({"length", "max_tokens", "content_filter", "abort", "error"})


class OpenAIEngine:
    """Samples from an endpoint; see `Engine`.

    Attributes:
        name: `openai`.
        policy: model name and address. What stands behind them is not known here: give each new model a new name.

    Args:
        config: uses `api_base`, `api_model` (may be left out where the server has one model only), `api_key_env`,
            `concurrency`, `timeout` and `retries`.

    Raises:
        EngineError: the address is missing or wrong; without `api_model`, also if the server does not answer or has
            several models.
    """

    name = "openai"

    def __init__(self, config: EngineConfig) -> None:
        if not config.api_base:
            raise EngineError("The openai engine needs `api_base`: the server's address, such as http://host:8000/v1.")
        self._endpoint = Endpoint.at(
            config.api_base, config.api_key_env, config.concurrency, config.timeout, config.retries
        )
        self._model = config.api_model or run_to_end(self._only_model())
        self.policy = f"{self._model}@{self._endpoint.base}"
        self._limit_name = LIMIT
        self._takes_n = True

    def generate(self, requests: Sequence[Request], params: SamplingParams, seed: int) -> list[list[Completion]]:
        """See `Engine.generate`. Each request has a seed of its own, made from `seed` and its id.

        Raises:
            EngineError: a picture cannot be read, a request begins its answer itself, or the server refuses a request
                or does not answer. Requests under way are given up then.
        """
        if begun := [request.id for request in requests if request.prefix]:
            raise EngineError(
                f"Request {begun[0]!r} begins its answer itself; chat endpoints have no agreed way to go on. "
                "Use the engine `hf` or `vllm`."
            )
        return run_to_end(self._generate(requests, params, seed))

    def close(self) -> None:
        """Nothing stays open between calls."""

    async def _only_model(self) -> str:
        async with self._endpoint.connect() as connection:
            names = await connection.models()
        if len(names) != 1:
            raise EngineError(
                f"{self._endpoint.base} offers {len(names)} models ({', '.join(names[:20])}): choose one, `api_model`."
            )
        return names[0]

    async def _generate(
        self, requests: Sequence[Request], params: SamplingParams, seed: int
    ) -> list[list[Completion]]:
        async with self._endpoint.connect() as connection:
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(self._sample(connection, request, params, seed)) for request in requests
                    ]
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _sample(
        self, connection: Connection, request: Request, params: SamplingParams, seed: int
    ) -> list[Completion]:
        """The completions of one request, which holds one slot of the connection until it has them all."""
        wanted = params.n if params.temperature > 0 else 1  # greedy answers are all the same
        async with connection.slots:
            body = {
                "model": self._model,
                "messages": await asyncio.to_thread(chat_messages, request),
                **_sampling_fields(params),
            }
            found: list[Completion] = []
            while len(found) < wanted:
                number = wanted if self._takes_n and not found else 1
                answer = await self._chat(
                    connection, body, params.max_new_tokens, number, derived_seed(seed, request.id, len(found))
                )
                choices = answer["choices"][:number]
                if not choices:
                    raise EngineError(f"{self._endpoint.base} answered request {request.id} with no choice at all.")
                self._takes_n &= len(choices) == number
                found += [_completion(choice, answer, params) for choice in choices]
        return found if wanted == params.n else found * params.n

    async def _chat(
        self, connection: Connection, body: Mapping[str, Any], limit: int, number: int, seed: int
    ) -> dict[str, Any]:
        """One call; asks again in another way where a server tells that it does not know a field of ours."""
        limit_name = self._limit_name
        several = {"n": number} if number > 1 else {}
        try:
            return await connection.chat({**body, **several, limit_name: limit, "seed": seed})
        except Refused as refused:
            if wants_new_limit(refused, limit_name):
                self._limit_name = NEW_LIMIT
            elif number > 1 and refused.status in (400, 422):
                number = 1
            else:
                raise
        return await self._chat(connection, body, limit, number, seed)


def chat_messages(request: Request) -> list[dict[str, Any]]:
    """The messages of a chat completion: pictures as parts in the places of their placeholders.

    Raises:
        EngineError: placeholders and pictures differ in number, or a picture cannot be read.
    """
    places = sum(message.content.count(IMAGE) for message in request.messages)
    if places != len(request.images):
        raise EngineError(f"Request {request.id} has {places} {IMAGE} placeholders and {len(request.images)} images.")
    images = iter(request.images)
    return [{"role": message.role, "content": _content(message, images)} for message in request.messages]


def _content(message: Message, images: Iterator[str]) -> str | list[dict[str, Any]]:
    first, *rest = message.content.split(IMAGE)
    if not rest:
        return first
    parts: list[dict[str, Any]] = [{"type": "text", "text": first}]
    for text in rest:
        parts += [{"type": "image_url", "image_url": {"url": data_url(next(images))}}, {"type": "text", "text": text}]
    return [part for part in parts if part.get("text") != ""]


def _sampling_fields(params: SamplingParams) -> dict[str, Any]:
    fields: dict[str, Any] = {"temperature": params.temperature, "top_p": params.top_p}
    if params.stop:
        fields["stop"] = list(params.stop)
    if params.top_k:
        fields["top_k"] = params.top_k
    if params.repetition_penalty != 1:
        fields["repetition_penalty"] = params.repetition_penalty
    if params.logprobs:
        fields["logprobs"] = True
    return fields


def _completion(choice: Mapping[str, Any], answer: Mapping[str, Any], params: SamplingParams) -> Completion:
    text = (choice.get("message") or {}).get("content") or ""
    reason: Literal["stop", "length"] = "length" if choice.get("finish_reason") in _CUT else "stop"
    tokens = (choice.get("logprobs") or {}).get("content") if params.logprobs else None
    logprobs = tuple(float(token["logprob"]) for token in tokens) if tokens else None
    ends = [text.find(stop) for stop in params.stop if stop in text]
    if ends:  # a server that does not know stop texts
        text, reason, logprobs = text[: min(ends)], "stop", None
    prompt_tokens = (answer.get("usage") or {}).get("prompt_tokens") or 0
    return Completion(text, (), reason, logprobs, prompt_tokens)
