# SPDX-License-Identifier: Apache-2.0
"""Sherlock's loop: which model each round starts from, what it is built from, and a run that is killed."""

import json
from pathlib import Path

import pytest

from llamafactory_mmself.cli import main
from llamafactory_mmself.data.questions import read_questions, write_questions
from llamafactory_mmself.files import read_json, read_jsonl
from llamafactory_mmself.loop.methods import make_steps
from llamafactory_mmself.loop.recipe import load_recipe
from llamafactory_mmself.loop.sampler import Sampler
from llamafactory_mmself.toyworld.start import annotated
from tests.loop.kills import kills_change_nothing
from tests.loop.scripted import ScriptedSampler


SMALL = {
    "method": "sherlock",
    "iterations": 5,
    "evaluate": {"turns": 2},
    "build": {"n": 5, "pairs": 3, "chunk": 2},
    "train__finetuning_type": "full",
    "train__max_steps": 1,
    "train__save_steps": 1,
    "train__cutoff_len": 1024,
    "train__per_device_train_batch_size": 2,
    "rounds": {"sft": {"learning_rate": 2e-3}, "offline": {"pref_beta": 0.2}},
}


@pytest.fixture
def sherlock(recipe, world, tmp_path):
    """Writes the recipe of a small run of Sherlock."""
    path = tmp_path / "annotated.json"
    write_questions(path, [annotated(row) for row in read_questions(world / "train.json")])
    return lambda **changes: recipe(**{**SMALL, "train_data": str(path), **changes})


def trainings(path: Path) -> dict[str, dict]:
    steps = make_steps(load_recipe(path), Sampler())
    return {step.name.partition("/")[0]: dict(step.settings) for step in steps if step.name.endswith("/train")}


def test_each_round_starts_from_the_right_model_which_is_its_reference(sherlock, beginner, tmp_path) -> None:
    run = tmp_path / "run"
    found = trainings(sherlock())
    starts = {name: settings["model_name_or_path"] for name, settings in found.items()}
    assert starts == {
        "iter1": str(beginner),
        "iter2": str(beginner),  # not R0
        "iter3": str(run / "iter2" / "model"),
        "iter4": str(run / "iter3" / "model"),
        "iter5": str(run / "iter4" / "model"),
    }
    assert [settings["stage"] for settings in found.values()] == ["reflection_sft"] * 2 + ["sherlock_dpo"] * 3
    # No `ref_model`: the reference of a full tuning is a frozen copy of its start.
    assert not any("ref_model" in settings for settings in found.values())
    assert found["iter2"]["learning_rate"] == 2e-3 and found["iter2"]["keep_pairs"]
    assert found["iter3"]["pref_beta"] == 0.2 and "pref_beta" not in found["iter4"]


def test_adapters_are_merged_before_the_next_round(sherlock, beginner, tmp_path) -> None:
    path = sherlock(train__finetuning_type="lora", export="never")
    run, found = tmp_path / "run", trainings(path)
    assert [settings["model_name_or_path"] for settings in found.values()] == [
        str(beginner),
        str(beginner),
        *(str(run / f"iter{number}" / "merged") for number in (2, 3, 4)),
    ]
    names = [step.name for step in make_steps(load_recipe(path), Sampler())]
    assert [name for name in names if name.endswith("/merge")] == ["iter2/merge", "iter3/merge", "iter4/merge"]


def test_what_each_round_is_asked_for_the_next(sherlock) -> None:
    names = [step.name for step in make_steps(load_recipe(sherlock(test_data=None, evaluate=None)), Sampler())]
    assert names == [
        *("iter0/split", "iter1/build", "iter1/train", "iter1/answers"),
        *("iter2/build", "iter2/train", "iter2/begin", "iter2/rejected"),
        *("iter3/build", "iter3/train", "iter3/candidates", "iter3/begin", "iter3/rejected"),
        *("iter4/build", "iter4/train", "iter4/candidates", "iter4/begin", "iter4/rejected"),
        *("iter5/build", "iter5/train"),
    ]


def test_a_setting_redoes_what_depends_on_it(sherlock) -> None:
    """Sampling is not repeated for a switch of the builders that it does not use."""

    def keys(**build) -> dict[str, dict]:
        steps = make_steps(load_recipe(sherlock(build={"n": 5, "pairs": 3, "chunk": 2, **build})), Sampler())
        return {step.name: dict(step.settings) for step in steps}

    def changed(**build) -> set[str]:
        before, after = keys(), keys(**build)
        return {name.partition("/")[2] for name in before if before[name] != after[name]}

    assert changed(n=6) == {"split"}
    assert changed(cuts=[1]) == changed(noise=[0.0, 0.5]) == {"begin"}
    assert changed(tails=2) == {"rejected"}
    assert changed(pairs=2) == changed(chunk=3) == changed(corrections=2) == {"candidates"}
    assert changed(gates=["tags"]) == {"build"}


