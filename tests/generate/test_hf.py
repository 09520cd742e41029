# SPDX-License-Identifier: Apache-2.0
"""The hf engine: batches change nothing but the speed."""

from dataclasses import replace

import pytest
import torch

from llamafactory_mmself.generate.encoding import inference_arguments
from llamafactory_mmself.generate.hf import HFEngine
from llamafactory_mmself.generate.policy import policy_of
from llamafactory_mmself.generate.types import EngineError, Request, SamplingParams


GREEDY = SamplingParams(temperature=0, max_new_tokens=20, logprobs=True)
CHANCE = SamplingParams(n=3, max_new_tokens=12)


def tokens(found):
    """Ids of all completions."""
    return [[one.token_ids for one in completions] for completions in found]


def test_batched_greedy_equals_one_at_a_time(family_engine, mixed):
    engine = family_engine
    engine.config = replace(engine.config, batch_size=len(mixed))
    batched = engine.generate(mixed, GREEDY, 0)
    for request, (together,) in zip(mixed, batched, strict=True):
        ((alone,),) = engine.generate([request], GREEDY, 0)
        assert together.token_ids == alone.token_ids, request.id
        assert together.logprobs == pytest.approx(alone.logprobs, abs=1e-4)
        assert together.prompt_tokens == len(engine.encoder.encode(request).ids)


