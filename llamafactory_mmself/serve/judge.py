# SPDX-License-Identifier: Apache-2.0
"""The judge's server: `POST /v1/chat/completions` of the OpenAI API, answered by a sampling engine.

Pictures come as data URLs; nothing is fetched from elsewhere. They lie in a folder of the server's own while their
request is under way.
"""

from __future__ import annotations

import base64
import itertools
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from ..data.questions import IMAGE
from ..files import write_bytes
from ..generate.painting import as_png
from ..generate.seeds import derived_seed
from ..generate.types import Completion, Engine, Message, Request, SamplingParams
from .batching import Batcher
from .guard import BadRequest, Limits, check_model, make_app


MOST_IMAGES = 16
_DATA = "data:image/"
_GOES_ON = " \t\n.,;:!?)"


@dataclass(frozen=True)
class JudgeOptions:
    """What the server allows.

    Attributes:
        name: of the model, as clients call it.
        batch_size: requests answered together.
        window: seconds to wait for more requests.
        max_tokens: of an answer, also where a request does not say.
        limits: of requests.
    """

    name: str
    batch_size: int = 16
    window: float = 0.02
    max_tokens: int = 1024
    limits: Limits = field(default_factory=lambda: Limits(n=16))


class Url(BaseModel):
    """Where a picture is."""

    url: str


class Part(BaseModel):
    """A part of a message: a text or a picture."""

    type: Literal["text", "image_url"]
    text: str = ""
    image_url: Url | None = None


class Turn(BaseModel):
    """A message."""

    role: Literal["system", "user", "assistant"]
    content: str | list[Part]


class ChatBody(BaseModel):
    """The fields of a request."""

    messages: list[Turn] = Field(min_length=1)
    model: str | None = None
    n: int = Field(1, ge=1)
    temperature: float = Field(1.0, ge=0, le=10)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    repetition_penalty: float = Field(1.0, gt=0, le=10)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = Field(None, ge=0)
    stream: bool = False
    logprobs: bool = False
    response_format: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Job:
    request: Request
    params: SamplingParams
    seed: int


def judge_app(engine: Engine, options: JudgeOptions, key: str | None = None) -> FastAPI:
    """The application.

    Args:
        engine: answers; it is closed when the server shuts down.
        options: limits.
        key: the API key that requests have to bring; None asks for none.
    """
    batcher: Batcher[_Job, list[Completion]] = Batcher(
        lambda jobs: _answer(engine, jobs),
        alike=lambda job: job.params,
        most=options.batch_size,
        window=options.window,
        queue=options.limits.queue,
    )

    def close() -> None:
        batcher.close()
        engine.close()

    app = make_app(
        "mmself judge",
        [options.name],
        options.limits,
        key,
        lambda: {"waiting": batcher.open, "answered": batcher.done, "batches": batcher.batches},
        close,
    )
    numbers = itertools.count()

    @app.post("/v1/chat/completions")
    async def chat(body: ChatBody) -> dict[str, Any]:
        params = _params(body, options)
        with ExitStack() as stack:
            id = f"chat-{next(numbers)}"
            request = await run_in_threadpool(_request, id, body.messages, options.limits, stack)
            seed = derived_seed(0, id) if body.seed is None else body.seed
            try:
                (completions,) = await batcher.submit([_Job(request, params, seed)])
            except ValueError as error:  # the engine's word about this request
                raise BadRequest(str(error)) from error
        return _reply(id, completions, options.name)

    return app


def _answer(engine: Engine, jobs: Sequence[_Job]) -> list[list[Completion]]:
    """One call of the engine; jobs that are answered together share a seed made from theirs."""
    seed = jobs[0].seed if len(jobs) == 1 else derived_seed(0, *(job.seed for job in jobs))
    return engine.generate([job.request for job in jobs], jobs[0].params, seed)


def _params(body: ChatBody, options: JudgeOptions) -> SamplingParams:
    check_model(body.model, options.name)
    kind = (body.response_format or {}).get("type", "text")
    for name, asked in (("stream", body.stream), ("logprobs", body.logprobs), ("response_format", kind != "text")):
        if asked:
            raise BadRequest(f"`{name}` is not served here.")
    if body.n > options.limits.n:
        raise BadRequest(f"`n` is {body.n}, more than {options.limits.n}.")
    limit = body.max_completion_tokens or body.max_tokens or options.max_tokens
    if limit > options.max_tokens:
        raise BadRequest(f"`max_tokens` is {limit}, more than {options.max_tokens}.")
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    if not all(stop):
        raise BadRequest("`stop`: texts that are not empty are expected.")
    return SamplingParams(
        n=body.n,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        repetition_penalty=body.repetition_penalty,
        max_new_tokens=limit,
        stop=stop,
    )


def _request(id: str, turns: Sequence[Turn], limits: Limits, stack: ExitStack) -> Request:
    """The engine's request; its pictures are files that go when the stack is closed."""
    texts: list[str] = []
    urls: list[str] = []
    for turn in turns:
        parts = [Part(type="text", text=turn.content)] if isinstance(turn.content, str) else turn.content
        shown = [part.image_url.url for part in parts if part.type == "image_url" and part.image_url is not None]
        urls += shown
        texts.append(_content(parts))
    if sum(map(len, texts)) > limits.prompt:
        raise BadRequest(f"The messages have more than {limits.prompt} characters.")
    if len(urls) > MOST_IMAGES:
        raise BadRequest(f"The messages show {len(urls)} pictures, more than {MOST_IMAGES}.")
    if sum(text.count(IMAGE) for text in texts) != len(urls):
        raise BadRequest("A part of the type `image_url` has no `image_url`.")
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mmself-judge-"))) if urls else Path()
    paths = [_saved(url, folder / f"{number}.png") for number, url in enumerate(urls)]
    messages = tuple(Message(turn.role, text) for turn, text in zip(turns, texts, strict=True))
    return Request(id, messages, tuple(paths))


def _content(parts: Sequence[Part]) -> str:
    """A message's text. A picture and words behind it are on lines of their own, unless a sentence goes on there."""
    content = ""
    for part in parts:
        if part.type == "image_url":
            content += IMAGE
            continue
        # A text that happens to hold a placeholder must not ask for a picture.
        text = part.text.replace(IMAGE, "[image]")
        apart = content.endswith(IMAGE) and text != "" and text[0] not in _GOES_ON
        content += f"\n{text}" if apart else text
    return content


def _saved(url: str, path: Path) -> str:
    head, comma, data = url.partition(",")
    if not head.startswith(_DATA) or not head.endswith(";base64") or not comma:
        raise BadRequest("Pictures are taken as data URLs (data:image/png;base64,...) only.")
    try:
        write_bytes(path, as_png(base64.b64decode(data, validate=True)))
    except ValueError as error:
        raise BadRequest(f"A picture cannot be read: {error}.") from error
    return str(path)


def _reply(id: str, completions: Sequence[Completion], model: str) -> dict[str, Any]:
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": completion.text},
            "finish_reason": completion.finish_reason,
        }
        for index, completion in enumerate(completions)
    ]
    prompt, answer = completions[0].prompt_tokens, sum(len(completion.token_ids) for completion in completions)
    return {
        "id": id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer},
    }
