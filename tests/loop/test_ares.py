# SPDX-License-Identifier: Apache-2.0
"""ARES's loop: what each round is, what it starts from, and a whole small run."""

from pathlib import Path

import pytest

from llamafactory_mmself.cli import main
from llamafactory_mmself.files import read_json, read_jsonl
from llamafactory_mmself.loop.methods import make_steps
from llamafactory_mmself.loop.recipe import load_recipe
from llamafactory_mmself.loop.sampler import Sampler
from llamafactory_mmself.loop.steps import LoopError


COT = Path(__file__).parents[2] / "llamafactory_mmself" / "prompts" / "r3v_cot.txt"
SMALL = {
    "method": "ares",
    "iterations": 3,
    "evaluate": None,
    "sampling": {"max_new_tokens": 96},
    "prompts": {"rationale": str(COT)},
    "build": {"teacher": "llamafactory_mmself.toyworld.teacher:exact", "score_test": True, "check": "toy"},
    "train__max_steps": 1,
    "train__save_steps": 1,
    "train__cutoff_len": 512,
    "train__per_device_train_batch_size": 4,
    "rounds": {"rl": {"rollout_n": 2, "rollout_prompts": 4, "rollout_max_new_tokens": 96, "kl_coef": 0.01}},
}


@pytest.fixture
def ares(recipe):
    """Writes the recipe of a small run of ARES."""
    return lambda **changes: recipe(**{**SMALL, **changes})


def names(path: Path) -> list[str]:
    return [step.name for step in make_steps(load_recipe(path), Sampler())]


def test_rounds_take_turns(ares) -> None:
    assert names(ares(test_data=None)) == [
        *("iter1/build", "iter1/train", "iter1/merge", "iter1/rationales"),
        *("iter2/build", "iter2/train", "iter2/merge", "iter2/rationales"),
        *("iter3/build", "iter3/train"),
    ]
    longer = names(ares(test_data=None, iterations=4))
    assert "iter2/rationales" not in longer and "iter3/rationales" in longer


def test_each_round_starts_from_the_one_before(ares, beginner, tmp_path) -> None:
    run = tmp_path / "run"
    steps = make_steps(load_recipe(ares()), Sampler())
    found = [dict(step.settings) for step in steps if step.name.endswith("/train")]
    assert [settings["model_name_or_path"] for settings in found] == [
        str(beginner),
        str(run / "iter1" / "merged"),
        str(run / "iter2" / "merged"),
    ]
    assert [settings["stage"] for settings in found] == ["ares_ppo", "reflection_sft", "sft"]
    assert found[0]["rollout_n"] == 2 and "rollout_n" not in found[1]


def test_rounds_by_name(ares) -> None:
    """Corrections alone, and RL twice: what the paper compares with."""
    alone = {**SMALL["build"], "phases": ["sft"]}
    assert names(ares(test_data=None, iterations=1, build=alone)) == [
        *("iter0/rationales", "iter1/build", "iter1/train", "iter1/merge"),
    ]
    twice = {**SMALL["build"], "phases": ["rl", "rl"]}
    found = [name for name in names(ares(test_data=None, iterations=2, build=twice)) if "rationales" in name]
    assert not found


def test_presets_are_the_published_settings(ares) -> None:
    rounds = {"rl": {"preset": "large", "ppo_epochs": 2}, "sft": {"preset": "base"}, "answer": {"preset": "base"}}
    changes = {"train__per_device_train_batch_size": None, "train__max_steps": None}
    steps = make_steps(load_recipe(ares(rounds=rounds, **changes)), Sampler())
    rl, sft, answer = (dict(step.settings) for step in steps if step.name.endswith("/train"))
    assert (rl["rollout_batch_size"], rl["ppo_epochs"], rl["whiten_advantages"]) == (32, 2, False)
    assert (rl["learning_rate"], rl["global_batch"], sft["global_batch"]) == (2e-5, 32, 8)
    assert (answer["lora_rank"], answer["lora_alpha"], answer["lora_dropout"]) == (64, 128, 0.05)
    assert "preset" not in rl


def test_recipes_that_cannot_be(ares) -> None:
    for changes, told in (
        ({"build": {}}, "build.teacher"),
        ({"build": {**SMALL["build"], "phases": ["rl", "x"]}}, "rl, sft, answer"),
        ({"build": {**SMALL["build"], "phases": ["rl", "answer", "sft"]}}, "be the last"),
        ({"build": {**SMALL["build"], "phases": ["rl"]}}, "iterations"),
        ({"train__finetuning_type": "full"}, "lora"),
        (
            {"engine__name": "vllm", "train__freeze_multi_modal_projector": False},
            "vLLM cannot serve the answer adapter",
        ),
        ({"rounds": {"answer": {"freeze_multi_modal_projector": False}}}, "has to be the same in all rounds"),
        ({"rounds": {"offline": {}}}, "rl, sft, answer"),
        ({"rounds": {"rl": {"preset": "huge"}}}, "base, large"),
        ({"start": "continue"}, "start"),
        ({"prompts": {"cot": str(COT)}}, "rationale, answer"),
    ):
        with pytest.raises(LoopError, match=told):
            make_steps(load_recipe(ares(**changes)), Sampler())


@pytest.mark.slow
def test_a_whole_run(ares, tmp_path, capsys) -> None:
    """RL, corrections and the answer adapter, each by LLaMA-Factory; then nothing is left to do."""
    path = ares()
    assert main(["loop", str(path)]) == 0
    run = tmp_path / "run"
    rows = read_json(run / "iter2" / "train" / "self_training.json")
    assert rows and {row["kind"] for row in rows} == {"correct"}
    assert all("The answer is (" in row["conversations"][1]["value"] for row in read_json(
        run / "iter3" / "train" / "self_training.json"
    ))  # fmt: skip
    assert (run / "iter3" / "model" / "adapter_model.safetensors").exists()
    assert not (run / "iter3" / "merged").exists()
    for number in (0, 1, 2):
        lines = list(read_jsonl(run / f"iter{number}" / "test_sentences.jsonl"))
        assert any(line["scores"] for line in lines)
    assert (run / "iter3" / "scores.json").exists()
    capsys.readouterr()
    assert main(["loop", str(path)]) == 0
    assert "done before" in capsys.readouterr().out
