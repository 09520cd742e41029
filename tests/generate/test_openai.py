# SPDX-License-Identifier: Apache-2.0
"""The openai engine against a scripted server."""

import base64
import dataclasses
import email.utils
import io
import socket
import time

import pytest
from PIL import Image

from llamafactory_mmself.generate import client
from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.openai import OpenAIEngine, chat_messages
from llamafactory_mmself.generate.seeds import derived_seed
from llamafactory_mmself.generate.types import EngineError, Message, Request, SamplingParams
from tests.generate.fake_server import FakeServer, Reply, choices, error


GREEDY = SamplingParams(temperature=0.0, max_new_tokens=8)
SAMPLED = SamplingParams(n=3, temperature=1.0, max_new_tokens=8)


@pytest.fixture(autouse=True)
def short_pauses_and_no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)


@pytest.fixture
def serve():
    servers = []

    def start(answer):
        servers.append(FakeServer(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def engine(base, **changes):
    settings = {"name": "openai", "api_base": base, "api_model": "tiny", "retries": 2, "timeout": 5.0}
    return OpenAIEngine(EngineConfig.from_dict({**settings, **changes}))


def ask(base, *prompts, params=GREEDY, **changes):
    requests = [Request.ask(f"q{number}", prompt) for number, prompt in enumerate(prompts or ["Hello"])]
    return engine(base, **changes).generate(requests, params, seed=3)


def test_answers_come_in_the_order_of_the_requests(serve):
    def answer(body, number):
        text = body["messages"][0]["content"]
        return dataclasses.replace(choices(text.upper()), delay=0.1 if text == "a" else 0.0)

    found = ask(serve(answer).base, "a", "b", "c")
    assert [[item.text for item in completions] for completions in found] == [["A"], ["B"], ["C"]]
    assert found[0][0].prompt_tokens == 12
    assert found[0][0].token_ids == ()


def test_what_is_sent(serve):
    server = serve(lambda body, number: choices("x"))
    params = SamplingParams(
        temperature=0.5, top_p=0.9, top_k=7, repetition_penalty=1.1, max_new_tokens=9, stop=("END",)
    )
    request = Request(
        "r", (Message("system", "Be brief."), Message("user", "1"), Message("assistant", "2"), Message("user", "3"))
    )
    engine(server.base).generate([request], params, 3)
    (body,) = server.bodies
    assert body == {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "1"},
            {"role": "assistant", "content": "2"},
            {"role": "user", "content": "3"},
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "repetition_penalty": 1.1,
        "max_tokens": 9,
        "stop": ["END"],
        "seed": derived_seed(3, "r", 0),
    }
    assert server.paths == ["/v1/chat/completions"]
    assert "Authorization" not in server.headers[0]


def test_a_request_has_the_same_seed_in_any_batch(serve):
    server = serve(lambda body, number: choices("x"))
    for requests in ([Request.ask("a", "a"), Request.ask("b", "b")], [Request.ask("b", "b")]):
        engine(server.base).generate(requests, dataclasses.replace(SAMPLED, n=1), 3)
    seeds = {body["messages"][0]["content"]: body["seed"] for body in server.bodies[:2]}
    assert seeds["a"] != seeds["b"] == server.bodies[2]["seed"]


@pytest.mark.parametrize(
    ("reason", "expected"), [("stop", "stop"), ("length", "length"), ("content_filter", "length")]
)
def test_finish_reasons(serve, reason, expected):
    server = serve(lambda body, number: choices("x", finish_reason=reason))
    assert ask(server.base)[0][0].finish_reason == expected


def test_stop_texts_are_cut_for_servers_that_do_not_know_them(serve):
    server = serve(lambda body, number: choices("one END two STOP", finish_reason="length"))
    ((found,),) = ask(server.base, params=dataclasses.replace(GREEDY, stop=("STOP", "END")))
    assert (found.text, found.finish_reason) == ("one ", "stop")


def test_logprobs_where_the_server_gives_them(serve):
    def answer(body, number):
        reply = choices("x y")
        if number == 0:
            assert body["logprobs"] is True
            reply.body["choices"][0]["logprobs"] = {"content": [{"logprob": -0.5}, {"logprob": -1}]}
        return reply

    base = serve(answer).base
    params = dataclasses.replace(GREEDY, logprobs=True)
    assert ask(base, params=params)[0][0].logprobs == (-0.5, -1.0)
    assert ask(base, params=params)[0][0].logprobs is None


def test_several_samples_in_one_request(serve):
    server = serve(lambda body, number: choices(*"abc"[: body["n"]]))
    assert [item.text for item in ask(server.base, params=SAMPLED)[0]] == ["a", "b", "c"]
    assert len(server.bodies) == 1


def test_greedy_samples_are_asked_for_once(serve):
    server = serve(lambda body, number: choices("a"))
    found = ask(server.base, params=dataclasses.replace(SAMPLED, temperature=0.0))
    assert [item.text for item in found[0]] == ["a", "a", "a"]
    assert len(server.bodies) == 1
    assert "n" not in server.bodies[0]


@pytest.mark.parametrize("refuses", [True, False])
def test_single_requests_where_the_server_does_not_take_n(serve, refuses):
    def answer(body, number):
        if refuses and "n" in body:
            return error(400, "n has to be 1")
        return choices(f"answer {number}")

    server = serve(answer)
    one = engine(server.base, concurrency=1)
    first, second = (one.generate([Request.ask(name, name)], SAMPLED, 3)[0] for name in ("a", "b"))
    assert len({item.text for item in first + second}) == 6
    assert sum("n" in body for body in server.bodies) == 1  # learnt
    assert len({body["seed"] for body in server.bodies}) == 6


def test_the_newer_name_of_the_token_limit(serve):
    def answer(body, number):
        if "max_tokens" in body:
            return error(400, "'max_tokens' is not supported, use 'max_completion_tokens' instead.")
        return choices(str(body["max_completion_tokens"]))

    found = ask(serve(answer).base, "a", "b", "c")
    assert [item.text for (item,) in found] == ["8", "8", "8"]


@pytest.mark.parametrize("first", [error(429, "slow down"), error(503, "loading"), Reply("{not json"), Reply([1])])
def test_busy_servers_are_asked_again(serve, first):
    server = serve(lambda body, number: first if number < 2 else choices("done"))
    assert ask(server.base)[0][0].text == "done"
    assert server.bodies[0] == server.bodies[1] == server.bodies[2]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(serve, form):
    def answer(body, number):
        wait = "0.4" if form == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
        return error(429, "slow down", Retry_After=wait) if number == 0 else choices("done")

    server = serve(answer)
    assert ask(server.base)[0][0].text == "done"
    assert server.times[1] - server.times[0] >= 0.4


def test_pauses_grow(serve, monkeypatch):
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.1)
    server = serve(lambda body, number: error(500, "broken") if number < 3 else choices("done"))
    ask(server.base, retries=3)
    gaps = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
    for gap, least in zip(gaps, (0.05, 0.1, 0.2), strict=True):
        assert least <= gap


