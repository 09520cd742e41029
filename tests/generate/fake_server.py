# SPDX-License-Identifier: Apache-2.0
"""A chat endpoint on 127.0.0.1 that answers what a test tells it."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """An answer; `body` may be a text that is no JSON."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


def choices(*texts: str, finish_reason: str = "stop", **more: Any) -> Reply:
    """A chat completion with these texts."""
    listed = [
        {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
        for index, text in enumerate(texts)
    ]
    return Reply({"choices": listed, "usage": {"prompt_tokens": 12}, **more})


def error(status: int, message: str, **headers: str) -> Reply:
    """An error in OpenAI's form."""
    return Reply({"error": {"message": message}}, status, headers)


def painted(file: bytes) -> Reply:
    """A painter's answer with one picture."""
    return Reply({"data": [{"b64_json": base64.b64encode(file).decode()}]})


#: What a broken endpoint may answer.
GARBAGE = (Reply("<html>"), Reply({"choices": "?"}), Reply({"data": [], "choices": []}), error(500, "oops"))

Answer = Callable[[dict[str, Any], int], Reply]


class FakeServer:
    """Serves until it is closed; `answer(body, number)` is asked for each request, numbered from 0; GET has no body.

    Attributes:
        bodies: of the requests, in the order of arrival.
        headers: of the requests.
        paths: of the requests.
        times: when they arrived.
        most: how many were under way at once.
    """

    def __init__(self, answer: Answer, port: int = 0) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self.most = 0
        self._open = 0
        self._lock = threading.Lock()
        self._answer = answer
        self._closed = False
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda request, address: None  # type: ignore[method-assign]  # clients that gave up
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def base(self) -> str:
        """The address for `api_base`."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        """Stops serving: connections are refused, and those that are open end. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def do_GET(self) -> None:
                self._reply({})

            def _reply(self, body: dict[str, Any]) -> None:
                if fake._closed:
                    self.close_connection = True
                    return
                with fake._lock:
                    number = len(fake.bodies)
                    fake.bodies.append(body)
                    fake.headers.append(dict(self.headers))
                    fake.paths.append(self.path)
                    fake.times.append(time.monotonic())
                    fake._open += 1
                    fake.most = max(fake.most, fake._open)
                try:
                    reply = fake._answer(body, number)
                    time.sleep(reply.delay)
                    content = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
                finally:
                    with fake._lock:
                        fake._open -= 1
                try:
                    self.send_response(reply.status)
                    for name, value in reply.headers.items():
                        self.send_header(name.replace("_", "-"), value)
                    self.send_header("Content-Length", str(len(content.encode())))
                    self.end_headers()
                    self.wfile.write(content.encode())
                except ConnectionError:  # the client gave up
                    self.close_connection = True

            def log_message(self, format: str, *values: Any) -> None:
                pass

        return Handler
