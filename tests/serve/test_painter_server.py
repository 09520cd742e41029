# SPDX-License-Identifier: Apache-2.0
"""The painter's server: its answers, its limits, its key; and a real pipeline of diffusers."""

import base64
import io
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from llamafactory_mmself.generate.service_config import PainterConfig
from llamafactory_mmself.serve.artists import DiffusersArtist, PaintJob, ToyArtist
from llamafactory_mmself.serve.guard import Limits, ServeError
from llamafactory_mmself.serve.painter import PainterOptions, painter_app
from tests.serve.tiny_flux import build_pipeline


URL = "/v1/images/generations"


class Colours:
    """Paints pictures of one colour, which the seed says; keeps the batches."""

    def __init__(self, delay=0.0):
        self.batches = []
        self.delay = delay

    def paint(self, jobs):
        self.batches.append([job.prompt for job in jobs])
        time.sleep(self.delay)
        if any(job.prompt == "crash" for job in jobs):
            raise RuntimeError("CUDA error, with a secret path")
        return [Image.new("RGB", (job.width, job.height), (job.seed % 256, job.steps, 0)) for job in jobs]


@pytest.fixture
def client(served):
    return lambda artist=None, key=None, **changes: served(
        painter_app(artist or Colours(), PainterOptions("flux", **changes), key)
    )


def pictures(response):
    assert response.status_code == 200, response.text
    files = [base64.b64decode(item["b64_json"]) for item in response.json()["data"]]
    return [Image.open(io.BytesIO(file)) for file in files]


def told(response, status):
    assert response.status_code == status
    return response.json()["error"]["message"]


def test_pictures_as_asked_for_and_by_default(client):
    made = client()
    (picture,) = pictures(made.post(URL, json={"prompt": "A bus.", "seed": 9}))
    assert (picture.size, picture.getpixel((0, 0))) == ((384, 384), (9, 40, 0))
    body = {"prompt": "A bus.", "model": "flux", "n": 2, "seed": 9, "size": "64x32", "num_inference_steps": 3}
    one, two = pictures(made.post(URL, json={**body, "guidance_scale": 2.0, "response_format": "b64_json"}))
    assert one.size == two.size == (64, 32)
    assert (one.getpixel((0, 0)), two.getpixel((0, 0))) == ((9, 3, 0), (10, 3, 0))
    assert (
        PainterConfig().steps == PainterOptions("x").steps and PainterConfig().guidance == PainterOptions("x").guidance
    )


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 422, "prompt: Field required"),
        ({"prompt": ""}, 422, "prompt"),
        ({"prompt": "x" * 4001}, 400, "4001 characters"),
        ({"prompt": "x", "n": 5}, 400, "`n` is 5, more than 4"),
        ({"prompt": "x", "size": "big"}, 400, "`size`"),
        ({"prompt": "x", "size": "2048x2048"}, 400, "`size`"),
        ({"prompt": "x", "size": "100x100"}, 400, "multiples of 8"),
        ({"prompt": "x", "num_inference_steps": 1000}, 400, "more than 200"),
        ({"prompt": "x", "seed": -1}, 422, "seed"),
        ({"prompt": "x", "response_format": "url"}, 422, "response_format"),
        ({"prompt": "x", "model": "other"}, 404, "has the model 'flux'"),
        ({"prompt": "crash"}, 500, "RuntimeError"),  # and the connection stays
    ],
)
def test_what_is_refused(client, body, status, message):
    made = client()
    text = told(made.post(URL, json=body), status)
    assert message in text
    assert "secret" not in text
    assert len(pictures(made.post(URL, json={"prompt": "x"}))) == 1  # and goes on serving


