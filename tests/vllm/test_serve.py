# SPDX-License-Identifier: Apache-2.0
"""The openai engine against a real `vllm serve`."""

import pytest

from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.engines import build_engine
from llamafactory_mmself.generate.types import EngineError, Request, SamplingParams
from tests.generate.pictures import mixed_requests
from tests.generate.servers import free_port, running
from tests.vllm.conftest import TINY, VLLM_ENVIRONMENT


GREEDY = SamplingParams(temperature=0.0, max_new_tokens=12, logprobs=True)


@pytest.fixture(scope="module")
def server(tiny_models, clean_environment, tmp_path_factory):
    port = free_port()
    command = ["vllm", "serve", str(tiny_models("qwen2_vl")), "--served-model-name", "tiny", "--enforce-eager"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    command += ["--max-model-len", str(TINY["max_model_len"]), "--max-num-seqs", str(TINY["max_num_seqs"])]
    command += ["--limit-mm-per-prompt", '{"video": 0}']
    env = clean_environment(**VLLM_ENVIRONMENT, OMP_NUM_THREADS="1")
    with running(command, port, env, tmp_path_factory.mktemp("serve") / "log.txt") as base:
        yield base


@pytest.fixture
def sampler(server):
    return build_engine(EngineConfig.from_dict({"name": "openai", "api_base": server}))


def test_greedy_answers_are_those_of_the_hf_engine(sampler, engines, tiny_models, tmp_path):
    requests = mixed_requests(tmp_path)
    hf = engines(name="hf", model=str(tiny_models("qwen2_vl")), template="qwen2_vl")
    pairs = zip(sampler.generate(requests, GREEDY, 0), hf.generate(requests, GREEDY, 0), strict=True)
    for (one,), (other,) in pairs:
        # The server may keep back a character that is not complete when the tokens end; all else is the same.
        assert other.text in (one.text, one.text + "\ufffd")
        assert (one.prompt_tokens, one.finish_reason) == (other.prompt_tokens, other.finish_reason)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_samples_are_the_same_for_the_same_seed(sampler, tmp_path):
    requests = mixed_requests(tmp_path)
    params = SamplingParams(n=3, temperature=1.0, max_new_tokens=6)
    samples = sampler.generate(requests, params, 1)
    assert all(len({completion.text for completion in completions}) == 3 for completions in samples)
    assert sampler.generate(requests[::-1], params, 1) == samples[::-1]
    assert sampler.generate(requests, params, 2) != samples


def test_what_the_server_refuses_is_told(sampler):
    with pytest.raises(EngineError, match=r"HTTP 400: .*512"):
        sampler.generate([Request.ask("long", "word " * 3000)], GREEDY, 0)
