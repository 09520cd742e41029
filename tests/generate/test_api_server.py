# SPDX-License-Identifier: Apache-2.0
"""The openai engine against a real `llamafactory-cli api` with tiny models.

LLaMA-Factory's own chat, and with it its server, asks Qwen2-VL without `mm_token_type_ids`: transformers then gives
the tokens after a picture other positions than in training. The hf engine hands them over, so that for this family the
server is compared with LLaMA-Factory's chat instead.
"""

import dataclasses

import pytest
import yaml

from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.engines import build_engine
from llamafactory_mmself.generate.types import EngineError, SamplingParams
from llamafactory_mmself.plugin import lf
from llamafactory_mmself.toyworld.models import TEMPLATES
from tests.generate.pictures import mixed_requests
from tests.generate.servers import free_port, running


GREEDY = SamplingParams(temperature=0.0, max_new_tokens=12)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["llava", "qwen2_vl"])
def family(request):
    return request.param


@pytest.fixture(scope="module")
def server(family, tiny_models, clean_environment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    settings = {
        "model_name_or_path": str(tiny_models(family)),
        "template": TEMPLATES[family],
        "infer_backend": "huggingface",
        "infer_dtype": "float32",
        "top_k": 0,
    }
    (folder / "api.yaml").write_text(yaml.safe_dump(settings))
    port = free_port()
    env = clean_environment(
        API_HOST="127.0.0.1", API_PORT=str(port), API_KEY="secret", API_MODEL_NAME="tiny", OMP_NUM_THREADS="1"
    )
    with running(["llamafactory-cli", "api", str(folder / "api.yaml")], port, env, folder / "log.txt") as base:
        yield base


@pytest.fixture
def sampler(server, monkeypatch):
    monkeypatch.setenv("TINY_KEY", "secret")
    return build_engine(EngineConfig.from_dict({"name": "openai", "api_base": server, "api_key_env": "TINY_KEY"}))


def chat(engine, request):
    """What LLaMA-Factory's chat answers: text and number of prompt tokens."""
    images = list(request.images) or None
    inputs, length = lf.generation_inputs(engine.parts, engine.model, request.messages, images, GREEDY)
    inputs.pop("mm_token_type_ids", None)  # the server leaves them out
    return engine.encoder.decode(engine.model.generate(**inputs)[0, length:].tolist()), length


def test_greedy_answers_are_those_of_the_same_model_here(sampler, family, tiny_models, tmp_path):
    requests = mixed_requests(tmp_path)
    settings = {"model": str(tiny_models(family)), "template": TEMPLATES[family], "dtype": "float32"}
    engine = build_engine(EngineConfig.from_dict(settings))
    if family == "qwen2_vl":
        expected = [chat(engine, request) for request in requests]
    else:
        expected = [(one.text, one.prompt_tokens) for (one,) in engine.generate(requests, GREEDY, 0)]
    assert [(one.text, one.prompt_tokens) for (one,) in sampler.generate(requests, GREEDY, 0)] == expected


def test_several_samples(sampler, tmp_path):
    params = SamplingParams(n=3, temperature=1.0, max_new_tokens=6)
    for completions in sampler.generate(mixed_requests(tmp_path)[:2], params, 0):
        assert len({completion.text for completion in completions}) == 3
        # The server takes no seeds: now and then a text ends by itself.
        assert {completion.finish_reason for completion in completions} <= {"length", "stop"}


def test_stop_texts_are_cut_although_the_server_does_not_know_them(sampler, tmp_path):
    requests = mixed_requests(tmp_path)[:1]
    ((whole,),) = sampler.generate(requests, GREEDY, 0)
    stop = whole.text[5:7]
    ((cut,),) = sampler.generate(requests, dataclasses.replace(GREEDY, stop=(stop,)), 0)
    assert (cut.text, cut.finish_reason) == (whole.text[: whole.text.find(stop)], "stop")


def test_a_wrong_key_is_an_error_at_once(server, monkeypatch, tmp_path):
    monkeypatch.setenv("TINY_KEY", "wrong")
    config = EngineConfig.from_dict(
        {"name": "openai", "api_base": server, "api_model": "tiny", "api_key_env": "TINY_KEY"}
    )
    with pytest.raises(EngineError, match=r"HTTP 401: Invalid API key\. .*TINY_KEY"):
        build_engine(config).generate(mixed_requests(tmp_path)[:1], GREEDY, 0)
