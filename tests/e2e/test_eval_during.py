# SPDX-License-Identifier: Apache-2.0
"""Tasks that are evaluated while a stage trains: figures in the log, and a training that does not notice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llamafactory_mmself.evaluate.tasks.task import FOLDER
from llamafactory_mmself.stages.base import SettingError
from llamafactory_mmself.toyworld.world import WorldOptions, write_world
from tests.e2e.conftest import same_weights


pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow]


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of benchmarks with the toy world's questions in it."""
    folder = tmp_path_factory.mktemp("benchmarks")
    write_world(folder / "toy", WorldOptions(train=2, test=6, captions=2))
    return folder


@pytest.fixture
def tasks(benchmarks: Path, tmp_path: Path) -> dict[str, Any]:
    """Settings of an evaluation on the toy world after every second step, with short answers."""
    prompt, task = tmp_path / "short.txt", tmp_path / "toy.yaml"
    prompt.write_text("version: test\n\n{question}\nAnswer:\n")
    packaged = yaml.safe_load((FOLDER / "toy.yaml").read_text())
    task.write_text(yaml.safe_dump({**packaged, "max_new_tokens": 8}))
    return {"eval_tasks": f"{task}={prompt}", "eval_tasks_every": 2, "eval_tasks_data": str(benchmarks)}


def folder_of(arguments: dict[str, Any], step: int) -> Path:
    return Path(arguments["output_dir"]) / "eval_tasks" / f"step-{step}" / "toy"


STAGES: dict[str, dict[str, Any]] = {
    "mdpo": {"plot_loss": True},
    "reflection_sft": {
        "strategy": None,
        "dataset": "mmself_sft",
        "lora_dropout": 0.2,  # chance in every step: random states have to come back
        "gradient_accumulation_steps": 2,
    },
}


@pytest.mark.parametrize("stage", STAGES)
def test_training_is_the_same_to_the_bit(settings: Callable[..., Any], train, tasks, tmp_path, stage) -> None:
    common = {"stage": stage, "max_steps": 5, "max_samples": 8, **STAGES[stage]}
    plain = train(settings(**common, output_dir=str(tmp_path / "plain")))
    arguments = settings(**common, **tasks, output_dir=str(tmp_path / "tasks"))
    evaluated = train(arguments)
    assert plain.losses == evaluated.losses and len(plain.losses) == 5
    assert plain.logged("grad_norm") == evaluated.logged("grad_norm")
    assert same_weights(plain, evaluated)

    entries = [entry for entry in evaluated.history if "eval_toy_accuracy" in entry]
    assert [entry["step"] for entry in entries] == [2, 4, 5]
    assert not any("/" in name for entry in entries for name in entry)
    for entry in entries:
        scores = json.loads((folder_of(arguments, entry["step"]) / "scores.json").read_text())
        assert scores["figures"]["accuracy"]["value"] == entry["eval_toy_accuracy"]
        assert scores["n"] == 6 and scores["policy"] == f"step-{entry['step']}"
    assert (tmp_path / "tasks" / "training_eval_toy_accuracy.png").exists() == bool(common.get("plot_loss"))


def test_answers_are_those_of_the_trained_model(settings, train, tasks, tmp_path) -> None:
    """After the last step, the model in training says what the saved one says."""
    from llamafactory_mmself.evaluate.benchmark import Settings
    from llamafactory_mmself.evaluate.chosen import chosen_tasks, read_task
    from llamafactory_mmself.generate.config import EngineConfig
    from llamafactory_mmself.generate.engines import LazyEngine
    from llamafactory_mmself.stages.evaluation import evaluate_task

    arguments = settings(**tasks, eval_tasks_limit=4, finetuning_type="full", learning_rate=1e-2)
    train(arguments)
    chosen = chosen_tasks([tasks["eval_tasks"]])
    data = Path(tasks["eval_tasks_data"])
    config = EngineConfig(model=arguments["output_dir"], template=arguments["template"], device="cpu", batch_size=8)
    engine = LazyEngine(config)
    task = read_task(chosen.tasks[0], data, tmp_path / "pictures", 4)
    evaluate_task(task, Settings(data, tmp_path / "after", prompts=chosen.prompts), config, engine, None)
    found, expected = (
        [json.loads(line)["text"] for line in (folder / "predictions.jsonl").read_text().splitlines()]
        for folder in (folder_of(arguments, 2), tmp_path / "after" / "toy")
    )
    assert found == expected and len(found) == 4


@pytest.mark.dist
def test_two_ranks_share_the_answers(settings, train, train_cli, tasks, tmp_path) -> None:
    common = {"max_steps": 2, "max_samples": 4, "per_device_train_batch_size": 1, "tree_forward": "dense"}
    alone = settings(**common, **tasks, gradient_accumulation_steps=2, output_dir=str(tmp_path / "alone"))
    shared = settings(**common, **tasks, output_dir=str(tmp_path / "shared"), ddp_timeout=180)
    (one,), (two,) = (result.logged("eval_toy_accuracy") for result in (train(alone), train_cli(shared, ranks=2)))
    assert one == two
    texts = [(folder_of(item, 2) / "predictions.jsonl").read_text() for item in (alone, shared)]
    assert texts[0] == texts[1]


def test_a_task_that_fails_does_not_end_the_training(settings, train, tasks, monkeypatch, caplog, capfd) -> None:
    from llamafactory_mmself.generate.types import EngineError
    from llamafactory_mmself.stages import evaluation

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise EngineError("no answer today")

    monkeypatch.setattr(evaluation, "evaluate_task", fail)
    result = train(settings(**tasks))
    printed = capfd.readouterr()
    told = "Task toy at step 2 failed, training goes on: no answer today"
    assert told in printed.err + printed.out + caplog.text
    assert len(result.losses) == 2 and not result.logged("eval_toy_accuracy")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eval_tasks": None, "eval_tasks_data": None}, "eval_tasks_every would do nothing without `eval_tasks`"),
        ({"eval_tasks_every": 0}, "eval_tasks_every is a number from 1 on"),
        ({"eval_tasks_limit": -1}, "eval_tasks_limit is a number from 1 on"),
        ({"eval_tasks": "pope"}, "POPE"),
        ({"eval_tasks": "no_such_task"}, "There is no task no_such_task"),
        ({"eval_tasks_data": "/nowhere"}, "no folder /nowhere"),
        ({"eval_tasks": "mmhal"}, "judge"),
        ({"eval_tasks_judge": "/nowhere.yaml"}, "nowhere.yaml cannot be read"),
        ({"fsdp": "full_shard"}, "FSDP no rank has all of its weights"),
    ],
)
@pytest.mark.parametrize("stage", STAGES)
def test_what_cannot_work_is_refused_before_training(
    settings, train, tasks, monkeypatch, stage, changes, message
) -> None:
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    common = {"stage": stage, **STAGES[stage], **tasks, **changes}
    with pytest.raises(SettingError, match=message):
        train(settings(**common))


def test_zero_3_is_refused(settings, train, tasks, tmp_path) -> None:
    config = tmp_path / "ds.json"
    stage = {"stage": 3}
    config.write_text(json.dumps({"train_micro_batch_size_per_gpu": "auto", "zero_optimization": stage}))
    with pytest.raises(SettingError, match="ZeRO-3 no rank has all of its weights"):
        train(settings(**tasks, deepspeed=str(config)))