def test_a_slow_answer_is_given_up_and_asked_for_again(serve):
    server = serve(lambda body, number: dataclasses.replace(choices("late"), delay=1.0 if number == 0 else 0.0))
    assert ask(server.base, timeout=0.3)[0][0].text == "late"
    assert len(server.bodies) == 2


def test_no_more_requests_than_allowed_at_once(serve):
    server = serve(lambda body, number: dataclasses.replace(choices("x"), delay=0.05))
    ask(server.base, *map(str, range(12)), concurrency=4)
    assert server.most == 4


def test_a_dead_endpoint_is_named():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(
        EngineError, match=rf"{base}/chat/completions gave no usable answer: 3 attempts in .*ConnectError"
    ):
        ask(base, "a", "b")


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (error(500, "out of memory"), "3 attempts in .* the last one: HTTP 500: out of memory"),
        (Reply("<html>hello</html>"), "not a JSON object with `choices`: '<html>hello"),
        (Reply({"choices": []}), "with no choice at all"),
    ],
)
def test_a_server_that_never_gives_an_answer(serve, reply, text):
    with pytest.raises(EngineError, match=text):
        ask(serve(lambda body, number: reply).base)


def test_a_server_that_is_always_late(serve):
    server = serve(lambda body, number: dataclasses.replace(choices("late"), delay=0.4))
    with pytest.raises(EngineError, match=r"2 attempts .* no answer within 0\.1 s"):
        ask(server.base, timeout=0.1, retries=1)


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (error(400, "context too long"), "HTTP 400: context too long"),
        (error(401, "bad key"), "HTTP 401: bad key .*`api_key_env`"),
        (error(404, "no model tiny"), "HTTP 404: no model tiny .*`api_model`"),
        (Reply({"detail": "Invalid role"}, 422), "HTTP 422"),
        (Reply("gone", 410), "HTTP 410: gone"),
    ],
)
def test_refusals_are_errors_at_once(serve, reply, text):
    server = serve(lambda body, number: reply)
    with pytest.raises(EngineError, match=text):
        ask(server.base)
    assert len(server.bodies) == 1


