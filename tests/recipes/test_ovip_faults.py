# SPDX-License-Identifier: Apache-2.0
"""An offline set from services that fail: every row is the one of services that do not."""

import io
import random
import threading
import time

import pytest

from llamafactory_mmself.generate import breaker, client
from llamafactory_mmself.generate.service_config import load_services
from llamafactory_mmself.generate.services import ServiceDead
from llamafactory_mmself.generate.types import Completion, Request, Sample, SamplingParams
from llamafactory_mmself.recipes.ovip import OvipOptions, build
from llamafactory_mmself.recipes.ovip_prompts import read_prompts
from llamafactory_mmself.toyworld.chat import ToyChat
from llamafactory_mmself.toyworld.language import paint
from llamafactory_mmself.toyworld.scenes import caption, contradict
from llamafactory_mmself.toyworld.seeing import look
from llamafactory_mmself.toyworld.world import WorldOptions, write_world
from tests.generate.fake_server import GARBAGE, FakeServer, Reply, choices, error, painted


OPTIONS = OvipOptions(pair_rule="published", chunk=4)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(breaker, "FIRST_REST", 0.05)
    monkeypatch.setattr(breaker, "LONGEST_REST", 0.2)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, WorldOptions(train=1, test=1, captions=12))
    return read_prompts(folder / "captions.json")


@pytest.fixture(scope="module")
def samples(prompts):
    """A right caption and three wrong ones for each prompt."""
    dice = random.Random(0)
    found = []
    for row in prompts:
        scene = look(row.images[0])
        texts = [caption(scene)]
        for _ in range(3):
            texts.append(caption(contradict(contradict(contradict(scene, dice), dice), dice)))
        found += [
            Sample(f"{row.key}#{k}", row.key, k, "p", Completion(text, (), "stop")) for k, text in enumerate(texts)
        ]
    return found


TOY = ToyChat()


def toy_world(body):
    """The toy world's judge, describer and painter behind one address."""
    if not body:
        return Reply({"data": []})
    if "prompt" in body:
        out = io.BytesIO()
        paint(body["prompt"], 56).save(out, format="PNG")
        return painted(out.getvalue())
    request = Request.ask("x", body["messages"][0]["content"])
    return choices(TOY.generate([request], SamplingParams(), 0)[0][0].text)


def build_with(base, prompts, samples, folder, **place):
    place = {"api_base": base, "timeout": 2.0, "dead_after": 20.0, "retries": 8, **place}
    sections = {"judge": {**place, "tries": 3}, "painter": {**place, "size": "56x56"}, "checks": {"engine": "toy"}}
    with load_services(sections) as services:
        return build(prompts, samples, services, OPTIONS, folder, "set", 0)


def facts(built):
    """What makes a row, without the address of the services."""
    kept = ("chosen", "rejected", "description", "seed", "how")
    return [
        (row.id, row.chosen, row.rejected, look(row.negative), [row.provenance[name] for name in kept])
        for row in built.rows
    ]


@pytest.fixture(scope="module")
def right(prompts, samples, tmp_path_factory):
    server = FakeServer(lambda body, number: toy_world(body))
    built = build_with(server.base, prompts, samples, tmp_path_factory.mktemp("right"))
    server.close()
    assert len(built.rows) >= 10
    return built


@pytest.mark.parametrize("fault", ["fails", "late", "garbage"])
def test_random_faults_change_nothing(serve, prompts, samples, right, tmp_path, fault):
    dice = random.Random(1)

    def answer(body, number):
        if not body or dice.random() > 0.2:
            return toy_world(body)
        if fault == "late":
            return Reply(toy_world(body).body, delay=0.5)
        return error(dice.choice((500, 502, 503, 429)), "oops") if fault == "fails" else dice.choice(GARBAGE)

    built = build_with(serve(answer).base, prompts, samples, tmp_path, timeout=0.4 if fault == "late" else 2.0)
    assert facts(built) == facts(right)
    assert built.counts == right.counts


def test_an_outage_changes_nothing(serve, prompts, samples, right, tmp_path):
    first = serve(lambda body, number: toy_world(body))
    port = int(first.base.split(":")[2].removesuffix("/v1"))

    def outage():
        while len(first.bodies) < 20:
            time.sleep(0.005)
        first.close()
        time.sleep(1.5)
        serve(lambda body, number: toy_world(body), port)

    thread = threading.Thread(target=outage)
    thread.start()
    built = build_with(first.base, prompts, samples, tmp_path)
    thread.join()
    assert facts(built) == facts(right)


def test_a_dead_service_ends_the_build_which_then_goes_on(serve, prompts, samples, right, tmp_path):
    hung = []

    def answer(body, number):
        if number < 40:
            return toy_world(body)
        hung.append(time.monotonic())
        return Reply("", delay=5.0)

    first = serve(answer)
    with pytest.raises(ServiceDead, match="is dead"):
        build_with(first.base, prompts, samples, tmp_path, timeout=1.0, dead_after=2.0)
    assert time.monotonic() - hung[0] < 2.0 + 30.0
    first.close()
    port = int(first.base.split(":")[2].removesuffix("/v1"))
    again = serve(lambda body, number: toy_world(body), port)
    built = build_with(first.base, prompts, samples, tmp_path)
    assert facts(built) == facts(right)
    assert len(again.bodies) < 72  # what was finished is not asked for again
