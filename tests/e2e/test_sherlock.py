# SPDX-License-Identifier: Apache-2.0
"""Stage `sherlock_dpo` from arguments to weights."""

import json
import math

import pytest
import torch


pytestmark = pytest.mark.filterwarnings("default")

FAMILIES = ("qwen2_vl", "llava", "mllama")
START = 1.7386294361


@pytest.fixture
def sherlock(settings):
    """Arguments of a small run on the shipped rows; keyword arguments change them, None removes one."""

    def make(family="qwen2_vl", **changes):
        common = {"stage": "sherlock_dpo", "strategy": None, "dataset": "mmself_sherlock_full"}
        return settings(family, **common | changes)

    return make


@pytest.mark.parametrize("family", FAMILIES)
def test_policy_and_reference_agree_before_the_first_step(sherlock, train, family):
    """Then neither the weights nor the betas of the rows matter; the step makes the loss of its rows smaller."""
    result = train(sherlock(family, per_device_train_batch_size=4))
    assert result.losses[0] == pytest.approx(START, abs=1e-5)
    assert result.logged("losses/sc_l")[0] == pytest.approx(1, abs=1e-5)
    assert result.logged("losses/sc_w")[0] == pytest.approx(1, abs=1e-5)
    assert result.logged("losses/dpo")[0] == pytest.approx(math.log(2), abs=1e-5)
    assert result.losses[1] < result.losses[0]


@pytest.mark.parametrize("finetuning_type", ["full", "freeze"])
def test_full_and_freeze_tuning_start_from_their_reference(sherlock, train, finetuning_type):
    common = {"per_device_train_batch_size": 4, "learning_rate": 2e-5}
    result = train(sherlock(finetuning_type=finetuning_type, freeze_trainable_layers=1, **common))
    assert result.losses[0] == pytest.approx(START, abs=1e-5)
    assert result.losses[1] < result.losses[0]


def test_a_second_lora_round_starts_from_the_merged_first(sherlock, train, tmp_path):
    first = sherlock(output_dir=str(tmp_path / "first"))
    train(first)
    again = sherlock(output_dir=str(tmp_path / "second"), adapter_name_or_path=first["output_dir"])
    with pytest.raises(ValueError, match="create_new_adapter: true"):
        train(again)
    second = train({**again, "create_new_adapter": True})
    assert second.losses[0] == pytest.approx(START, abs=1e-5)


def test_suffix_rows_and_the_published_spelling_train_the_same(sherlock, train):
    """`pref_loss: sr`, another spelling of the stage, rows with suffixes: the same run."""
    plain = train(sherlock("mllama"))
    published = train(
        sherlock("mllama", stage="Sherlock-DPO", pref_loss="sr", dataset="mmself_sherlock_suffix", refine_beta=0.25)
    )
    assert published.losses == plain.losses


def test_accumulation_changes_nothing_on_a_ragged_epoch(sherlock, train):
    """Six rows in steps of four: the last step has two."""
    common = {"max_samples": 6, "max_steps": None, "num_train_epochs": 1.0, "learning_rate": 2e-5}
    whole = train(sherlock("llava", **common, per_device_train_batch_size=4))
    parts = train(sherlock("llava", **common, per_device_train_batch_size=1, gradient_accumulation_steps=4))
    assert len(whole.losses) == 2
    assert whole.losses == pytest.approx(parts.losses, abs=2e-5)
    assert whole.logged("margins/v_l") == pytest.approx(parts.logged("margins/v_l"), abs=2e-3)


def test_betas_and_weights_change_what_is_learned(sherlock, train):
    runs = [
        train(sherlock("llava", **changes)).losses
        for changes in (
            {},
            {"preset": "published"},
            {"refine_beta": 0.025, "weigh_dpo": True},
            {"static_weight": 1.0},
            {"weigh_dpo": True},
        )
    ]
    assert all(losses[0] == pytest.approx(START, abs=1e-5) for losses in runs)
    default, published, explicit, static, both = (losses[1] for losses in runs)
    assert published == explicit
    assert len({default, published, static, both}) == 4


def test_ablations_train_one_term(sherlock, train):
    dpo = train(sherlock("llava", no_correction_term=True))
    assert dpo.losses[0] == pytest.approx(0.2 * math.log(2), abs=1e-5)
    assert not dpo.logged("losses/sc_l")
    correction = train(sherlock("llava", no_dpo_term=True))
    assert correction.losses[0] == pytest.approx(1.6, abs=1e-5)
    assert not correction.logged("losses/dpo")


