# SPDX-License-Identifier: Apache-2.0
"""Settings of stage `ares_ppo` that cannot work, or would do nothing, are refused before anything is loaded."""

import pytest


@pytest.fixture
def parse(tmp_path):
    from llamafactory_mmself import _autoload

    _autoload.activate()
    from llamafactory.hparams import get_train_args

    def run(**changes):
        arguments = {
            "model_name_or_path": "x",
            "stage": "ares_ppo",
            "do_train": True,
            "dataset": "x",
            "template": "qwen2_vl",
            "output_dir": str(tmp_path / "out"),
            "report_to": "none",
            "reward": "outcome",
        }
        return get_train_args({**arguments, **changes})[3]

    return run


def test_whitening_belongs_to_the_critic(parse):
    assert parse().stage_args.whiten_advantages is True
    assert parse(advantage="rloo").stage_args.whiten_advantages is False
    assert parse(ppo_epochs=3).ppo_epochs == 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"reward": "teacher"}, "needs `teacher`"),
        ({"reward": "something"}, "Unknown reward"),
        ({"teacher": "a:b"}, "would do nothing"),
        ({"advantage": "rloo", "gae_lambda": 0.5}, "gae_lambda"),
        ({"advantage": "group", "rollout_n": 1}, "rollout_n"),
        ({"advantage": "x"}, "Unknown advantage"),
        ({"critic": "adapter", "finetuning_type": "full"}, "finetuning_type: lora"),
        ({"critic": "adapter", "finetuning_type": "lora", "value_coef": 0.5}, "value_coef"),
        ({"critic": "head", "critic_lr": 0.5}, "critic_lr"),
        ({"rollout_n": 0}, "rollout_n"),
        ({"clip_range": 0.0}, "clip_range"),
        ({"gamma": 1.5}, "gamma"),
        ({"rollout_top_p": 0.0}, "rollout_top_p has to be above 0"),
        ({"include_effective_tokens_per_second": True}, "include_effective_tokens_per_second"),
        ({"ref_logps": "cache"}, "ref_logps"),
        ({"val_size": 0.1, "eval_strategy": "steps"}, "no evaluation"),
        ({"eval_tasks": "toy"}, "no tasks within training"),
        ({"rollout_samples": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"pref_beta": 0.5}, "pref_beta"),
        ({"ppo_target": 1.0}, "ppo_target"),
    ],
)
def test_what_is_refused(parse, changes, told):
    with pytest.raises(ValueError, match=told):
        parse(**changes)
