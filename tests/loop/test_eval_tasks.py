# SPDX-License-Identifier: Apache-2.0
"""Tasks of `mmself eval` on each round's model: steps of the run, with keys, and a part of its report."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llamafactory_mmself.cli import main
from llamafactory_mmself.evaluate.tasks.task import FOLDER
from llamafactory_mmself.files import read_json
from llamafactory_mmself.loop.methods import make_steps
from llamafactory_mmself.loop.recipe import load_recipe
from llamafactory_mmself.loop.sampler import Sampler
from llamafactory_mmself.loop.steps import LoopError, Runner, Step


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """The toy task with short answers."""
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load((FOLDER / "toy.yaml").read_text()), "max_new_tokens": 16}))
    return path


@pytest.fixture
def evaluated(recipe: Callable[..., Path], task: Path, world: Path) -> Callable[..., Path]:
    """Recipes with the toy task."""

    def write(**changes: Any) -> Path:
        tasks = {"evaluate__tasks": [str(task)], "evaluate__tasks_data": str(world), "evaluate__tasks_limit": 4}
        return recipe(**{**tasks, **changes})

    return write


def steps_of(path: Path) -> dict[str, Step]:
    return {step.name: step for step in make_steps(load_recipe(path), Sampler())}


def key_of(path: Path, tmp_path: Path, name: str = "iter0/eval_toy") -> str:
    steps = steps_of(path)
    return Runner(tmp_path / "run", list(steps.values()))._key(steps[name])


def test_each_round_has_a_step_for_each_task(evaluated) -> None:
    names = list(steps_of(evaluated(iterations=2)))
    assert [name for name in names if "eval_" in name] == [f"iter{number}/eval_toy" for number in range(3)]
    # right after the other measurements, while the model is still loaded
    assert names[names.index("iter0/eval_toy") - 1] == "iter0/score"
    without = list(steps_of(evaluated(iterations=2, test_data=None)))
    assert [name for name in without if "eval_" in name or "score" in name] == [
        f"iter{number}/eval_toy" for number in range(3)
    ]


def test_no_tasks_no_steps(recipe) -> None:
    assert not [name for name in steps_of(recipe()) if "eval_" in name]


def test_a_key_holds_all_that_scores_depend_on(evaluated, task, world, tmp_path) -> None:
    first = key_of(evaluated(), tmp_path)
    assert key_of(evaluated(), tmp_path) == first
    assert key_of(evaluated(evaluate__tasks_limit=5), tmp_path) != first
    assert key_of(evaluated(seed=3), tmp_path) != first
    assert key_of(evaluated(engine__batch_size=4), tmp_path) != first
    assert key_of(evaluated(evaluate__tasks=[f"{task}=r3v_cot"]), tmp_path) != first
    other = shutil.copytree(world, tmp_path / "other")
    assert key_of(evaluated(evaluate__tasks_data=str(other)), tmp_path) == first  # the same content elsewhere
    rows = json.loads((other / "test.json").read_text())
    (other / "test.json").write_text(json.dumps(rows[::-1]))
    assert key_of(evaluated(evaluate__tasks_data=str(other)), tmp_path) != first
    task.write_text(task.read_text().replace("max_new_tokens: 16", "max_new_tokens: 20"))
    assert key_of(evaluated(), tmp_path) != first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluate__tasks": ["toi"]}, "There is no task toi"),
        ({"evaluate__tasks": ["pope"]}, "POPE"),
        ({"evaluate__tasks": ["mmhal"]}, "judge"),
        ({"evaluate__tasks": "toy"}, "tasks"),
        ({"evaluate__tasks_data": "/nowhere"}, "no folder /nowhere"),
        ({"evaluate__tasks": []}, "tasks_data, tasks_limit would do nothing without `tasks`"),
        ({"evaluate__tasks_limit": 0}, "evaluate.tasks_limit"),
        ({"evaluate__tasks_judge": "/nowhere.yaml"}, "nowhere.yaml cannot be read"),
    ],
)
def test_what_cannot_work_is_named_before_anything_runs(evaluated, changes, message) -> None:
    with pytest.raises(LoopError, match=re.escape(message)):
        steps_of(evaluated(**changes))


@pytest.mark.slow
def test_rounds_are_evaluated_reported_and_compared(evaluated, tmp_path, capsys) -> None:
    small = {"evaluate__samples": 0, "train__finetuning_type": "full", "train__max_steps": 2}
    path, run = evaluated(**small), tmp_path / "run"
    assert main(["loop", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "iter1/eval_toy" in shown and "toy accuracy" in shown and "toy v1, metric toy v" in shown
    scores = read_json(run / "iter1" / "tasks" / "toy" / "scores.json")
    report = read_json(run / "report" / "report.json")
    assert report["iterations"][1]["tasks"]["toy"]["value"] == scores["figures"]["accuracy"]["value"]
    assert scores["n"] == 4 and (run / "report" / "tasks.png").exists()
    assert "<h2>Tasks</h2>" in (run / "report" / "index.html").read_text()

    assert main(["loop", str(path)]) == 0
    assert "iter1/eval_toy: done before" in capsys.readouterr().out
    assert main(["loop", str(path), "--set", "evaluate.tasks_limit=3"]) == 0
    begun = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.endswith("...")]
    assert begun == ["iter0/eval_toy", "iter1/eval_toy"]

    out = tmp_path / "comparison"
    folders = [str(run / f"iter{number}") for number in (0, 1)]
    assert main(["report", "--compare", *folders, "--out", str(out)]) == 0
    compared = read_json(out / "comparison.json")["tasks"]
    assert compared.keys() == {"toy", "held-out questions"}
    values = compared["toy"]["figures"]["accuracy"]["values"]
    assert values["iter1"]["value"] == read_json(run / "iter1/tasks/toy/scores.json")["figures"]["accuracy"]["value"]
    held = compared["held-out questions"]["figures"]["test@1"]["values"]["iter1"]["value"]
    assert held == pytest.approx(100 * read_json(run / "iter1" / "scores.json")["scores"]["test@1"]["accuracy"])
    assert main(["report", "--compare", f"last={run}", f"first={run / 'iter0'}", "--text"]) == 0