def test_evaluation_and_plots(sherlock, train):
    """Batches of 2 and of 5 rows give the same eval loss."""
    results = [
        train(
            sherlock(
                "llava",
                eval_dataset="mmself_sherlock_suffix",
                per_device_eval_batch_size=size,
                eval_strategy="steps",
                eval_steps=1,
                plot_loss=True,
                max_samples=5,
            )
        )
        for size in (2, 5)
    ]
    for name in ("eval_loss", "eval_losses/sc_w", "eval_margins/u_l"):
        first, second = (result.logged(name) for result in results)
        assert first and first == pytest.approx(second, abs=1e-4)
    for name in ("loss", "losses_sc_l", "margins_v_w", "rewards_accuracies"):
        assert (results[0].folder / f"training_{name}.png").exists()


def test_likelihood_terms(sherlock, train):
    plain, with_ftx = (train(sherlock("llava", pref_ftx=ftx)).losses[0] for ftx in (0.0, 0.1))
    assert with_ftx > plain + 1  # five sequences at about log(vocabulary) per token each


def test_precision_bf16(sherlock, train):
    result = train(sherlock("mllama", bf16=True, use_cpu=True))
    assert result.losses[0] == pytest.approx(START, abs=1e-3)
    assert all(torch.isfinite(value).all() for value in result.weights.values())


@pytest.fixture
def own_rows(project_root, tmp_path):
    """Writes two changed rows as a data set of their own; returns its folder."""

    def write(change, **entry):
        source = project_root / "data"
        rows = [change(row) for row in json.loads((source / "mmself_sherlock_full.json").read_text())[:2]]
        info = json.loads((source / "dataset_info.json").read_text())["mmself_sherlock_full"]
        info["columns"] = {name: key for name, key in info["columns"].items() if key in rows[0]}
        folder = tmp_path / "own"
        folder.mkdir(exist_ok=True)
        (folder / "rows.json").write_text(json.dumps(rows))
        (folder / "dataset_info.json").write_text(json.dumps({"own": {**info, "file_name": "rows.json", **entry}}))
        return {"dataset": "own", "dataset_dir": str(folder), "media_dir": str(source), "max_steps": 1}

    return write


@pytest.mark.parametrize("column", ["weights", "prefix_l"])
def test_rows_without_a_column_are_faults(sherlock, train, own_rows, column):
    rows = own_rows(lambda row: {key: value for key, value in row.items() if key != column})
    with pytest.raises(ValueError, match=rf"row 1, field `{column}`"):
        train(sherlock("llava", **rows))


def test_a_static_weight_needs_no_column(sherlock, train, own_rows):
    rows = own_rows(lambda row: {key: value for key, value in row.items() if key != "weights"})
    result = train(sherlock("llava", **rows, static_weight=1.0))
    assert result.losses[0] == pytest.approx(START, abs=1e-5)


def test_the_ablation_without_correction_needs_no_prefixes(sherlock, train, own_rows):
    rows = own_rows(lambda row: {key: value for key, value in row.items() if not key.startswith("prefix")})
    result = train(sherlock("llava", **rows, no_correction_term=True))
    assert result.losses[0] == pytest.approx(0.2 * math.log(2), abs=1e-5)


def test_the_reading_of_prefixes_can_be_set_in_the_run(sherlock, train, own_rows):
    """Whole answers read as suffixes would repeat their prefix: refused, whatever the data set says of itself."""
    rows = own_rows(lambda row: row, prefix_in_response=True)
    assert train(sherlock("llava", **rows)).losses
    for value in (False, "false"):
        with pytest.raises(ValueError, match="The answer starts with its `prefix`"):
            train(sherlock("llava", **rows, prefix_in_response=value))
    wrong = own_rows(lambda row: row, prefix_in_response=False)
    assert train(sherlock("llava", **wrong, prefix_in_response=True)).losses


def test_the_correction_prompt_can_be_replaced(sherlock, train, tmp_path):
    """Another prompt makes other rows, also where the tokenised ones are kept."""
    own = tmp_path / "own.txt"
    own.write_text("version: 7\n\nCorrect this: {question} {response}")
    saved = {"tokenized_path": str(tmp_path / "tokenised")}
    plain = train(sherlock("llava")).logged("logps/sc_l.ww")
    changed = train(sherlock("llava", correction_prompt=str(own), **saved)).logged("logps/sc_l.ww")
    assert plain[0] != changed[0]
    with pytest.raises(ValueError, match="correction_prompt: 7-"):
        train(sherlock("llava", **saved))
    own.write_text("version: 7\n\nCorrect this: {question}")
    with pytest.raises(ValueError, match=r"does not use \{response\}"):
        train(sherlock("llava", correction_prompt=str(own)))