def test_one_refusal_ends_the_call(serve):
    def answer(body, number):
        return (
            error(400, "bad") if body["messages"][0]["content"] == "a" else dataclasses.replace(choices("x"), delay=1)
        )

    start = time.monotonic()
    with pytest.raises(EngineError, match="HTTP 400: bad"):
        ask(serve(answer).base, *"abcdefgh", concurrency=2)
    assert time.monotonic() - start < 1


def test_the_key_comes_from_the_environment_and_appears_nowhere(serve, monkeypatch):
    monkeypatch.setenv("MY_KEY", " sk-secret-1\n")
    server = serve(lambda body, number: error(401, "Incorrect API key: sk-secret-1") if number else choices("x"))
    sampler = engine(server.base, api_key_env="MY_KEY")
    sampler.generate([Request.ask("a", "a")], GREEDY, 0)
    assert server.headers[0]["Authorization"] == "Bearer sk-secret-1"
    with pytest.raises(EngineError, match="MY_KEY") as caught:
        sampler.generate([Request.ask("a", "a")], GREEDY, 0)
    assert "sk-secret-1" not in str(caught.value) + sampler.policy + str(vars(sampler))


def test_a_missing_key_is_named(serve, monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    server = serve(lambda body, number: choices("x"))
    with pytest.raises(EngineError, match="MY_KEY is not set"):
        ask(server.base, api_key_env="MY_KEY")
    assert not server.bodies


@pytest.mark.parametrize(
    "base", ["http://user:pass@host/v1", "https://host/v1?key=1", "host:8000/v1", "ftp://host", ""]
)
def test_addresses_that_cannot_be(base):
    with pytest.raises(EngineError, match="api_base") as caught:
        engine(base)
    assert "pass" not in str(caught.value).replace("password", "")


def test_a_server_with_one_model_needs_no_name(serve):
    def answer(body, number):
        return Reply({"data": [{"id": "only"}]}) if not body else choices(body["model"])

    server = serve(answer)
    sampler = engine(server.base, api_model=None)
    assert sampler.policy == f"only@{server.base}"
    assert sampler.generate([Request.ask("a", "a")], GREEDY, 0)[0][0].text == "only"
    several = serve(lambda body, number: Reply({"data": [{"id": "a"}, {"id": "b"}]}))
    with pytest.raises(EngineError, match=r"offers 2 models \(a, b\): choose one, `api_model`"):
        engine(several.base, api_model=None)


def test_it_also_runs_where_an_event_loop_runs_already(serve):
    import asyncio

    base = serve(lambda body, number: choices("x")).base

    async def notebook():
        return ask(base)

    assert asyncio.run(notebook())[0][0].text == "x"


def test_pictures_take_the_places_of_their_placeholders(tmp_path):
    files = {}
    for kind in ("png", "jpg", "webp"):
        files[kind] = tmp_path / f"a.{kind}"
        Image.new("RGB", (6, 4), (200, 10, 10)).save(files[kind])
    disguised = tmp_path / "really-a-png.jpg"
    disguised.write_bytes(files["png"].read_bytes())
    request = Request(
        "r",
        (
            Message("user", "<image>\nOne <image> and two."),
            Message("assistant", "Yes."),
            Message("user", "And<image><image>"),
        ),
        tuple(map(str, (files["png"], files["jpg"], files["webp"], disguised))),
    )
    first, second, third = chat_messages(request)
    assert [part["type"] for part in first["content"]] == ["image_url", "text", "image_url", "text"]
    assert [part["text"] for part in first["content"] if part["type"] == "text"] == ["\nOne ", " and two."]
    assert second["content"] == "Yes."
    assert [part["type"] for part in third["content"]] == ["text", "image_url", "image_url"]
    urls = [
        part["image_url"]["url"] for message in (first, third) for part in message["content"] if "text" not in part
    ]
    kinds = [url.split(";")[0].removeprefix("data:") for url in urls]
    contents = [base64.b64decode(url.split(",")[1]) for url in urls]
    assert kinds == ["image/png", "image/jpeg", "image/png", "image/png"]
    assert contents[0] == contents[3] == files["png"].read_bytes()
    assert contents[1] == files["jpg"].read_bytes()
    assert Image.open(io.BytesIO(contents[2])).size == (6, 4)


def test_bad_pictures_are_named(tmp_path):
    broken = tmp_path / "broken.webp"
    broken.write_text("nothing")
    for path in (broken, tmp_path / "missing.png"):
        with pytest.raises(EngineError, match=rf"{path.name} cannot be read"):
            chat_messages(Request.ask("r", "<image>", [str(path)]))
    with pytest.raises(EngineError, match="Request r has 0 <image> placeholders and 1 images"):
        chat_messages(Request.ask("r", "no place", [str(broken)]))