def test_rounds_have_batches_of_their_own(sherlock, monkeypatch) -> None:
    import torch

    for name in ("FORCE_TORCHRUN", "NPROC_PER_NODE", "NNODES", "USE_RAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    rounds = {"sft": {"global_batch": 16}, "online": {"global_batch": 6, "per_device_train_batch_size": 1}}
    found = trainings(sherlock(global_batch=8, rounds=rounds))
    assert [settings["global_batch"] for settings in found.values()] == [8, 16, 8, 6, 6]
    # On other devices it is the same training.
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    assert trainings(sherlock(global_batch=8, rounds=rounds)) == found


def test_a_correction_prompt_of_ones_own_is_trained_with(sherlock, tmp_path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("version: 9\n\n{question}\nBetter than: {response}\n")
    found = trainings(sherlock(prompts={"correction": str(mine)}))
    assert [settings.get("correction_prompt") for settings in found.values()] == [None] * 2 + [str(mine)] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": {"online1": {}}}, "`rounds`: 'online1' is none of r0, sft, offline, online"),
        ({"rounds": {"sft": {"cutoff_len": 9}}}, "cutoff_len has to be the same in all rounds"),
        ({"rounds": {"sft": {"image_max_pixels": 9}}}, "image_max_pixels has to be the same"),
        ({"rounds": {"sft": {"output_dir": "x"}}}, "the loop sets output_dir itself"),
        ({"rounds": {"offline": {"save_only_model": True}}}, "a killed training cannot go on"),
        ({"rounds": {"offline": 3}}, "keys and values are expected"),
        ({"rounds": {"offline": {"global_batch": 0}}}, "key `rounds.offline.global_batch`: a whole number from 1 on"),
        (
            {"rounds": {"sft": {"global_batch": 8}}, "train__gradient_accumulation_steps": 2},
            "`rounds.sft`: gradient_accumulation_steps follows from `global_batch`",
        ),
        ({"rounds": {"sft": {"hf_hub_token": "s"}}}, "HF_TOKEN"),
        ({"start": "continue"}, "key `start`: it would do nothing in method sherlock"),
        ({"method": "r3v", "build": None}, "rounds, evaluate.turns would do nothing"),
        ({"judge": {"nam": "hf"}}, "unknown key `nam`"),
        ({"judge": {"name": "hf", "model": "x"}}, "needs `template`"),
        ({"judge": {"name": "hf", "llamafactory": {"hf_hub_token": "s"}}}, "HF_TOKEN"),
        ({"build": {"cuts": [9]}}, "places from 1 to 4"),
        ({"prompts": {"cot": "x.txt"}}, "no prompt 'cot'"),
        ({"online_data": "gone.json"}, "gone.json"),
    ],
)
def test_mistakes_are_named_before_anything_runs(sherlock, changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        make_steps(load_recipe(sherlock(**changes)), Sampler())


def test_too_few_questions_are_told(sherlock) -> None:
    path = sherlock(build={"n": 9}, test_data=None, evaluate=None)
    sampler = ScriptedSampler(load_recipe(path).train_data)
    split = next(step for step in make_steps(load_recipe(path), sampler) if step.name == "iter0/split")
    with pytest.raises(ValueError, match="need 18 questions, there are 16"):
        split.action()


@pytest.mark.slow
def test_a_kill_inside_each_step_changes_no_file(sherlock, tmp_path, clean_environment, capsys) -> None:
    def look(run: Path) -> None:
        check_provenance(run)
        check_report(run, capsys)

    environment = clean_environment(OMP_NUM_THREADS="1")
    kills_change_nothing(sherlock(), tmp_path / "run", environment, timeout=1800, worth=worth_a_kill, look=look)


def worth_a_kill(name: str) -> bool:
    """Steps that are Sherlock's own; others are killed in test_kill.py."""
    own = ("split", "answers", "build", "begin", "rejected", "candidates", "train", "test_correct2")
    return name.rpartition("/")[2] in own and not name.startswith("iter5")


def check_provenance(run: Path) -> None:
    """Every sample that a row names is in the run, and every row passes `mmself validate`."""
    known = set()
    for number in range(5):
        samples = [*(run / f"iter{number}").glob("*.jsonl"), *(run / f"iter{number}").glob("candidates/*.jsonl")]
        for path in samples:
            known |= {(number, row["id"]) for row in read_jsonl(path) if "k" in row}
    for number in range(1, 6):
        folder = run / f"iter{number}" / "train"
        rows = read_json(folder / "self_training.json")
        assert rows
        for row in rows:
            named = list(references(json.loads(row["provenance"])))
            assert set(named) <= known and (named or row["kind"] == "answer")
        if number >= 3:
            assert {row["kind"] for row in rows} == {"offline" if number == 3 else "online"}
            assert main(["validate", "self_training", "--dataset_dir", str(folder)]) == 0


def references(value: object):
    """The samples that a provenance names."""
    if isinstance(value, dict):
        if {"iteration", "id"} <= value.keys():
            yield value["iteration"], value["id"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def check_report(run: Path, capsys) -> None:
    assert main(["report", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "iter3 (offline)" in shown and "iter5 (online 2)" in shown and "correct@2 %" in shown
    page = (run / "report" / "index.html").read_text()
    assert "rejected" in page and "correction 2" in page
