# SPDX-License-Identifier: Apache-2.0
"""Responses of the policy in training: their log-probs are those of training, and they depend on the picture."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from PIL import Image

from llamafactory_mmself.data.questions import Question
from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.hf import HFEngine
from llamafactory_mmself.generate.requests import question_prompt, question_requests
from llamafactory_mmself.stages.ares_ppo.advantages import longest
from llamafactory_mmself.stages.ares_ppo.arguments import AresPPOArguments
from llamafactory_mmself.stages.ares_ppo.critic import attach_critic, critic_apart, critic_of, fit
from llamafactory_mmself.stages.ares_ppo.prompts import Asked
from llamafactory_mmself.stages.ares_ppo.sampling import FileSampler, QuestionSampler, sampling_params
from llamafactory_mmself.stages.ares_ppo.tree import build_tree
from llamafactory_mmself.stages.base import SettingError
from llamafactory_mmself.stages.policy_sampling import PolicySampler
from llamafactory_mmself.toyworld.models import TEMPLATES
from llamafactory_mmself.tree.actor_critic import ActorCriticScorer, ValueHead
from llamafactory_mmself.tree.packed import PackedCollator


ARGS = AresPPOArguments(rollout_n=3, rollout_max_new_tokens=6, rollout_temperature=0.7, rollout_top_k=50)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two pictures of one size."""
    folder = tmp_path_factory.mktemp("pictures")
    for colour in ("red", "blue"):
        Image.effect_noise((112, 112), 90).convert("RGB").save(folder / f"{colour}.png")
    return [str(folder / f"{colour}.png") for colour in ("red", "blue")]


@pytest.fixture(scope="module", params=["qwen2_vl", "llava", "mllama"])
def engine(request, tiny_models):
    config = EngineConfig(
        model=str(tiny_models(request.param)), template=TEMPLATES[request.param], dtype="float32", device="cpu"
    )
    made = HFEngine(config)
    attach_critic(made.model, seed=0)
    return made


def sampled(engine, pictures):
    """Rollouts of a question with a picture and of one without."""
    questions = [
        Question("seen", "What is it?", "A", (pictures[0],), ("cat", "dog")),
        Question("text", "Is ice solid?", "A", (), ("yes", "no")),
    ]
    requests = question_requests(questions, question_prompt("ares_rationale"))
    asked = [Asked(q, r, engine.encoder.encode(r).ids) for q, r in zip(questions, requests, strict=True)]
    sampler = QuestionSampler(PolicySampler(engine.encoder, engine.collate, sampling_params(ARGS), nullcontext))
    return sampler(engine.model, asked, seed=1)


def scored(engine, rollouts, packed):
    collate = PackedCollator(engine.collate) if packed else engine.collate
    trees = [build_tree(rollout, longest(rollouts)) for rollout in rollouts]
    with torch.no_grad():
        return ActorCriticScorer()(engine.model, collate(trees))


@pytest.mark.parametrize("packed", [False, True])
def test_sampling_and_training_agree_on_log_probs(engine, pictures, packed):
    rollouts = sampled(engine, pictures)
    table = scored(engine, rollouts, packed)
    for place, rollout in enumerate(rollouts):
        for number, response in enumerate(rollout.responses):
            scores = table[f"sample.{number}"]
            found = scores.logp[place][scores.mask[place]]
            torch.testing.assert_close(found, torch.tensor(response.sampled_logps), atol=1e-3, rtol=0)
            assert scores.value is not None and scores.entropy is not None
            assert (scores.entropy[place][scores.mask[place]] > 0).all()


def test_another_picture_gives_other_log_probs(engine, pictures):
    rollout, _ = sampled(engine, pictures)
    changed = replace(rollout, images=(pictures[1],))
    here, there = (scored(engine, [item], False)["sample.0"].logp for item in (rollout, changed))
    again = scored(engine, [rollout], True)["sample.0"].logp
    assert (here - there).abs().max() > 100 * (here - again).abs().max().clamp(min=1e-7)


def test_the_same_seed_gives_the_same_rollouts(engine, pictures):
    one, other = sampled(engine, pictures), sampled(engine, pictures)
    assert one == other
    assert len({response.ids for response in one[0].responses}) > 1


def test_the_critic_is_apart_while_a_model_is_saved(engine):
    head = critic_of(engine.model)
    assert any("value_head" in name for name in engine.model.state_dict())
    with critic_apart(engine.model):
        assert not any("value_head" in name for name in engine.model.state_dict())
    assert critic_of(engine.model) is head


def test_a_warm_up_learns_returns():
    torch.manual_seed(0)
    head, states = ValueHead(8), torch.randn(64, 8)
    returns, weights = states[:, 0] * 2 + 1, torch.ones(64)
    weights[:8], returns[:8] = 0, 1e6  # responses that take no part

    losses = fit(
        head,
        list(head.parameters()),
        lambda: iter([iter([(states[:32], returns[:32], weights[:32]), (states[32:], returns[32:], weights[32:])])]),
        epochs=60,
        learning_rate=1e-2,
        reduce=lambda tensor: tensor,
    )
    assert losses[-1] < 0.1 * losses[0]
    assert all(parameter.grad is None for parameter in head.parameters())


def test_ready_made_samples(engine, pictures, tmp_path):
    from llamafactory_mmself.files import write_jsonl
    from llamafactory_mmself.generate.types import Completion, Sample

    rollout, _ = sampled(engine, pictures)
    path = tmp_path / "samples.jsonl"
    made = [
        Sample(f"seen#{k}", "seen", k, "p", Completion(item.text, item.ids, item.finish_reason, item.sampled_logps))
        for k, item in enumerate(rollout.responses)
    ]
    write_jsonl(path, (sample.to_row() for sample in made))
    question = Question("seen", "What is it?", "A", (pictures[0],), ("cat", "dog"))
    asked = [Asked(question, question_requests([question], question_prompt("ares_rationale"))[0], rollout.prompt)]
    assert FileSampler(path, 3)(engine.model, asked, 0) == [rollout]
    with pytest.raises(SettingError, match="rollout_n"):
        FileSampler(path, 4)(engine.model, asked, 0)
    write_jsonl(path, [replace(made[0], completion=Completion("x", (), "stop")).to_row()])
    with pytest.raises(SettingError, match="no token ids"):
        FileSampler(path, 1)
