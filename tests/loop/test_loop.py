# SPDX-License-Identifier: Apache-2.0
"""`mmself loop` as a user runs it: the plan, a second run, changed settings, and what is said when things go wrong."""

import json
import shutil
from pathlib import Path

import pytest

from llamafactory_mmself.cli import main
from llamafactory_mmself.data.questions import read_questions
from llamafactory_mmself.files import read_json, read_jsonl


def steps_run(text: str) -> list[str]:
    """The steps that worked, from what the loop printed."""
    return [line.split()[1] for line in text.splitlines() if line.startswith("[") and line.endswith("...")]


@pytest.fixture
def loop(capsys, monkeypatch):
    """Runs `mmself loop` in this process; returns exit status, standard output and standard error."""
    monkeypatch.setenv("LLAMAFACTORY_VERBOSITY", "WARN")

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        status = main(["loop", *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


SMALL = {"evaluate__samples": 0, "train__finetuning_type": "full", "train__max_steps": 2}


@pytest.mark.slow
def test_a_run_a_second_run_and_a_changed_setting(loop, recipe, tmp_path) -> None:
    path = recipe(**SMALL)
    status, plan, _ = loop(path, "--dry_run")
    assert status == 0 and not (tmp_path / "run").exists()
    assert plan.splitlines()[0] == "to do    iter0/test_greedy" and "to do    iter1/train" in plan.splitlines()

    status, first, _ = loop(path)
    names = ["test_greedy", "check_test_greedy", "score", "samples_train", "check_samples_train"]
    assert status == 0
    assert steps_run(first)[:5] == [f"iter0/{name}" for name in names]
    assert "Test@1" in first or "test@1" in first
    rows = read_json(tmp_path / "run" / "iter1" / "train" / "self_training.json")
    asked = {
        question.id
        for question in read_questions(path.parent / read_json(tmp_path / "run" / "run.json")["train_data"])
    }
    assert {row["kind"] for row in rows} >= {"direct"} and len(rows) >= len(asked)
    assert all(json.loads(row["provenance"])["question"] in asked for row in rows)

    assert steps_run(loop(path)[1]) == []
    again = steps_run(loop(path, "--set", "train.max_steps=3")[1])
    assert again[0] == "iter1/train" and all(name.startswith("iter1/") for name in again)
    assert steps_run(loop(path, "--set", "train.max_steps=3", "--from", "iter1/score")[1]) == ["iter1/score"]


@pytest.mark.slow
def test_stl_learns_answers_and_refutations(loop, recipe, tmp_path) -> None:
    status, _, _ = loop(recipe(method="stl", sampling__n=6, **SMALL))
    assert status == 0
    asked = {row["request"] for row in read_jsonl(tmp_path / "run" / "iter0" / "refutations.jsonl")}
    solved = {
        row["question"]
        for row in read_jsonl(tmp_path / "run" / "iter0" / "checked_samples_train.jsonl")
        if row["verdict"]["correct"]
    }
    assert {name.partition("!")[0] for name in asked} <= solved


def test_a_round_that_only_continues_starts_from_the_last_model(recipe, tmp_path) -> None:
    from llamafactory_mmself.loop.methods import make_steps
    from llamafactory_mmself.loop.recipe import load_recipe
    from llamafactory_mmself.loop.sampler import Sampler

    def base_of_round_two(**changes) -> str:
        steps = make_steps(load_recipe(recipe(iterations=2, **changes)), Sampler())
        names = [step.name for step in steps]
        assert ("iter1/merge" in names) == (
            changes.get("start") == "continue" and "train__finetuning_type" not in changes
        )
        return next(step.settings["model_name_or_path"] for step in steps if step.name == "iter2/train")

    run = tmp_path / "run"
    assert base_of_round_two() == base_of_round_two(train__finetuning_type="full")
    assert base_of_round_two(start="continue") == str(run / "iter1" / "merged")
    assert base_of_round_two(start="continue", train__finetuning_type="full") == str(run / "iter1" / "model")


def test_only_candidates_that_differ_are_put_to_the_model(loop, recipe, tmp_path) -> None:
    from llamafactory_mmself.evaluate.answers import disputed
    from llamafactory_mmself.loop.rounds import read_checked

    status, out, _ = loop(recipe(iterations=0, evaluate__spare_agreeing=True, sampling__temperature=1.2))
    assert status == 0 and "select@2" in out
    folder = tmp_path / "run" / "iter0"
    open_questions = {item.question for item in disputed(read_checked(folder / "checked_test_samples.jsonl"))}
    assert 0 < len(open_questions) < 8
    assert {row["request"] for row in read_jsonl(folder / "test_select.jsonl")} == open_questions


def test_sampling_uses_the_picture_limits_of_training(recipe) -> None:
    from llamafactory_mmself.loop.recipe import load_recipe
    from llamafactory_mmself.loop.settings import engine_config

    config = engine_config(
        load_recipe(recipe(train__image_max_pixels=1024, engine__llamafactory={"vllm_maxlen": 512}))
    )
    assert dict(config.llamafactory) == {"image_max_pixels": 1024, "vllm_maxlen": 512}
    with pytest.raises(ValueError, match="image_max_pixels would give sampling other prompts than training"):
        engine_config(load_recipe(recipe(engine__llamafactory={"image_max_pixels": 1024})))


def test_the_picture_limits_of_training_count_in_lengths(recipe, tmp_path) -> None:
    from PIL import Image

    from llamafactory_mmself.loop.recipe import load_recipe
    from llamafactory_mmself.loop.settings import token_limit

    Image.new("RGB", (140, 140)).save(tmp_path / "large.png")

    def tokens(**changes: int) -> int:
        return token_limit(load_recipe(recipe(**changes))).count("<image>Why?", "So.", [str(tmp_path / "large.png")])

    assert tokens() - tokens(train__image_max_pixels=28 * 28 * 9) == 25 - 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verifier": "geqa"}, "geqa"),
        ({"build__refin": True}, "no option `refin`"),
        ({"engine__batchsize": 3}, "unknown key `batchsize`"),
        ({"sampling__temprature": 1}, "unknown key `temprature`"),
        ({"prompts": {"cot": "gone.txt"}}, "gone.txt cannot be read"),
        ({"engine": {"name": "openai"}, "iterations": 0}, "needs `api_base`"),
    ],
)
def test_settings_that_cannot_work_are_named_before_anything_runs(loop, recipe, tmp_path, changes, message) -> None:
    status, _, error = loop(recipe(**changes))
    assert status == 2 and message in error
    assert not (tmp_path / "run" / "iter0").exists()


