# SPDX-License-Identifier: Apache-2.0
"""What users may write, and what they are told when it is wrong."""

import pytest


pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def parse():
    """LLaMA-Factory's parser with the plugin."""
    from llamafactory_mmself import _autoload

    _autoload.activate()
    from llamafactory.hparams import get_train_args

    return get_train_args


@pytest.mark.parametrize("spelling", ["mdpo", "MDPO", " mDPO "])
def test_stage_names_in_any_case(settings, parse, spelling):
    finetuning = parse(settings(stage=spelling))[3]
    assert (finetuning.stage, finetuning.plugin_stage) == ("dpo", "mdpo")
    assert finetuning.use_ref_model


def test_stock_stages_are_what_they_were(settings, parse):
    finetuning = parse(settings(stage="dpo", strategy=None))[3]
    assert (finetuning.stage, finetuning.plugin_stage, finetuning.stage_args) == ("dpo", None, None)


@pytest.mark.parametrize("as_list", [True, False])
def test_unknown_stages_list_the_known_ones(settings, parse, as_list):
    arguments = settings(stage="mdop")
    given = [f"--{key}={value}" for key, value in arguments.items()] if as_list else arguments
    with pytest.raises(ValueError, match=r"Unknown stage `mdop`\. Did you mean `mdpo`\?.*pt, sft, rm, ppo, dpo, kto"):
        parse(given)


@pytest.mark.parametrize("stage", ["dpo", "sft"])
def test_arguments_of_our_stage_in_a_stock_stage(settings, parse, stage):
    with pytest.raises(ValueError, match=f"Stage `{stage}` does not take these arguments: `strategy` belongs to mdpo"):
        parse(settings(stage=stage))


def test_unknown_keys_get_a_suggestion(settings, parse):
    with pytest.raises(ValueError, match=r"does not know `anchor_ration` \(did you mean `anchor_ratio`\?\)"):
        parse(settings(anchor_ration=1))
    with pytest.raises(ValueError, match="does not know `strategie`"):
        parse(["--stage", "mdpo", "--output_dir", "x", "--strategie", "orm"])


@pytest.mark.parametrize(
    ("key", "value"),
    [("packing", True), ("pref_bco_weight", 0.5), ("temperature", 0.2), ("kto_chosen_weight", 2.0), ("ld_alpha", 0.5)],
)
def test_keys_without_effect_are_refused(settings, parse, key, value):
    with pytest.raises(ValueError, match=f"would ignore `{key}`"):
        parse(settings(**{key: value}))


def test_keys_at_their_default_are_fine(settings, parse):
    parse(settings(packing=False, temperature=0.95, use_swanlab=False))


def test_what_upstream_refuses_for_the_base_is_refused(settings, parse):
    with pytest.raises(ValueError, match="neat_packing"):
        parse(settings(neat_packing=True))
    with pytest.raises(ValueError, match="dpo_label_smoothing"):
        parse(settings(dpo_label_smoothing=0.1, pref_loss="hinge"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strategy": "online-orm"}, "samples during training"),
        ({"strategy": "orn"}, "Unknown strategy"),
        ({"pref_loss": "kto_pair"}, "not a loss of pairs"),
        ({"strategy": "ori-mdpo", "vtcl_mode": "sameBatch"}, "no second direction"),
        ({"anchor_ratio": -1.0}, "0 or more"),
        ({"pref_loss": "simpo", "anchor_ratio": 0.5}, "no reference to anchor to"),
        ({"strategy": "dpo", "not_half_dpo_loss": True}, "`not_half_dpo_loss` would do nothing"),
        ({"neg_anchor_ratio": 0.5}, "`neg_anchor_ratio` would do nothing"),
        ({"simpo_gamma": 0.7}, "`simpo_gamma` would do nothing"),
        ({"strategy": "sft", "pref_beta": 0.3}, "`pref_beta` would do nothing"),
        ({"pref_loss": "orpo", "ref_model": "/nowhere"}, "`ref_model` would do nothing"),
        ({"lora_dropout": 0.1}, "would ignore `lora_dropout`"),
    ],
)
def test_settings_that_cannot_work_say_why(settings, parse, changes, words):
    with pytest.raises(ValueError, match=words):
        parse(settings(**changes))