def test_bodies_are_json_and_not_too_large(client):
    made = client(limits=Limits(body=1000))
    assert "JSON" in told(made.post(URL, content=b"x", headers={"Content-Type": "text/plain"}), 415)
    headers = {"Content-Type": "application/json"}
    assert "larger than 1000" in told(made.post(URL, content=b"{" + b" " * 2000, headers=headers), 413)
    chunks = (b" " * 400 for _ in range(5))  # without a Content-Length
    assert "larger than 1000" in told(made.post(URL, content=chunks, headers=headers), 413)
    assert told(made.post(URL, content=b"{", headers=headers), 422)
    assert told(made.get("/nowhere"), 404)


def test_the_key(client):
    made = client(key="secret")
    assert "key" in told(made.post(URL, json={"prompt": "x"}), 401)
    assert "key" in told(made.get("/v1/models", headers={"Authorization": "Bearer wrong"}), 401)
    good = {"Authorization": "Bearer secret"}
    assert made.get("/v1/models", headers=good).json()["data"][0]["id"] == "flux"
    assert len(pictures(made.post(URL, json={"prompt": "x"}, headers=good))) == 1
    assert made.get("/health").json()["status"] == "ok"


def test_requests_at_the_same_time_are_painted_together(client):
    artist = Colours(delay=0.1)
    made = client(artist, batch_size=3, window=0.1)
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda n: made.post(URL, json={"prompt": f"{n}", "size": "16x16"}), range(6)))
    assert all(response.status_code == 200 for response in found)
    assert [len(batch) for batch in artist.batches] == [3, 3]
    assert made.get("/health").json() == {"status": "ok", "models": ["flux"], "waiting": 0, "painted": 6, "batches": 2}


def test_a_full_queue_says_come_back(client):
    gate = threading.Event()

    class Slow(Colours):
        def paint(self, jobs):
            gate.wait(10)
            return super().paint(jobs)

    made = client(Slow(), limits=Limits(queue=1))
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(made.post, URL, json={"prompt": "x", "size": "16x16"})
        while made.get("/health").json()["waiting"] == 0:
            time.sleep(0.01)
        response = made.post(URL, json={"prompt": "y", "size": "16x16"})
        gate.set()
        assert first.result().status_code == 200
    assert "Too many" in told(response, 429)
    assert response.headers["Retry-After"] == "1"


def test_the_toy_artist(client):
    made = client(ToyArtist(), size=(56, 56))
    text = "The top row holds a red circle, then nothing. The bottom row holds nothing, then nothing."
    (picture,) = pictures(made.post(URL, json={"prompt": text}))
    assert picture.size == (56, 56)
    assert "toy world cannot draw" in told(made.post(URL, json={"prompt": "A bus."}), 400)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A tiny random pipeline of the default model's kind."""
    return build_pipeline(tmp_path_factory.mktemp("pipeline") / "flux")


def test_a_pipeline_of_diffusers_paints_by_seed_whatever_the_batch(pipeline, client):
    artist = DiffusersArtist(str(pipeline), device="cpu")
    jobs = [PaintJob(prompt, seed, 32, 32, 2, 7.5) for prompt, seed in (("a bus", 1), ("a bus", 2), ("a dog", 1))]
    together = [list(picture.getdata()) for picture in artist.paint(jobs)]
    alone = [list(artist.paint([job])[0].getdata()) for job in jobs]
    for one, other in zip(together, alone, strict=True):
        assert max(abs(a - b) for p, q in zip(one, other, strict=True) for a, b in zip(p, q, strict=True)) <= 1
    assert together[0] != together[1] != together[2] != together[0]
    made = client(artist, size=(32, 32), steps=2)
    assert pictures(made.post(URL, json={"prompt": "a bus", "seed": 1}))[0].size == (32, 32)


def test_models_that_are_no_pipelines_are_told(tmp_path):
    with pytest.raises(ServeError, match="cannot be loaded as a pipeline"):
        DiffusersArtist(str(tmp_path), device="cpu")


def test_without_diffusers_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ServeError, match=r"pip install 'llamafactory-mmself\[serve\]'"):
        DiffusersArtist("x")
