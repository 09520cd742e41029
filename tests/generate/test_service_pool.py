# SPDX-License-Identifier: Apache-2.0
"""Services that fail at random, answer late, talk nonsense, go away for a while, or for good."""

import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from llamafactory_mmself.generate import breaker, client
from llamafactory_mmself.generate.client import Endpoint, Refused
from llamafactory_mmself.generate.service_pool import ServicePool, Unanswered
from llamafactory_mmself.generate.services import ServiceDead
from llamafactory_mmself.generate.types import EngineError
from tests.generate.fake_server import Reply, choices, error


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(client, "LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(breaker, "FIRST_REST", 0.05)
    monkeypatch.setattr(breaker, "LONGEST_REST", 0.2)


@pytest.fixture
def pool():
    pools = []

    def make(*bases, timeout=5.0, dead_after=10.0, concurrency=8, retries=4, name="judge"):
        endpoints = [Endpoint.at(base, "OPENAI_API_KEY", concurrency, timeout, retries) for base in bases]
        pools.append(ServicePool(name, endpoints, dead_after))
        return pools[-1]

    yield make
    for made in pools:
        made.close()
        made.close()  # twice is no error


def scripted(answer):
    """Probes get a list of models; everything else is up to the test."""
    return lambda body, number: answer(body, number) if body else Reply({"data": []})


def echo(body, number):
    return choices(body["text"])


def ask(pool, *texts):
    """Answers by text; a request that was given up has None."""

    async def one(text):
        try:
            answer = await pool.post("/chat/completions", "choices", {"text": text})
        except Unanswered:
            return None
        return answer.body["choices"][0]["message"]["content"]

    return pool.run([lambda text=text: one(text) for text in texts])


TEXTS = [f"t{number}" for number in range(60)]


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_requests_are_spread_evenly(serve, pool):
    servers = [serve(scripted(lambda body, number: Reply(echo(body, number).body, delay=0.02))) for _ in range(3)]
    assert ask(pool(*(server.base for server in servers), concurrency=4), *TEXTS) == TEXTS
    assert all(15 <= len(server.bodies) <= 25 for server in servers)
    assert all(server.most <= 4 for server in servers)


def test_the_limit_of_an_endpoint_holds_for_all_threads(serve, pool):
    server = serve(scripted(lambda body, number: Reply(echo(body, number).body, delay=0.02)))
    made = pool(server.base, concurrency=3)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: ask(made, *TEXTS[:8]), range(4)))
    assert found == [TEXTS[:8]] * 4
    assert server.most == 3


def test_a_fifth_of_the_requests_failing_loses_nothing(serve, pool):
    dice = random.Random(3)

    def answer(body, number):
        if dice.random() < 0.2:
            return dice.choice([error(500, "oops"), Reply("no JSON at all"), error(503, "busy"), Reply({"x": 1})])
        return echo(body, number)

    made = pool(serve(scripted(answer)).base, retries=8)
    assert ask(made, *TEXTS) == TEXTS
    assert made.counts["lost"] > 3


def test_late_answers_are_asked_for_again(serve, pool):
    def answer(body, number):
        return Reply(echo(body, number).body, delay=0.6 if number < 3 else 0.0)

    made = pool(serve(scripted(answer)).base, timeout=0.3)
    assert ask(made, *TEXTS[:10]) == TEXTS[:10]
    assert made.counts["lost"] >= 3


def test_what_one_request_makes_the_server_say_is_its_own_affair(serve, pool):
    def answer(body, number):
        return Reply("<html>garbage</html>") if body["text"] == "t3" else echo(body, number)

    server = serve(scripted(answer))
    found = ask(pool(server.base, retries=2), *TEXTS[:8])
    assert found == [None if text == "t3" else text for text in TEXTS[:8]]
    assert sum(body.get("text") == "t3" for body in server.bodies) == 3


def test_a_lone_bad_request_does_not_make_the_service_dead(serve, pool):
    def answer(body, number):
        return error(500, "no") if body["text"] == "bad" else echo(body, number)

    made = pool(serve(scripted(answer)).base, retries=6, dead_after=30.0)
    assert ask(made, "bad") == [None]
    assert ask(made, "good") == ["good"]