def test_greedy_equals_the_models_own_generate(family_engine, mixed):
    engine = family_engine
    batched = engine.generate(mixed, GREEDY, 0)
    engine.collate, collate = None, engine.collate
    try:
        plain = engine.generate(mixed, GREEDY, 0)
    finally:
        engine.collate = collate
    assert tokens(batched) == tokens(plain)
    for (one,), (other,) in zip(batched, plain, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert (one.text, one.finish_reason) == (other.text, other.finish_reason)


def test_each_distinct_picture_is_encoded_once(tiny_engine, mixed):
    engine = tiny_engine("qwen2_vl")
    engine.config = replace(engine.config, batch_size=8)
    pictures = []
    hook = engine.model.model.visual.register_forward_pre_hook(
        lambda module, args, kwargs: pictures.append(len(kwargs["grid_thw"])), with_kwargs=True
    )
    with hook:
        engine.generate(mixed, CHANCE, 0)
    assert pictures == [3]


def test_a_prompt_is_read_once_for_all_its_samples(tiny_engine, mixed):
    engine = tiny_engine("llava")
    sizes = []
    hook = engine.model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    with hook:
        found = engine.generate(mixed[:2], CHANCE, 0)
    assert sizes[0][0] == 2 and sizes[0][1] > 1
    assert sizes[1] == (6, 1)
    assert all(width == 1 for _, width in sizes[1:])
    assert [len(completions) for completions in found] == [3, 3]


def test_finished_answers_leave_the_batch(tiny_engine, mixed):
    engine = tiny_engine("qwen2_vl")
    everything = tuple(range(0, len(engine.encoder.rows.tokenizer), 2))
    rows = []
    hook = engine.model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    plain, engine.encoder = engine.encoder, replace(engine.encoder, stop_ids=everything)
    try:
        with hook:
            found = engine.generate(mixed[:2], SamplingParams(n=8, max_new_tokens=30), 1)
    finally:
        engine.encoder = plain
    steps = rows[1:]
    assert steps == sorted(steps, reverse=True)
    assert sum(steps) < 8 + sum(len(one.token_ids) for completions in found for one in completions)
    assert all(one.finish_reason == "stop" and one.token_ids[-1] in everything for row in found for one in row)


def test_same_seed_same_samples_and_the_callers_chance_is_left_alone(tiny_engine, mixed):
    engine = tiny_engine("qwen2_vl")
    state = torch.get_rng_state()
    first = engine.generate(mixed, CHANCE, 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert engine.generate(mixed, CHANCE, 5) == first
    assert engine.generate(mixed, CHANCE, 6) != first
    assert all(len(set(found)) == 3 for found in tokens(first))


def test_samples_follow_the_models_distribution(tiny_engine, mixed):
    engine = tiny_engine("qwen2_vl")
    params = SamplingParams(n=4000, top_k=3, temperature=0.5, max_new_tokens=1, logprobs=True)
    (found,) = engine.generate(mixed[:1], params, 0)
    seen = {}
    for one in found:
        seen.setdefault(one.token_ids[0], []).append(one.logprobs[0])
    assert len(seen) == 3
    raw = torch.tensor([values[0] for values in seen.values()])
    expected = (raw / 0.5).softmax(0)
    shares = torch.tensor([len(values) / 4000 for values in seen.values()])
    assert torch.allclose(shares, expected, atol=0.03)


def test_logprobs_are_those_of_a_plain_forward(tiny_engine, mixed):
    engine = tiny_engine("llava")
    request = mixed[2]
    ((one, *_),) = engine.generate([request], replace(CHANCE, temperature=1.7, top_p=0.8, logprobs=True), 3)
    prompt = engine.encoder.encode(request).ids
    ids = torch.tensor([[*prompt, *one.token_ids]])
    with torch.no_grad():
        logits = engine.model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
    expected = logits.log_softmax(-1).gather(1, ids[0, len(prompt) :, None])[:, 0]
    assert one.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


def test_the_repetition_penalty_equals_the_models_own(tiny_engine, mixed):
    engine = tiny_engine("qwen2_vl")
    params = SamplingParams(temperature=0, repetition_penalty=1.3, max_new_tokens=20)
    batched = engine.generate(mixed, params, 0)
    assert tokens(batched) != tokens(engine.generate(mixed, GREEDY, 0))
    engine.collate, collate = None, engine.collate
    try:
        assert tokens(engine.generate(mixed, params, 0)) == tokens(batched)
    finally:
        engine.collate = collate


def test_a_stop_text_ends_an_answer_and_is_cut_off(tiny_engine, mixed):
    engine = tiny_engine("qwen2_vl")
    ((whole,),) = engine.generate(mixed[1:2], GREEDY, 0)
    stop = whole.text[8:12]
    cut = whole.text.index(stop)
    ((one,),) = engine.generate(mixed[1:2], replace(GREEDY, stop=(stop,)), 0)
    assert (one.text, one.finish_reason) == (whole.text[:cut], "stop")
    assert one.token_ids == whole.token_ids[: len(one.token_ids)]
    assert len(one.token_ids) < len(whole.token_ids)


def test_a_missing_model_or_template_is_an_error_in_one_line(tiny_config, tmp_path):
    with pytest.raises(EngineError, match="There is no folder"):
        HFEngine(replace(tiny_config(), model=str(tmp_path / "none")))
    with pytest.raises(EngineError, match="nonsense"):
        HFEngine(replace(tiny_config(), template="nonsense"))
    with pytest.raises(EngineError, match=r"cannot be loaded for sampling: .*not_an_argument"):
        HFEngine(replace(tiny_config(), llamafactory={"not_an_argument": 1}))


def test_a_picture_for_a_text_template_names_the_request(tiny_engine, shapes):
    with pytest.raises(EngineError, match="Request 'a' cannot be encoded"):
        tiny_engine("qwen2_vl").generate([Request.ask("a", "no placeholder", [shapes[0]])], GREEDY, 0)


@pytest.fixture
def adapter(tiny_engine, tiny_config, tmp_path):
    """A LoRA adapter that changes the model."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(tiny_config().model)
    peft = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    peft.save_pretrained(tmp_path / "adapter")
    return str(tmp_path / "adapter")


def test_an_adapter_changes_answers_and_policy(tiny_engine, tiny_config, mixed, adapter):
    config = tiny_config(adapter=adapter)
    assert inference_arguments(config)["adapter_name_or_path"] == adapter
    engine = HFEngine(config)
    plain = tiny_engine("qwen2_vl")
    assert engine.policy.startswith("adapter-") and engine.policy != plain.policy
    assert tokens(engine.generate(mixed, GREEDY, 0)) != tokens(plain.generate(mixed, GREEDY, 0))


def test_the_policy_is_known_by_content(tiny_config, tmp_path):
    import shutil

    config = tiny_config()
    shutil.copytree(config.model, tmp_path / "copy")
    copied = replace(config, model=str(tmp_path / "copy"))
    assert policy_of(copied).split("-")[-1] == policy_of(config).split("-")[-1]
    weights = tmp_path / "copy" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert policy_of(copied).split("-")[-1] != policy_of(config).split("-")[-1]
    assert policy_of(replace(config, template="llava")) != policy_of(config)