def test_anchor_default_follows_the_paper(settings, parse):
    ratios = {
        strategy: parse(settings(strategy=strategy))[3].stage_args.anchor_ratio for strategy in ("mdpo", "dpo", "orm")
    }
    assert ratios == {"mdpo": 0.999, "dpo": 0.0, "orm": 0.0}


def test_online_arguments_are_accepted_and_warn(settings, parse, caplog, capfd):
    parse(settings(experience_buffer=True, exp_per_batch=1, ds_path="x.json"))
    printed = capfd.readouterr()
    assert "`exp_per_batch` is read by online strategies only" in printed.err + printed.out + caplog.text


ONLINE = {"strategy": "online-orm", "ds_path": "prompts.json", "services": "toy", "dataset": None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"services": None}, "needs `services`"),
        ({"ds_path": None}, "needs `ds_path`"),
        ({"pair_rule": "papers"}, "published, paper, robust"),
        ({"online_only_strategy": "additional"}, "without `online_only`"),
        ({"online_only": True, "online_only_strategy": "more"}, "Unknown online_only_strategy"),
        ({"ref_logps": "cache"}, "remove `ref_logps`"),
        ({"rollout_n": 0}, "rollout_n has to be at least 1"),
        ({"rollout_top_p": 1.5}, "at most 1"),
        ({"disable_shuffling": True}, "remove `disable_shuffling`"),
        ({"data_seed": 3}, "remove `data_seed`"),
        ({"include_effective_tokens_per_second": True}, "remove `include_effective_tokens_per_second`"),
        ({"grpo_chunk": 3}, "`grpo_chunk` would do nothing"),
        ({"strategy": "grpo", "rollout_n": 1}, "rollout_n has to be at least 2"),
        ({"strategy": "grpo", "online_only": True}, "`online_only` would do nothing"),
        ({"strategy": "grpo", "grpo_image_coef": 0.5}, "`grpo_image_coef` would do nothing"),
        ({"strategy": "grpo", "grpo_image_term": "some"}, "Unknown grpo_image_term"),
        ({"strategy": "grpo", "anchor_ratio": 0.5}, "`anchor_ratio` would do nothing"),
    ],
)
def test_online_settings_that_cannot_work_say_why(settings, parse, changes, words):
    with pytest.raises(ValueError, match=words):
        parse(settings(**{**ONLINE, **changes}))


def test_online_runs_need_no_data_set(settings, parse, capfd, caplog):
    _, data, training, finetuning, _ = parse(settings(**ONLINE, exp_per_batch=3))
    assert data.dataset == [] and training.per_device_train_batch_size == 3
    assert finetuning.stage_args.loss_strategy == "orm"
    parse(settings(**{**ONLINE, "dataset": "mmself_pairs", "dataset_dir": "data"}))
    printed = capfd.readouterr()
    assert "mmself_pairs is not read" in printed.err + printed.out + caplog.text


def test_help_lists_stages_and_their_arguments(run_cli):
    done = run_cli("llamafactory-cli", "train", "-h")
    assert done.returncode == 0
    assert "--pref_beta" in done.stdout and "--per_device_train_batch_size" in done.stdout
    assert "Arguments of stage `mdpo`" in done.stdout and "--not_half_dpo_loss" in done.stdout
    only_stock = run_cli("llamafactory-cli", "train", "--stage", "dpo", "-h").stdout
    assert "--not_half_dpo_loss" not in only_stock


def test_infer_arguments_take_our_stage(settings, tiny_models):
    """A YAML of `export` or `chat` may carry the stage's name."""
    from llamafactory.hparams import get_infer_args

    model = str(tiny_models("llava"))
    finetuning = get_infer_args({"model_name_or_path": model, "template": "llava", "stage": "mdpo"})[2]
    assert finetuning.stage == "dpo"