def test_a_service_that_comes_back_gets_what_waited(serve, pool, capfd):
    port = closed_port()
    first = serve(scripted(lambda body, number: Reply(echo(body, number).body, delay=0.02)), port)
    made = pool(first.base, concurrency=4, retries=2)
    back = threading.Timer(1.2, lambda: serve(scripted(echo), port))

    def go_away():
        while len(first.bodies) < 8:
            time.sleep(0.005)
        first.close()
        back.start()

    threading.Thread(target=go_away).start()
    assert ask(made, *TEXTS) == TEXTS
    assert made.counts["outages"] >= 1
    told = capfd.readouterr().err
    assert "does not answer" in told and "answers again" in told
    back.join()


def test_one_dead_endpoint_of_two_costs_little(serve, pool):
    server = serve(scripted(echo))
    made = pool(f"http://127.0.0.1:{closed_port()}/v1", server.base)
    assert ask(made, *TEXTS) == TEXTS
    assert made.counts["lost"] < 30


@pytest.mark.parametrize("hangs", [False, True])
def test_a_service_that_is_dead_for_good_ends_the_run_in_time(serve, pool, hangs):
    base = f"http://127.0.0.1:{closed_port()}/v1"
    if hangs:
        base = serve(lambda body, number: Reply("", delay=1.0)).base
    made = pool(base, timeout=0.3, dead_after=0.8, name="painter")
    start = time.monotonic()
    with pytest.raises(ServiceDead, match=rf"painter at {base} is dead: nothing was answered for 0\.8 s") as raised:
        ask(made, *TEXTS)
    assert 0.7 < time.monotonic() - start < 5.0
    assert raised.value.service == "painter"
    assert "what is finished stays" in str(raised.value)


def test_a_dead_service_is_tried_again_by_a_later_call(serve, pool):
    port = closed_port()
    made = pool(f"http://127.0.0.1:{port}/v1", timeout=0.3, dead_after=0.5)
    with pytest.raises(ServiceDead):
        ask(made, "a")
    serve(scripted(echo), port)
    assert ask(made, "a") == ["a"]


def test_a_service_that_only_fails_is_dead_too(serve, pool):
    made = pool(serve(scripted(lambda body, number: error(500, "out of memory"))).base, dead_after=1.0, timeout=1.0)
    start = time.monotonic()
    with pytest.raises(ServiceDead, match="out of memory"):
        while time.monotonic() - start < 5:
            ask(made, *TEXTS[:4])


def test_time_without_requests_is_no_silence(serve, pool):
    failing = {"now": True}

    def answer(body, number):
        return error(500, "no") if failing["now"] else echo(body, number)

    made = pool(serve(scripted(answer)).base, retries=0, dead_after=0.5, timeout=0.5)
    assert ask(made, "a") == [None]
    time.sleep(0.6)
    assert ask(made, "a") == [None]
    failing["now"] = False
    assert ask(made, "a") == ["a"]


def test_refusals_are_told_and_do_not_count_as_silence(serve, pool):
    made = pool(serve(scripted(lambda body, number: error(422, "no such field"))).base)
    with pytest.raises(Refused, match="no such field"):
        ask(made, "a")
    assert not made.answered


def test_a_key_that_is_not_set_is_told_before_anything_is_asked():
    with pytest.raises(EngineError, match="environment variable NO_SUCH_KEY is not set"):
        ServicePool("judge", [Endpoint.at("http://127.0.0.1:9/v1", "NO_SUCH_KEY", 1, 1.0, 0)], 2.0)


def test_a_breaker_tries_carefully():
    made = breaker.Breaker()
    assert [made.failed(0.0) for _ in range(breaker.THRESHOLD)] == [False] * (breaker.THRESHOLD - 1) + [True]
    assert (made.state, made.admits(0), made.due) == ("open", False, breaker.FIRST_REST)
    made.probed(False, 1.0)
    assert made.due == 1.0 + 2 * breaker.FIRST_REST
    made.probed(True, 2.0)
    assert made.admits(0) and not made.admits(1)
    assert made.failed(3.0) and made.state == "open"
    made.probed(True, 4.0)
    made.succeeded()
    assert made.state == "closed" and made.admits(100)
    assert not made.failed(5.0)
