# SPDX-License-Identifier: Apache-2.0
"""Stage `ares_ppo` in whole runs, as users start them."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file

from llamafactory_mmself.toyworld.models import TEMPLATES

from .conftest import same_weights


EXACT = "llamafactory_mmself.toyworld.teacher:exact"


@pytest.fixture(scope="module")
def toy_questions(tmp_path_factory):
    """Questions of the toy world, registered as `toy_train`."""
    from llamafactory_mmself.cli import main

    folder = tmp_path_factory.mktemp("toy")
    assert main(["toy", "data", "--out", str(folder), "--train", "8", "--test", "4", "--captions", "4"]) == 0
    return folder


#: Pays letters of a text, so that responses of random models differ in what they are worth.
REWARDS = """
def letters(answers):
    return [[(place + 1, ord(letter) % 7 / 7 - 0.5) for place, letter in enumerate(a.text)] for a in answers]

def vowels(answers):
    pay = lambda letter: 1.0 if letter in "aeiou" else -1.0
    return [[(n + 1, pay(letter)) for n, letter in enumerate(a.text)] for a in answers]

def some(answers):
    return [None if place == 0 else [(len(a.text), 1.0)] for place, a in enumerate(answers)]
"""


@pytest.fixture
def ppo(tiny_models, toy_questions, tmp_path, monkeypatch):
    """Arguments of a small run; keyword arguments change them, None removes one."""

    (tmp_path / "own_rewards.py").write_text(REWARDS)
    monkeypatch.syspath_prepend(tmp_path)

    def make(family="qwen2_vl", **changes):
        arguments = {
            "model_name_or_path": str(tiny_models(family)),
            "stage": "ares_ppo",
            "do_train": True,
            "finetuning_type": "lora",
            "dataset": "toy_train",
            "dataset_dir": str(toy_questions),
            "template": TEMPLATES[family],
            "output_dir": str(tmp_path / "run"),
            "report_to": "none",
            "logging_steps": 1,
            "save_strategy": "no",
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 2,
            "max_samples": 4,
            "num_train_epochs": 1,
            "cutoff_len": 512,
            "seed": 7,
            "rollout_prompt": "r3v_cot",
            "rollout_n": 2,
            "rollout_prompts": 4,
            "rollout_batch_size": 2,
            "rollout_max_new_tokens": 8,
            "ppo_epochs": 2,
            "reward": "own_rewards:letters",
            "critic_warmup_epochs": 1,
        }
        return {name: value for name, value in {**arguments, **changes}.items() if value is not None}

    return make


@pytest.mark.parametrize("family", ["qwen2_vl", "llava"])
def test_a_run_logs_what_it_does(ppo, train, family):
    result = train(ppo(family))
    assert len(result.losses) == 4
    assert all(map(math.isfinite, result.losses))
    assert max(result.logged("sampling_gap")) < 1e-3  # generate and teacher forcing agree
    assert result.logged("ratio_deviation")[0] < 1e-5
    assert {"reward", "policy_entropy", "value_loss", "reference_kl", "clip_fraction"} <= set(result.history[0])
    assert load_file(result.folder / "value_head.safetensors")
    (lines,) = [path.read_text().splitlines() for path in sorted((result.folder / "rollouts").iterdir())]
    assert len(lines) == 4
    assert len(json.loads(lines[0])["responses"]) == 2


def test_critic_free_advantages_and_outcomes(ppo, train):
    changes = {"critic_warmup_epochs": None, "ppo_epochs": 1}
    rloo = train(ppo(advantage="rloo", reward="outcome", verifier="toy", **changes))
    assert {"unparsed", "reward"} <= set(rloo.history[0])
    assert not (rloo.folder / "value_head.safetensors").exists()
    group = train(ppo(advantage="group", kl_coef=0, entropy_coef=0.01, **changes))
    assert len(group.losses) == 2
    assert "value_loss" not in group.history[0]


def test_a_killed_run_goes_on_inside_its_buffer(ppo, train, tmp_path):
    """Step 3 of 4 lies in the second pass over the first of two buffers."""
    arguments = ppo(num_train_epochs=2, save_strategy="steps", save_steps=1)
    whole = train(arguments)
    assert len(whole.losses) == 8
    for number in (3, 4):
        folder = tmp_path / f"resumed{number}"
        shutil.copytree(whole.folder / f"checkpoint-{number}", folder / f"checkpoint-{number}")
        checkpoint = str(folder / f"checkpoint-{number}")
        resumed = train({**arguments, "output_dir": str(folder), "resume_from_checkpoint": checkpoint})
        assert same_weights(whole, resumed)
        head = "value_head.safetensors"
        one, other = load_file(whole.folder / head), load_file(resumed.folder / head)
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_whole_models_resume_without_the_critic_in_their_weights(ppo, train, tmp_path):
    arguments = ppo(finetuning_type="full", save_strategy="steps", save_steps=2, ppo_epochs=2, kl_coef=0.01)
    whole = train(arguments)
    assert not any("value_head" in name for name in whole.weights)
    folder = tmp_path / "resumed"
    shutil.copytree(whole.folder / "checkpoint-2", folder / "checkpoint-2")
    checkpoint = str(folder / "checkpoint-2")
    resumed = train({**arguments, "output_dir": str(folder), "resume_from_checkpoint": checkpoint})
    assert same_weights(whole, resumed)


def test_a_critic_with_an_adapter_of_its_own(ppo, train, tmp_path):
    """It learns, the policy does not feel it, only its own file holds it, and a killed run has it back."""
    own = {"critic": "adapter", "critic_lr": 1e-2, "critic_epochs": 2, "value_coef": None}
    arguments = ppo(num_train_epochs=2, save_strategy="steps", save_steps=1, **own)
    whole = train(arguments)
    assert "value_loss" not in whole.history[0]
    assert whole.logged("ratio_deviation")[0] < 1e-5
    critic = load_file(whole.folder / "value_head.safetensors")
    learnt = [tensor for name, tensor in critic.items() if "lora_B.critic" in name]
    assert learnt and all(tensor.abs().max() > 0 for tensor in learnt)
    assert not any("critic" in name for name in whole.weights)
    assert not (whole.folder / "critic").exists()
    folder = tmp_path / "resumed"
    shutil.copytree(whole.folder / "checkpoint-3", folder / "checkpoint-3")
    checkpoint = str(folder / "checkpoint-3")
    resumed = train({**arguments, "output_dir": str(folder), "resume_from_checkpoint": checkpoint})
    assert same_weights(whole, resumed)
    again = load_file(resumed.folder / "value_head.safetensors")
    assert all(torch.equal(critic[name], again[name]) for name in critic)


@pytest.mark.trajectory
def test_packed_and_dense_runs_agree(ppo, train, recorded):
    dense = train(ppo(tree_forward="dense"))
    recorded("ares_ppo", dense, "reward")
    packed = train(ppo(tree_forward="packed"))
    assert packed.losses == pytest.approx(dense.losses, abs=1e-4)


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("critic", ["shared", "adapter"])
def test_two_ranks_train_as_one(ppo, train, train_cli, tmp_path, critic):
    """On ragged buffers, too: 3 prompts in steps of 2; a critic with an adapter of its own is fitted by all."""
    changes = {"max_samples": 3, "rollout_prompts": 3, "rollout_batch_size": 1, "per_device_train_batch_size": 1}
    changes |= {"reward": "teacher", "teacher": EXACT, "critic": critic}
    changes |= {"num_train_epochs": 2} if critic == "adapter" else {}
    changes |= {"optim": "sgd", "learning_rate": 0.05}  # Adam makes much of gradients that are all but 0
    one = train(ppo(gradient_accumulation_steps=2, **changes))
    losses, weights = one.losses, one.weights
    two = train_cli(ppo(output_dir=str(tmp_path / "two"), **changes), ranks=2)
    assert two.losses == pytest.approx(losses, abs=1e-5)
    for name, tensor in two.weights.items():
        torch.testing.assert_close(tensor, weights[name], atol=1e-5, rtol=1e-4)


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("critic", ["shared", "adapter"])
def test_two_ranks_under_zero_2(ppo, train, train_cli, deepspeed_config, tmp_path, critic):
    """Optimizer and gradients dealt out: the curve of one rank, rollouts and critic included."""
    changes = {"rollout_batch_size": 1, "per_device_train_batch_size": 1, "num_train_epochs": 2, "critic": critic}
    changes |= {"reward": "teacher", "teacher": EXACT, "optim": "sgd", "learning_rate": 0.05}
    one = train(ppo(gradient_accumulation_steps=2, **changes))
    losses, rewards = one.losses, one.logged("reward")
    two = train_cli(ppo(output_dir=str(tmp_path / "two"), deepspeed=deepspeed_config(2), **changes), 2)
    assert two.losses == pytest.approx(losses, abs=1e-4)
    assert two.logged("reward") == pytest.approx(rewards, abs=1e-5)
    assert load_file(two.folder / "value_head.safetensors")


@pytest.mark.slow
def test_a_policy_learns_what_pays(ppo, train):
    """A random model writes ever more vowels when these are paid for."""
    changes = {"rollout_n": 8, "rollout_batch_size": 4, "per_device_train_batch_size": 4, "ppo_epochs": 2}
    changes |= {"finetuning_type": "full", "learning_rate": 3e-3, "num_train_epochs": 25, "kl_coef": 0}
    changes |= {"lr_scheduler_type": "constant"}
    warm = {"critic_warmup_epochs": None}
    result = train(ppo(reward="own_rewards:vowels", advantage="rloo", **changes, **warm))
    rewards = result.logged("reward")
    assert rewards[-1] > rewards[0] + 10


def test_guards_end_the_passes_over_a_buffer(ppo, train):
    result = train(ppo(num_train_epochs=2, ppo_epochs=3, target_kl=1e-9, learning_rate=1e-2))
    assert result.logged("buffer") == [1.0, 1.0, 2.0, 2.0]  # a first step is never over the target
    low = train(ppo(num_train_epochs=2, ppo_epochs=3, min_entropy=1e9))
    assert low.logged("buffer") == [1.0, 2.0]


def test_left_out_responses_take_no_part(ppo, train):
    result = train(ppo(reward="own_rewards:some", ppo_epochs=1))
    assert result.logged("failed") == [1 / 8, 1 / 8]
