# SPDX-License-Identifier: Apache-2.0
"""The judge's server: what it hands to its engine, what it answers, what it refuses."""

import base64
import glob
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.engines import build_engine
from llamafactory_mmself.generate.openai import chat_messages
from llamafactory_mmself.generate.types import Completion, EngineError, Message, Request, SamplingParams
from llamafactory_mmself.serve.guard import Limits
from llamafactory_mmself.serve.judge import JudgeOptions, judge_app
from llamafactory_mmself.toyworld.chat import ToyChat
from tests.serve.conftest import listening


URL = "/v1/chat/completions"


class Echo:
    """Answers with the last message, and keeps what it was asked."""

    name, policy = "echo", "echo"

    def __init__(self):
        self.closed = False
        self.calls = []
        self.pictures = []

    def generate(self, requests, params, seed):
        self.calls.append((list(requests), params, seed))
        if any("crash" in request.messages[-1].content for request in requests):
            raise EngineError("cannot do that")
        for path in (path for request in requests for path in request.images):
            with Image.open(path) as picture:
                self.pictures.append(picture.size)
        return [[Completion(request.messages[-1].content, (1, 2), "stop", None, 5)] * params.n for request in requests]

    def close(self):
        self.closed = True


@pytest.fixture
def client(served):
    return lambda engine=None, **changes: served(judge_app(engine or Echo(), JudgeOptions("qwen", **changes)))


def ask(client, content, **more):
    return client.post(URL, json={"messages": [{"role": "user", "content": content}], **more})


def told(response, status):
    assert response.status_code == status
    return response.json()["error"]["message"]


def picture(path):
    return {"url": "data:image/png;base64," + base64.b64encode(Path(path).read_bytes()).decode()}


def test_texts_and_sampling(client):
    engine = Echo()
    made = client(engine)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello <image>"}]
    sampling = {"n": 2, "temperature": 0.5, "top_p": 0.9, "top_k": 7, "max_tokens": 9, "stop": "END", "seed": 3}
    answer = made.post(URL, json={"model": "qwen", "messages": messages, **sampling}).json()
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["Hello [image]"] * 2
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
    (((request,), params, seed),) = engine.calls
    assert request.messages == (Message("system", "Be brief."), Message("user", "Hello [image]"))
    assert (params, seed) == (SamplingParams(2, 0.5, 0.9, 7, 1.0, 9, ("END",)), 3)
    assert made.get("/v1/models").json()["data"][0]["id"] == "qwen"


def test_pictures_are_files_only_while_their_request_is_under_way(client, shapes):
    engine = Echo()
    parts = [
        {"type": "image_url", "image_url": picture(shapes[1])},
        {"type": "text", "text": "What is it?"},
    ]
    before = set(glob.glob(f"{tempfile.gettempdir()}/mmself-judge-*"))
    assert ask(client(engine), parts).json()["choices"][0]["message"]["content"] == "<image>\nWhat is it?"
    assert engine.pictures == [(140, 84)]
    assert not Path(engine.calls[0][0][0].images[0]).exists()
    assert set(glob.glob(f"{tempfile.gettempdir()}/mmself-judge-*")) <= before


@pytest.mark.parametrize(
    "content",
    [
        "<image>\nWhat is it?",
        "Compare <image> and <image>.\n",
        "<image><image>\n\nWhich is red?",
        "What is it?\n<image>",
        "Hello",
    ],
)
def test_the_openai_engine_asks_here_what_it_was_asked(client, shapes, content):
    engine = Echo()
    request = Request.ask("a", content, [shapes[0]] * content.count("<image>"))
    assert client(engine).post(URL, json={"messages": chat_messages(request)}).status_code == 200
    (((asked,), _, _),) = engine.calls
    assert asked.messages == request.messages


@pytest.mark.parametrize(
    ("content", "more", "status", "message"),
    [
        ("x", {"model": "other"}, 404, "has the model 'qwen'"),
        ("x", {"stream": True}, 400, "`stream` is not served"),
        ("x", {"response_format": {"type": "json_schema"}}, 400, "`response_format` is not served"),
        ("x", {"n": 99}, 400, "`n` is 99"),
        ("x", {"max_tokens": 99_999}, 400, "`max_tokens`"),
        ("x" * 300, {}, 400, "more than 200 characters"),
        ("x", {"temperature": -1}, 422, "temperature"),
        ("x", {"stop": [""]}, 400, "`stop`"),
        ([{"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}], {}, 400, "data URLs"),
        ([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}], {}, 400, "data URLs"),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,eHh4"}}], {}, 400, "cannot be read"),
        ([{"type": "image_url"}], {}, 400, "no `image_url`"),
        ([{"type": "audio"}], {}, 422, "content"),
        ("crash", {}, 400, "cannot do that"),
    ],
)
def test_what_is_refused(client, content, more, status, message):
    made = client(limits=Limits(prompt=200, n=16))
    assert message in told(ask(made, content, **more), status)
    assert ask(made, "x").status_code == 200  # and goes on serving


def test_requests_at_the_same_time_are_answered_together(client):
    engine = Echo()
    made = client(engine, window=0.1, batch_size=4)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda n: ask(made, f"t{n}" if n else "crash", seed=n), range(4)))
    assert [response.status_code for response in found] == [400, 200, 200, 200]
    assert [response.json()["choices"][0]["message"]["content"] for response in found[1:]] == ["t1", "t2", "t3"]
    assert len(engine.calls[0][0]) == 4


def test_the_toy_world_knows_nothing_else(client):
    assert ask(client(ToyChat()), "Hello").json()["choices"][0]["message"]["content"] == (
        "I know nothing but the toy world."
    )


def test_the_engine_is_closed_with_the_server():
    engine = Echo()
    with listening(judge_app(engine, JudgeOptions("qwen"))) as made:
        assert ask(made, "x").status_code == 200 and not engine.closed
    assert engine.closed


@pytest.mark.slow
def test_a_model_answers_as_it_does_without_a_server(client, tiny_models, shapes):
    settings = {"model": str(tiny_models("qwen2_vl")), "template": "qwen2_vl", "device": "cpu"}
    engine = build_engine(EngineConfig.from_dict(settings))
    params = SamplingParams(temperature=0.0, max_new_tokens=6)
    made = client(engine)
    requests = [Request.ask("a", "<image>\nWhat is it?", [shapes[0]]), Request.ask("b", "Hello")]
    expected = [completions[0].text for completions in engine.generate(requests, params, 0)]
    place = {"api_base": str(made.base_url.join("/v1")), "api_model": "qwen", "timeout": 600}
    remote = build_engine(EngineConfig.from_dict({"name": "openai", **place}))
    assert [completions[0].text for completions in remote.generate(requests, params, 0)] == expected