def test_a_correction_prompt_that_does_not_fit_is_a_fault(sherlock, train):
    with pytest.raises(ValueError, match=r"correction prompt, which shows a whole answer.*Set cutoff_len above"):
        train(sherlock("llava", cutoff_len=300))


@pytest.fixture
def parse():
    """LLaMA-Factory's parser with the plugin."""
    from llamafactory_mmself import _autoload

    _autoload.activate()
    from llamafactory.hparams import get_train_args

    return get_train_args


def as_flags(arguments):
    return [f"--{key}={value}" for key, value in arguments.items()]


@pytest.mark.parametrize("as_list", [True, False])
def test_the_published_loss_name_is_accepted(sherlock, parse, as_list):
    arguments = sherlock(pref_loss="sr", refine_beta=0.05, prefix_in_response="true")
    finetuning = parse(as_flags(arguments) if as_list else arguments)[3]
    assert (finetuning.stage, finetuning.plugin_stage, finetuning.pref_loss) == ("dpo", "sherlock_dpo", "sr")
    assert finetuning.use_ref_model
    assert finetuning.stage_args.refine_beta == 0.05
    assert finetuning.stage_args.prefix_in_response == "true"


@pytest.mark.parametrize("stage", ["dpo", "sft"])
@pytest.mark.parametrize("as_list", [True, False])
def test_stock_stages_refuse_the_published_loss_name(sherlock, parse, stage, as_list):
    arguments = sherlock(stage=stage, pref_loss="sr")
    with pytest.raises(ValueError, match=rf"Stage `{stage}` has no pref_loss `sr`.*Set `stage: sherlock_dpo`"):
        parse(as_flags(arguments) if as_list else arguments)


def test_stock_stages_know_the_losses_they_knew(sherlock, parse, capsys):
    assert parse(as_flags(sherlock(stage="dpo", pref_loss="ipo")))[3].pref_loss == "ipo"
    with pytest.raises(SystemExit):
        parse(as_flags(sherlock(stage="dpo", pref_loss="rs")))
    assert "invalid choice: 'rs'" in capsys.readouterr().err


def test_image_side_preferences_refuse_the_published_loss_name(settings, parse):
    with pytest.raises(ValueError, match="stage `mdpo` takes sigmoid"):
        parse(settings(pref_loss="sr"))


def test_presets_give_way_to_explicit_values(sherlock, parse):
    """In the paper the row's weight scales the correction terms' beta alone; in the published code both betas."""

    def chosen(**changes):
        args = parse(sherlock(**changes))[3].stage_args
        return args.refine_beta, args.weigh_dpo

    assert chosen() == chosen(preset="paper") == (0.25, False)
    assert chosen(preset="published") == (0.025, True)
    assert chosen(preset="published", refine_beta=0.1) == (0.1, True)
    assert chosen(preset="published", weigh_dpo=False) == (0.025, False)
    assert chosen(weigh_dpo=True) == (0.25, True)
    assert chosen(preset="none", refine_beta=0.1) == (0.1, False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pref_loss": "ipo"}, "pref_loss `ipo` would do nothing"),
        ({"dpo_label_smoothing": 0.1}, "dpo_label_smoothing would do nothing"),
        ({"simpo_gamma": 0.9}, "simpo_gamma would do nothing"),
        ({"pref_bco_weight": 0.5}, "would ignore `pref_bco_weight`"),
        ({"ld_alpha": 0.5}, "would ignore `ld_alpha`"),
        ({"preset": "none"}, "preset `none` leaves refine_beta open"),
        ({"preset": "recipe"}, "Unknown preset `recipe`"),
        ({"quirks": "none"}, "Unknown quirks `none`"),
        ({"refine_beta": 0.0}, "refine_beta is 0.0; it has to be above 0"),
        ({"static_weight": -1.0}, "static_weight is -1.0"),
        ({"no_dpo_term": True, "no_correction_term": True}, "leave no loss"),
        ({"no_dpo_term": True, "dpo_coef": 0.3}, "no_dpo_term sets dpo_coef to 0"),
        ({"sc_coef": -0.1}, "0 or more"),
        ({"prefix_in_response": "maybe"}, "use auto, true or false"),
        ({"correction_prompt": "missing.txt"}, r"missing\.txt cannot be read"),
        ({"refine_bta": 0.1}, r"does not know `refine_bta` \(did you mean `refine_beta`\?\)"),
        ({"stage": "dpo", "refine_beta": 0.025}, "`refine_beta` belongs to sherlock_dpo"),
    ],
)
def test_settings_that_cannot_work_say_why(sherlock, parse, changes, words):
    with pytest.raises(ValueError, match=words):
        parse(sherlock(**changes))
