# SPDX-License-Identifier: Apache-2.0
"""A client of OpenAI-compatible chat endpoints: bounded in time, patient with busy servers, plain about the others."""

from __future__ import annotations

import asyncio
import email.utils
import ipaddress
import json
import os
import random
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import httpx

from .types import EngineError


T = TypeVar("T")

DEFAULT_KEY = "OPENAI_API_KEY"
ANTHROPIC_VERSION = "2023-06-01"
FIRST_PAUSE = 0.5  # seconds before the second attempt; doubled for each further one
LONGEST_PAUSE = 30.0
LONGEST_RETRY_AFTER = 600.0
CONNECT_TIMEOUT = 10.0
LIMIT, NEW_LIMIT = "max_tokens", "max_completion_tokens"  # names of the most tokens that an answer may have
SHOWN = 300  # characters of a server's message

_BUSY = frozenset({408, 425, 429})
_AWAY = frozenset({502, 503, 504})  # a proxy's word for a server that is not there


class Refused(EngineError):
    """An answer that would be the same at every attempt.

    Attributes:
        status: the HTTP status.
        reason: the server's message.
    """

    def __init__(self, text: str, status: int, reason: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason


class Lost(Exception):
    """An attempt without a usable answer; another one may have it.

    Attributes:
        problem: what happened.
        pause: seconds that the server asks to wait.
        answered: whether it was the server that answered, and not silence, nor a word that it is busy.
    """

    def __init__(self, problem: str, pause: float = 0.0, *, answered: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.pause = pause
        self.answered = answered


@dataclass(frozen=True)
class Endpoint:
    """Where a server is and how to talk to it.

    Attributes:
        base: address up to and with `/v1`, without a slash at the end.
        key_env: environment variable with the API key. The key itself is read when a connection is made and is kept
            nowhere. `DEFAULT_KEY` may be missing: many servers need no key.
        concurrency: requests under way at the same time.
        timeout: seconds for one attempt.
        retries: further attempts after the first.
        api: how the key is sent: as chat completions want it, or as Anthropic's Messages API does.
    """

    base: str
    key_env: str
    concurrency: int
    timeout: float
    retries: int
    api: Literal["openai", "anthropic"] = "openai"

    @classmethod
    def at(
        cls,
        base: str,
        key_env: str,
        concurrency: int,
        timeout: float,
        retries: int,
        api: Literal["openai", "anthropic"] = "openai",
    ) -> Endpoint:
        """Checks the address.

        Raises:
            EngineError: it is no HTTP address, or holds a password or a query, which would end up in files.
        """
        try:
            url = httpx.URL(base)
        except httpx.InvalidURL as error:
            raise EngineError(f"`api_base` is no address: {error}.") from error
        if url.userinfo or url.query:
            raise EngineError("`api_base` holds a password or a query. Put the key into an environment variable.")
        if url.scheme not in ("http", "https") or not url.host:
            raise EngineError(f"`api_base` has to look like http://host:port/v1, not {base!r}.")
        plain = base.rstrip("/").removesuffix("/chat/completions").removesuffix("/messages")
        return cls(plain, key_env, concurrency, timeout, retries, api)

    def connect(self) -> Connection:
        """Opens a connection pool, to be used with `async with`.

        Raises:
            EngineError: `key_env` names a variable that is not set.
        """
        key = os.environ.get(self.key_env, "").strip()
        if not key and self.key_env != DEFAULT_KEY:
            raise EngineError(
                f"The environment variable {self.key_env} is not set. Put the API key of {self.base} into it, or "
                "leave `api_key_env` out for a server without a key."
            )
        return Connection(self, key)


class Connection:
    """An open connection pool to an endpoint."""

    def __init__(self, endpoint: Endpoint, key: str) -> None:
        self._endpoint = endpoint
        self._key = key
        self._client = httpx.AsyncClient(
            headers=_headers(endpoint.api, key),
            timeout=httpx.Timeout(endpoint.timeout, connect=min(endpoint.timeout, CONNECT_TIMEOUT)),
            limits=httpx.Limits(max_connections=endpoint.concurrency + 1),  # one to ask whether it is alive
            trust_env=not _is_loopback(endpoint.base),  # no proxy to a server on this machine
        )
        self._slots = asyncio.Semaphore(endpoint.concurrency)

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    @property
    def slots(self) -> asyncio.Semaphore:
        """To be held while a request is made and answered."""
        return self._slots

    async def chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a chat completion request; answers are checked to have `choices`.

        Raises:
            Refused: the server says that the request, the key or the address is wrong.
            EngineError: no attempt was answered.
        """
        return await self._ask("POST", "/chat/completions", "choices", json.dumps(body).encode())

    async def messages(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a request of Anthropic's Messages API; answers are checked to have `content`. Errors as for `chat`."""
        return await self._ask("POST", "/messages", "content", json.dumps(body).encode())

    async def models(self) -> list[str]:
        """Names of the models that the server offers. Errors as for `chat`."""
        return [str(model["id"]) for model in (await self._ask("GET", "/models", "data", None))["data"]]

    async def attempt(
        self, method: str, path: str, field: str, content: bytes | None, seconds: float | None = None
    ) -> dict[str, Any]:
        """Sends a request once; the answer is a JSON object with a list in `field`.

        Args:
            method: GET or POST.
            path: what follows the endpoint's base.
            field: of the answer.
            content: the body.
            seconds: a shorter time than the endpoint's `timeout`.

        Raises:
            Lost: there is no such answer; another attempt may have one.
            Refused: the server says that the request, the key or the address is wrong.
        """
        url = self._endpoint.base + path
        limit = self._endpoint.timeout if seconds is None else min(seconds, self._endpoint.timeout)
        try:
            async with asyncio.timeout(limit):
                response = await self._client.request(
                    method, url, content=content, headers={"Content-Type": "application/json"} if content else None
                )
        except (TimeoutError, httpx.TimeoutException):
            raise Lost(f"no answer within {limit:g} s") from None
        except httpx.RequestError as error:
            raise Lost(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from None
        status = response.status_code
        if status >= 500 or status in _BUSY:
            problem = f"HTTP {status}: {self._hide(_server_message(response))}"
            raise Lost(problem, _retry_after(response), answered=status not in _BUSY | _AWAY)
        if status != 200:
            raise self._refused(url, response)
        answer = _decode(response)
        if isinstance(answer, dict) and isinstance(answer.get(field), list):
            return answer
        raise Lost(f"not a JSON object with `{field}`: {self._hide(response.text[:SHOWN])!r}", answered=True)

    async def alive(self, seconds: float) -> bool:
        """Whether the server answers the question for its models at all, be it with a refusal."""
        try:
            async with asyncio.timeout(seconds):
                response = await self._client.get(self._endpoint.base + "/models")
        except (TimeoutError, httpx.HTTPError):
            return False
        return response.status_code < 500

    async def fetch(self, url: str, limit: int) -> bytes:
        """A file that an answer of this server points to.

        Args:
            url: absolute, or relative to the endpoint.
            limit: bytes that it may have.

        Raises:
            Lost: the file is elsewhere than on this server, is too large, or cannot be had.
        """
        base = httpx.URL(self._endpoint.base)
        try:
            place = base.join(url)
        except httpx.InvalidURL as error:
            raise Lost(f"an address that is none: {error}", answered=True) from None
        if (place.scheme, place.host, place.port) != (base.scheme, base.host, base.port):
            raise Lost(f"an address on another server ({place.host}), which is not asked", answered=True)
        content = bytearray()
        try:
            async with asyncio.timeout(self._endpoint.timeout), self._client.stream("GET", place) as response:
                if response.status_code != 200:
                    raise Lost(f"HTTP {response.status_code} for {place}", answered=True)
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > limit:
                        raise Lost(f"a file of more than {limit} bytes", answered=True)
        except (TimeoutError, httpx.TimeoutException):
            raise Lost(f"no file within {self._endpoint.timeout:g} s") from None
        except httpx.RequestError as error:
            raise Lost(f"{type(error).__name__}: {error}") from None
        return bytes(content)

    async def _ask(self, method: str, path: str, field: str, content: bytes | None) -> dict[str, Any]:
        start = time.monotonic()
        attempts = self._endpoint.retries + 1
        problem = ""
        for attempt in range(attempts):
            try:
                return await self.attempt(method, path, field, content)
            except Lost as lost:
                problem = lost.problem
                if attempt + 1 < attempts:
                    await asyncio.sleep(max(lost.pause, backoff(attempt)))
        raise EngineError(
            f"{self._endpoint.base}{path} gave no usable answer: {attempts} attempt{'s' * (attempts > 1)} in "
            f"{time.monotonic() - start:.1f} s, the last one: {problem}. Check that the server is up and that "
            "`api_base` is its address, then start the same command again; what is finished stays."
        )

    def _refused(self, url: str, response: httpx.Response) -> Refused:
        status, reason = response.status_code, self._hide(_server_message(response))
        if status in (401, 403):
            advice = f"Check the key in the environment variable {self._endpoint.key_env} (`api_key_env`)."
        elif status in (404, 405) or 300 <= status < 400:
            advice = "Check `api_base` (it mostly ends with /v1) and `api_model`."
        else:
            advice = "The server does not take this request; see its message."
        return Refused(f"{url} answered HTTP {status}: {reason} {advice}", status, reason)

    def _hide(self, text: str) -> str:
        """Servers may repeat the key that they refuse."""
        return text.replace(self._key, "***") if self._key else text


def wants_new_limit(refused: Refused, sent: str) -> bool:
    """Whether a server refused a request because it was `sent` under the old name of the limit."""
    return sent == LIMIT and NEW_LIMIT in refused.reason


def backoff(attempt: int) -> float:
    """Seconds to wait after an attempt, from 0 on, that was lost: doubled each time, with jitter."""
    return min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE) * random.uniform(0.5, 1.0)


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end, also where the caller (a notebook) has an event loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result()


def _headers(api: str, key: str) -> dict[str, str]:
    if api == "anthropic":
        return {"anthropic-version": ANTHROPIC_VERSION, **({"x-api-key": key} if key else {})}
    return {"Authorization": f"Bearer {key}"} if key else {}


def _is_loopback(base: str) -> bool:
    host = httpx.URL(base).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _decode(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _server_message(response: httpx.Response) -> str:
    """The text of an error in the forms that servers use, else the beginning of the body."""
    answer = _decode(response)
    if isinstance(answer, dict):
        error = answer.get("error", answer)
        text = error if isinstance(error, str) else None
        if isinstance(error, dict):
            text = error.get("message") or error.get("detail")
        if text:
            return (text if isinstance(text, str) else json.dumps(text))[:SHOWN]
    return response.text.strip()[:SHOWN] or response.reason_phrase


def _retry_after(response: httpx.Response) -> float:
    """Seconds that a server asks to wait: a number or a date in the header `Retry-After`; 0 without one."""
    value = response.headers.get("Retry-After", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError):
            return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER) if seconds == seconds else 0.0