def test_a_dead_endpoint_keeps_what_is_there(loop, recipe, tmp_path) -> None:
    engine = {"name": "openai", "api_base": "http://127.0.0.1:9/v1", "api_model": "m", "retries": 0}
    status, _, error = loop(recipe(engine=engine, iterations=0))
    assert status == 2 and "127.0.0.1:9" in error
    assert read_json(tmp_path / "run" / "current.json")["step"] == "iter0/test_greedy"


def test_a_broken_picture_is_named(loop, recipe, world, tmp_path) -> None:
    broken = shutil.copytree(world, tmp_path / "broken")
    picture = sorted((broken / "images").glob("*"))[0]
    rows = json.loads((broken / "test.json").read_text())
    picture = broken / rows[0]["images"][0]
    picture.write_bytes(b"no picture")
    status, _, error = loop(recipe(test_data=str(broken / "test.json")))
    assert status == 2 and picture.name in error and rows[0]["id"] in error


def test_the_plan_of_a_restart(loop, recipe, tmp_path) -> None:
    status, plan, _ = loop(recipe(), "--dry_run", "--from", "iter1/score")
    assert status == 0 and plan.splitlines()[-1] == "to do    iter1/score"
    assert "no step 'x'" in loop(recipe(), "--dry_run", "--from", "x")[2]


def test_two_loops_cannot_share_a_folder(loop, recipe, tmp_path) -> None:
    import fcntl

    path = recipe()
    (tmp_path / "run").mkdir()
    with open(tmp_path / "run" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, _, error = loop(path)
    assert status == 2 and "Another process works on" in error


def test_wrong_command_lines(loop, recipe) -> None:
    assert "no recipe gone.yaml" in loop("gone.yaml")[2]
    assert "belong to presets" in loop(recipe(), "--base_model", "x")[2]
    assert "needs --geoqa_dir" in loop("r3v-geoqa")[2]
    assert "--set takes KEY=VALUE" in loop(recipe(), "--set", "seed")[2]


def test_presets_read_the_official_layout(loop, tmp_path, world) -> None:
    source = tmp_path / "GeoQA"
    shutil.copytree(world / "images", source / "images")
    for split in ("train", "test"):
        rows = json.loads((world / f"{split}.json").read_text())
        keep = ("id", "question", "choices", "answer")
        items = [{**{name: row[name] for name in keep}, "image": row["images"][0]} for row in rows]
        (source / f"{split}.jsonl").write_text(json.dumps(items))
    out = tmp_path / "out"
    flags = ("--base_model", "some/model", "--total_iters", "2", "--batch_size", "3", "--output_dir", str(out))
    status, plan, error = loop("r3v-geoqa", "--geoqa_dir", str(source), *flags, "--dry_run")
    assert status == 0, error
    assert plan.splitlines()[-1].split()[-1] == "iter2/score"
    assert len(read_questions(out / "questions" / "train.json")) == 16
