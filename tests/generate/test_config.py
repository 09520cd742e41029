# SPDX-License-Identifier: Apache-2.0
"""Settings of engines: what is wrong is named."""

import pytest

from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.types import EngineError, SamplingParams


def test_settings_survive_a_round_trip():
    config = EngineConfig.from_dict(
        {"model": "m", "template": "qwen2_vl", "adapter": "a", "timeout": 3, "llamafactory": {"image_max_pixels": 9}}
    )
    assert config.adapter == ("a",)
    assert config.timeout == 3.0
    assert EngineConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"batchsize": 3}, "unknown key `batchsize`. Did you mean `batch_size`"),
        ({"zzz": 3}, "unknown key `zzz`. Known keys: adapter, "),
        ({"batch_size": "3"}, r"engine.batch_size: a whole number of at least 1 is expected, found '3'"),
        ({"batch_size": True}, "engine.batch_size: a whole number"),
        ({"workers": 0}, "engine.workers: a whole number of at least 1"),
        ({"name": "sglang"}, "engine.name: one of hf, vllm, openai is expected, found 'sglang'"),
        ({"adapter": [3]}, "engine.adapter: a path or a list of paths"),
        ({"ray": "yes"}, "engine.ray: true or false"),
        ({"timeout": -1}, "engine.timeout: a number of seconds above 0"),
        ({"llamafactory": ["x"]}, "engine.llamafactory: a mapping of names to values"),
        ({"llamafactory": {"hf_hub_token": "secret"}}, "engine.llamafactory: hf_hub_token would .* HF_TOKEN"),
        ({"vllm": {"hf_token": "secret"}}, "engine.vllm: hf_token would .* HF_TOKEN"),
        ({"llamafactory": {"template": "llava"}}, "engine.llamafactory.template: set `engine.template` instead"),
    ],
)
def test_wrong_settings_name_key_and_place(values, text):
    with pytest.raises(EngineError, match=text):
        EngineConfig.from_dict(values)


def test_the_place_is_named_as_the_caller_calls_it():
    with pytest.raises(EngineError, match=r"recipe.yaml, engine.workers: "):
        EngineConfig.from_dict({"workers": 0}, "recipe.yaml, engine")


def test_an_engine_needs_a_model_or_an_address():
    with pytest.raises(EngineError, match="the hf engine needs `model`"):
        EngineConfig().check()
    with pytest.raises(EngineError, match="the vllm engine needs `template`"):
        EngineConfig(name="vllm", model="m").check()
    with pytest.raises(EngineError, match="the openai engine needs `api_base`"):
        EngineConfig(name="openai").check()


def test_only_what_changes_samples_is_part_of_a_jobs_identity():
    one = EngineConfig(model="here", template="llava")
    assert one.identity() == EngineConfig(model="there", template="llava", workers=4, retries=9, ray=True).identity()
    assert one.identity() != EngineConfig(model="here", template="llava", batch_size=3).identity()


@pytest.mark.parametrize(
    "values", [{"n": 0}, {"temperature": -1}, {"top_p": 0}, {"max_new_tokens": 0}, {"stop": ("",)}]
)
def test_sampling_parameters_out_of_range_are_named(values):
    with pytest.raises(EngineError, match=f"`{next(iter(values))}` has to be "):
        SamplingParams(**values)
