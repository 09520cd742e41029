# SPDX-License-Identifier: Apache-2.0
"""Parts of the evaluation during training that need no training: see tests/e2e/test_eval_during.py for the rest."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from llamafactory_mmself.evaluate.benchmark import Settings
from llamafactory_mmself.evaluate.chosen import VARIABLE, chosen_tasks, data_root, read_task
from llamafactory_mmself.evaluate.during import RankedEngine, evaluate_task, logged_figures, undisturbed
from llamafactory_mmself.evaluate.tasks.task import TaskError, load_task
from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.types import Completion, EngineError, Request, SamplingParams
from llamafactory_mmself.toyworld.world import WorldOptions, write_world


class Says:
    """An engine that always says the same."""

    name = "hf"

    def __init__(self, text: str, policy: str = "step-3") -> None:
        self.text = text
        self.policy = policy
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request], params: SamplingParams, seed: int) -> list[list[Completion]]:
        self.asked += requests
        assert params.temperature == 0
        return [[Completion(self.text, (1, 2), "stop")] for _ in requests]

    def close(self) -> None:
        """Nothing to free."""


CONFIG = EngineConfig(model="m", template="qwen2_vl", batch_size=2)


def test_words_name_tasks_and_prompts(tmp_path: Path) -> None:
    chosen = chosen_tasks(["toy=r3v_cot", " mmstar "])
    assert [task.name for task in chosen.tasks] == ["toy", "mmstar"] and chosen.prompts == {"toy": "r3v_cot"}
    assert len(chosen_tasks(["rule"]).tasks) > 10
    for words in ([], ["toy="], ["rule=r3v_cot"], ["toi"]):
        with pytest.raises(TaskError):
            chosen_tasks(words)


def test_the_folder_of_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(TaskError, match=VARIABLE):
        data_root(None)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert data_root(None) == tmp_path and data_root(tmp_path / ".") == tmp_path / "."
    with pytest.raises(TaskError, match="no folder"):
        data_root(tmp_path / "gone")


def test_a_task_is_read_once_and_scored_often(tmp_path: Path) -> None:
    write_world(tmp_path / "toy", WorldOptions(train=2, test=5, captions=2))
    task = read_task(load_task("toy"), tmp_path, tmp_path / "pictures", 3)
    right = sum(item.truth["answer"] == "A" for item in task.held)
    (tmp_path / "toy" / "test.json").unlink()
    for step in (1, 2):
        engine = Says("Answer: A", f"step-{step}")
        scored = evaluate_task(task, Settings(tmp_path, tmp_path / f"step-{step}"), CONFIG, engine, None)
        assert len(engine.asked) == 3
        assert logged_figures(scored) == {"eval_toy_accuracy": pytest.approx(100 * right / 3)}
        assert json.loads((scored.folder / "scores.json").read_text())["policy"] == f"step-{step}"


def test_a_judge_scores_what_needs_one(tmp_path: Path) -> None:
    folder = tmp_path / "mmhal"
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(2):
        Image.new("RGB", (28, 28)).save(folder / "images" / f"{number}.jpg")
        row = {"question_type": "attribute", "question_topic": "animal", "image_id": f"{number}"}
        row |= {"image_src": f"https://a.b/{number}.jpg", "image_content": ["dog"], "question": "Which?"}
        rows.append({**row, "gt_answer": "red", "model_answer": ""})
    (folder / "response_template.json").write_text(json.dumps(rows))
    task = read_task(load_task("mmhal"), tmp_path, tmp_path / "pictures")
    scored = evaluate_task(
        task, Settings(tmp_path, tmp_path / "out"), CONFIG, Says("Red."), Says("Rating: 4", "judge")
    )
    assert logged_figures(scored)["eval_mmhal_score"] == 4
    assert json.loads((scored.folder / "scores.json").read_text())["judge"]["policy"] == "judge"


def test_modes_and_random_states_come_back() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(2, 2)))
    model.train()
    model[1].eval()  # a frozen part that trains in evaluation mode
    before = [module.training for module in model.modules()]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with pytest.raises(ValueError, match="stop"), undisturbed(model):
        assert not any(module.training for module in model.modules())
        random.random(), np.random.rand(), torch.rand(1)
        raise ValueError("stop")
    assert [module.training for module in model.modules()] == before
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


def test_one_rank_answers_alone_and_says_why_it_cannot() -> None:
    engine = RankedEngine(Says("yes"))  # type: ignore[arg-type]
    requests = [Request.ask("a", "?"), Request.ask("b", "?")]
    assert engine.first and engine.policy == "step-3"
    assert [item[0].text for item in engine.generate(requests, SamplingParams(temperature=0), 0)] == ["yes", "yes"]

    class Broken(Says):
        def generate(self, *args: object) -> list[list[Completion]]:
            raise EngineError("no memory")

    with pytest.raises(EngineError, match="Rank 0: no memory"):
        RankedEngine(Broken("")).generate(requests, SamplingParams(), 0)  # type: ignore[arg-type]
