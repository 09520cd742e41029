# SPDX-License-Identifier: Apache-2.0
"""The vllm engine gives what the hf engine gives."""

import dataclasses
import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText

from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.engines import build_engine
from llamafactory_mmself.generate.jobs import SampleJob, read_samples, run_job
from llamafactory_mmself.generate.types import EngineError, SamplingParams
from llamafactory_mmself.toyworld.models import TEMPLATES
from tests.generate.pictures import mixed_requests


GREEDY = SamplingParams(temperature=0.0, max_new_tokens=16, logprobs=True)
SAMPLED = SamplingParams(n=3, temperature=1.0, max_new_tokens=6)
FAMILIES = ("qwen2_vl", "llava")
# Fewer pixels than the processor allows, so that it is the template's limit that decides.
LIMIT = {"image_max_pixels": 14 * 28 * 28}


@pytest.fixture(scope="session", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="session")
def checkpoint(family, tiny_models):
    return tiny_models(family)


@pytest.fixture(scope="session")
def settings(family, checkpoint):
    return {"model": str(checkpoint), "template": TEMPLATES[family], "llamafactory": LIMIT}


@pytest.fixture(scope="session")
def adapter(checkpoint, tmp_path_factory):
    """A LoRA adapter on the language model that changes a lot."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
    config = LoraConfig(
        r=4, lora_alpha=32, init_lora_weights=False, target_modules=r".*language_model.*(q|v|down)_proj"
    )
    get_peft_model(model, config).save_pretrained(folder)
    return str(folder)


def assert_same(found, expected):
    for (one,), (other,) in zip(found, expected, strict=True):
        assert one.token_ids == other.token_ids
        assert (one.text, one.finish_reason, one.prompt_tokens) == (
            other.text,
            other.finish_reason,
            other.prompt_tokens,
        )
        if other.logprobs is not None:
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_greedy_answers_and_logprobs(engines, settings, tmp_path):
    requests = mixed_requests(tmp_path)
    found, expected = (engines(name=name, **settings).generate(requests, GREEDY, 0) for name in ("vllm", "hf"))
    assert_same(found, expected)
    assert engines(name="vllm", **settings).policy == engines(name="hf", **settings).policy


def test_stop_texts_and_repetition_penalty(engines, settings, tmp_path):
    requests = mixed_requests(tmp_path)[:2]
    hf, vllm = (engines(name=name, **settings) for name in ("hf", "vllm"))
    penalty = dataclasses.replace(GREEDY, repetition_penalty=1.5, logprobs=False)
    expected = hf.generate(requests, penalty, 0)
    assert expected != hf.generate(requests, dataclasses.replace(GREEDY, logprobs=False), 0)
    assert_same(vllm.generate(requests, penalty, 0), expected)
    words = [completion.text for (completion,) in expected]
    stopping = dataclasses.replace(penalty, stop=(words[0][6:9], words[1][4:6]))
    expected = hf.generate(requests, stopping, 0)
    assert {completion.finish_reason for (completion,) in expected} == {"stop"}
    assert_same(vllm.generate(requests, stopping, 0), expected)


def test_samples_do_not_depend_on_the_batch(engines, settings, tmp_path):
    requests = mixed_requests(tmp_path)
    engine = engines(name="vllm", **settings)
    samples = engine.generate(requests, SAMPLED, 1)
    assert all(len({completion.token_ids for completion in completions}) == 3 for completions in samples)
    assert engine.generate(requests[2:3], SAMPLED, 1) == samples[2:3]
    assert engine.generate(requests[2:3], SAMPLED, 2) != samples[2:3]


def test_an_adapter_without_merging(engines, settings, adapter, tmp_path):
    requests = mixed_requests(tmp_path)
    hf, vllm = (engines(name=name, adapter=adapter, **settings) for name in ("hf", "vllm"))
    expected = hf.generate(requests, GREEDY, 0)
    without = engines(name="hf", **settings).generate(requests, GREEDY, 0)
    assert all(one.token_ids != other.token_ids for (one,), (other,) in zip(expected, without, strict=True))
    assert_same(vllm.generate(requests, GREEDY, 0), expected)


def test_a_job_that_was_stopped_goes_on(engines, settings, tmp_path):
    engine = engines(name="vllm", **settings)
    config = EngineConfig.from_dict({"name": "vllm", "dtype": "float32", "batch_size": 2, **settings})
    requests = mixed_requests(tmp_path)
    whole = run_job(SampleJob(requests, SAMPLED, 7, tmp_path / "whole.jsonl"), config, engine=engine, progress=False)

    class Stops:
        name, policy = engine.name, engine.policy
        calls = 0

        def generate(self, *args):
            if self.calls == 2:
                raise EngineError("stopped")
            self.calls += 1
            return engine.generate(*args)

        def close(self):
            pass

    job = SampleJob(requests, SAMPLED, 7, tmp_path / "stopped.jsonl")
    with pytest.raises(EngineError, match="stopped"):
        run_job(job, config, engine=Stops(), progress=False)
    resumed = run_job(job, config, engine=engine, progress=False)
    assert resumed.read_bytes() == whole.read_bytes()
    assert len(read_samples(resumed)) == len(requests) * 3


def test_families_that_vllm_does_not_serve(tiny_models):
    settings = {"name": "vllm", "model": str(tiny_models("mllama")), "template": "mllama"}
    with pytest.raises(EngineError, match=r"does not serve MllamaForConditionalGeneration .* Use the engine `hf`"):
        build_engine(EngineConfig.from_dict(settings))


@pytest.mark.parametrize("change", ["dora", "rank", "tower", "two", "missing"])
def test_adapters_that_vllm_cannot_apply(change, tiny_models, tmp_path):
    model = tiny_models("qwen2_vl")
    facts = {"peft_type": "LORA", "r": 8, "use_dora": change == "dora", "base_model_name_or_path": str(model)}
    if change == "rank":
        facts["r"] = 1024
    (tmp_path / "adapter_config.json").write_text(json.dumps(facts))
    place = "visual" if change == "tower" else "language_model"
    save_file(
        {f"base_model.model.model.{place}.q.lora_A.weight": torch.zeros(8, 8)}, tmp_path / "adapter_model.safetensors"
    )
    if change == "missing":
        (tmp_path / "adapter_config.json").unlink()
    settings = {"name": "vllm", "model": str(model), "template": "qwen2_vl"}
    settings["adapter"] = [str(tmp_path)] * (2 if change == "two" else 1)
    text = {
        "dora": "plain LoRA only",
        "rank": "takes up to 512",
        "tower": "changes the vision tower or the projector",
        "two": "one adapter at a time",
        "missing": "cannot be read",
    }
    with pytest.raises(EngineError, match=text[change]):
        build_engine(EngineConfig.from_dict(settings))


def test_a_prompt_that_is_too_long_is_an_error(engines, settings, tmp_path):
    (request, *_) = mixed_requests(tmp_path)
    long = dataclasses.replace(request, messages=(dataclasses.replace(request.messages[0], content="word " * 3000),))
    with pytest.raises(EngineError, match="vLLM refuses a request"):
        engines(name="vllm", **settings).generate([long], GREEDY, 0)
    (after,) = engines(name="vllm", **settings).generate([request], GREEDY, 0)
    assert after[0].token_ids
