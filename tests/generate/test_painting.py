# SPDX-License-Identifier: Apache-2.0
"""The painter against a scripted images endpoint, checks of pictures, and negative pictures from both."""

import dataclasses
import io
from pathlib import Path

import pytest
from PIL import Image

from llamafactory_mmself.generate import client
from llamafactory_mmself.generate.negatives import Negative, NegativeMaker, NoNegative
from llamafactory_mmself.generate.painting import RemotePainter
from llamafactory_mmself.generate.picture_checks import PictureFilter
from llamafactory_mmself.generate.service_config import PainterConfig
from llamafactory_mmself.generate.services import (
    CheckItem,
    DescribeItem,
    NegativeCheck,
    PaintFailure,
    PaintRequest,
    Picture,
    Services,
)
from llamafactory_mmself.generate.types import EngineError
from tests.generate.fake_server import Reply, error, painted


def file_of(colour, format="PNG", size=(8, 8)):
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, format=format)
    return out.getvalue()


RED = file_of("red")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)


@pytest.fixture
def painter():
    made = []

    def make(base, cache=None, **changes):
        config = PainterConfig(api_base=(base,), api_model="flux", timeout=5.0, dead_after=10.0, retries=1, **changes)
        made.append(RemotePainter(config, "painter", cache))
        return made[-1]

    yield make
    for item in made:
        item.close()


def request(prompt="A bus.", seed=7):
    return PaintRequest("p", prompt, seed)


def pixels(picture):
    with Image.open(io.BytesIO(picture.png)) as opened:
        return opened.getpixel((0, 0))


def test_what_is_sent_and_what_comes_back(serve, painter):
    server = serve(lambda body, number: painted(file_of("red", "JPEG")))
    found = painter(server.base, extra={"quality": "high"}).paint([request()])
    assert isinstance(found[0], Picture)
    assert found[0].png.startswith(b"\x89PNG")
    assert server.paths == ["/v1/images/generations"]
    assert server.bodies[0] == {
        "model": "flux",
        "prompt": "A bus.",
        "n": 1,
        "size": "384x384",
        "response_format": "b64_json",
        "seed": 7,
        "num_inference_steps": 40,
        "guidance_scale": 7.5,
        "quality": "high",
    }


def test_servers_of_other_models_get_the_fields_that_they_take(serve, painter):
    def answer(body, number):
        return error(400, "Unknown parameter: 'response_format'") if "seed" in body else painted(RED)

    server = serve(answer)
    made = painter(server.base)
    assert [pixels(made.paint([asked])[0]) for asked in (request(), request("A car."))] == [(255, 0, 0)] * 2
    assert ["seed" in body for body in server.bodies] == [True, False, False]


def test_pictures_by_address_come_from_the_same_server_only(serve, painter):
    other = serve(lambda body, number: Reply("secret"))
    state = {}

    def answer(body, number):
        if not body:
            return Reply("", 200)
        url = f"{other.base}/x.png" if body["prompt"] == "elsewhere" else "/files/x.png"
        return Reply({"data": [{"url": url}]})

    server = serve(answer)
    state["base"] = server.base
    elsewhere, own = painter(server.base).paint([request("elsewhere"), request()])
    assert isinstance(elsewhere, PaintFailure) and "another server" in elsewhere.reason
    assert other.bodies == []
    assert isinstance(own, PaintFailure) and "cannot be read" in own.reason  # fetched, but empty
    assert "/files/x.png" in server.paths


@pytest.mark.parametrize(
    "garbage",
    [
        Reply({"data": []}),
        Reply({"data": [{"b64_json": "***"}]}),
        painted(b"no picture"),
        painted(RED[:40]),
        Reply({"data": [3]}),
        Reply({"data": [{}]}),
    ],
)
def test_garbage_is_asked_for_again_and_then_a_failure(serve, painter, garbage):
    mended = serve(lambda body, number: garbage if number == 0 else painted(RED))
    assert isinstance(painter(mended.base).paint([request()])[0], Picture)
    broken = serve(lambda body, number: garbage)
    made = painter(broken.base)
    assert isinstance(made.paint([request()])[0], PaintFailure)
    assert made.counts()["failed"] == 1


def test_refused_prompts_are_failures_of_their_own(serve, painter):
    def answer(body, number):
        return error(400, "not allowed") if body["prompt"] == "bad" else painted(RED)

    found = painter(serve(answer).base).paint([request("bad"), request("good")])
    assert found[0] == PaintFailure("refused: not allowed")
    assert isinstance(found[1], Picture)


