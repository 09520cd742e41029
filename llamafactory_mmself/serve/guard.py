# SPDX-License-Identifier: Apache-2.0
"""What stands before every request: the key, the kind of content, the size of the body, the form of errors."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .batching import QueueFull


_LOG = logging.getLogger("uvicorn.error")


class ServeError(ValueError):
    """A server that cannot be started, with the reason and what to do."""


class BadRequest(ValueError):
    """A request that asks for something wrong; the text says what.

    Attributes:
        status: the HTTP status of the answer.
    """

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    Attributes:
        body: bytes of a request.
        prompt: characters of a prompt.
        n: answers to one request.
        queue: requests that wait or are under way; more are told to come back.
    """

    body: int = 32 * 1024 * 1024
    prompt: int = 20_000
    n: int = 4
    queue: int = 256


def make_app(
    title: str,
    models: Sequence[str],
    limits: Limits,
    key: str | None,
    state: Callable[[], dict[str, Any]],
    close: Callable[[], None],
) -> FastAPI:
    """An application with `GET /health`, `GET /v1/models`, and everything of this module before it.

    Args:
        title: its name.
        models: names of the models that it serves.
        limits: see there; the body's is applied here.
        key: has to come with every request but that for health; None asks for none.
        state: what `/health` tells.
        close: is called when the server shuts down.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        close()

    app = FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(_Guard, limits=limits, key=key)
    started = int(time.time())

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "models": list(models), **state()}

    @app.get("/v1/models")
    async def listed() -> dict[str, Any]:
        data = [{"id": name, "object": "model", "created": started, "owned_by": "mmself"} for name in models]
        return {"object": "list", "data": data}

    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(BadRequest, _bad)
    app.add_exception_handler(QueueFull, _full)
    return app


def check_model(asked: str | None, served: str) -> None:
    """Refuses requests for another model.

    Raises:
        BadRequest: naming both.
    """
    if asked is not None and asked != served:
        raise BadRequest(f"This server has the model {served!r}, not {asked!r}; its name is set by `--name`.", 404)


def error_response(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error in the form of the OpenAI API."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"error": {"message": text, "type": kind, "param": None, "code": status}}
    return JSONResponse(body, status, headers)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    return error_response(422, f"{place or 'body'}: {first['msg']}")


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return error_response(error.status_code, str(error.detail))


def _bad(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BadRequest)
    return error_response(error.status, str(error))


def _full(request: Request, error: Exception) -> JSONResponse:
    return error_response(429, "Too many requests wait already.", {"Retry-After": "1"})


class _Guard:
    """Looks at the key, at the kind of content, and counts the bytes of bodies as they come in."""

    def __init__(self, app: ASGIApp, limits: Limits, key: str | None) -> None:
        self._app = app
        self._limit = limits.body
        self._key = None if key is None else f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self._key is not None and scope["path"] != "/health":
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, self._key):
                await error_response(401, "The API key is missing or wrong.")(scope, receive, send)
                return
        if scope["method"] == "POST" and headers.get(b"content-type", b"").split(b";")[0] != b"application/json":
            await error_response(415, "JSON is expected (Content-Type: application/json).")(scope, receive, send)
            return
        body = await self._body(headers, receive)
        if body is None:
            text = f"The body is larger than {self._limit} bytes."
            await error_response(413, text, {"Connection": "close"})(scope, receive, send)
            return
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, _replay(body, receive), noting)
        except Exception as error:
            if begun:
                raise
            # The server would close the connection behind an error that reaches it, which others may be using.
            _LOG.exception("A request failed.")
            await error_response(500, f"The server failed at this request: {type(error).__name__}.")(
                scope, receive, send
            )

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """The whole body; None if it is too large."""
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._limit:
            return None
        content = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                break
            content += message.get("body", b"")
            more = message.get("more_body", False)
            if len(content) > self._limit:
                return None
        return bytes(content)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hands a body that was read already to the application."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