def test_the_cache_knows_pictures_by_prompt_seed_and_policy(serve, painter, tmp_path):
    server = serve(lambda body, number: painted(RED))
    painter(server.base, tmp_path).paint([request(), request(seed=8)])
    again = painter(server.base, tmp_path)
    assert isinstance(again.paint([request()])[0], Picture)
    assert again.counts() == {"asked": 0, "cached": 1, "failed": 0}
    painter(server.base, tmp_path, steps=20).paint([request()])
    assert len(server.bodies) == 3


def test_sizes_are_checked(painter):
    with pytest.raises(EngineError, match="`size`"):
        painter("http://127.0.0.1:9/v1", size="9000x9000")


def check(picture, real=None, **changes):
    settings = {"min_difference": 0.03, "min_hash_distance": 0, **changes}
    pair = DescribeItem("p", "?", "a", "b", "", () if real is None else (str(real),))
    return PictureFilter(settings["min_difference"], settings["min_hash_distance"], None).check(
        [CheckItem(pair, "...", Picture(picture))]
    )[0]


def test_the_image_filter(shapes, tmp_path):
    content = [Path(path).read_bytes() for path in shapes]
    near = tmp_path / "near.jpg"
    with Image.open(shapes[0]) as picture:
        picture.convert("RGB").resize((60, 60)).save(near, quality=60)
    assert check(content[1], shapes[0]).kept
    assert check(content[0], shapes[0]).reason == "like the real picture"
    assert check(near.read_bytes(), shapes[0]).reason == "like the real picture"
    assert check(content[0], shapes[0], min_difference=0.0).kept
    assert check(content[1], shapes[0], min_hash_distance=64).reason == "like the real picture"
    assert check(content[0]).kept
    assert check(file_of("black"), shapes[0]).reason == "blank"
    assert check(file_of((200, 30, 30)), shapes[0]).reason == "blank"
    assert check(content[0], tmp_path / "none.png").reason == "the real picture cannot be read"
    figures = check(content[1], shapes[0]).figures
    assert 0.03 < figures["difference"] < 1 and 0 <= figures["hash_distance"] <= 64


@dataclasses.dataclass
class Scripted:
    """Describes, paints and checks as a test says; keeps what it was asked."""

    policy: str = "scripted"
    verdicts: dict = dataclasses.field(default_factory=dict)
    asked: list = dataclasses.field(default_factory=list)

    def describe(self, items):
        return [None if item.rejected == "nothing" else f"a picture of {item.rejected}" for item in items]

    def paint(self, requests):
        self.asked.append(list(requests))
        failed = PaintFailure("out of paint")
        return [failed if "unpaintable" in item.prompt else Picture(str(item.seed).encode()) for item in requests]

    def check(self, items):
        return [NegativeCheck(*self.verdicts.get(item.pair.id, [(True,)]).pop(0)) for item in items]

    def counts(self):
        return {}


def test_negative_pictures_are_painted_until_one_is_kept():
    script = Scripted(verdicts={"b": [(False, "blank"), (True,)], "c": [(False, "blank"), (False, "no")]})
    pairs = [DescribeItem(id, "?", "x", id) for id in "abc"]
    pairs += [DescribeItem("d", "?", "x", "nothing"), DescribeItem("e", "?", "x", "unpaintable")]
    script.verdicts["a"] = [(True, "", {"difference": 0.5})]
    services = Services(script, script, script, script, attempts=2)
    found = NegativeMaker(services, seed=1).make(pairs)
    first, second = ({item.id: item for item in asked} for asked in script.asked)
    assert first.keys() == {"a", "b", "c", "e"} and second.keys() == {"b", "c", "e"}
    assert found[0] == Negative(
        "a picture of a", Picture(str(first["a"].seed).encode()), first["a"].seed, {"difference": 0.5}
    )
    assert isinstance(found[1], Negative) and found[1].seed == second["b"].seed != first["b"].seed
    assert found[2] == NoNegative("no", "a picture of c")
    assert found[3] == NoNegative("no description")
    assert found[4] == NoNegative("not painted", "a picture of unpaintable", "out of paint")
    assert len({item.seed for item in first.values()}) == 4
    again = Scripted()
    NegativeMaker(Services(again, again, again, again, attempts=1), seed=1).make(pairs[:1])
    assert again.asked[0][0].seed == first["a"].seed  # the same whenever it is painted
    assert NegativeMaker(services).make([]) == []
