# SPDX-License-Identifier: Apache-2.0
"""One local task through the real lmms-eval, in an environment of its own: `make test-lmms-eval`."""

import json
from pathlib import Path

import pytest

from llamafactory_mmself.cli import main
from llamafactory_mmself.files import read_json
from llamafactory_mmself.toyworld.training import shipped_base
from llamafactory_mmself.toyworld.world import WorldOptions, write_world


pytestmark = pytest.mark.slow

TASK = """
task: mmself_toy
dataset_path: json
dataset_kwargs:
  data_files:
    test: {folder}/test.json
test_split: test
output_type: generate_until
doc_to_visual: !function mmself_toy.visual
doc_to_text: !function mmself_toy.text
doc_to_target: answer
generation_kwargs:
  max_new_tokens: 16
  temperature: 0
  do_sample: false
process_results: !function mmself_toy.score
metric_list:
  - metric: accuracy
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""
FUNCTIONS = """
from PIL import Image


def visual(row):
    return [Image.open("{folder}/" + name).convert("RGB") for name in row["images"]]


def text(row, lmms_eval_specific_kwargs=None):
    options = "\\n".join(f"({{letter}}) {{choice}}" for letter, choice in zip("ABCD", row["choices"]))
    return f"{{row['question']}}\\nChoices:\\n{{options}}\\nAnswer with the letter."


def score(row, results):
    return {{"accuracy": float(results[0].strip().endswith(row["answer"]))}}
"""


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A folder with the toy world's questions as a task in lmms-eval's form."""
    world, folder = tmp_path / "world", tmp_path / "tasks"
    write_world(world, WorldOptions(train=2, test=6, captions=2))
    folder.mkdir()
    (folder / "mmself_toy.yaml").write_text(TASK.format(folder=world))
    (folder / "mmself_toy.py").write_text(FUNCTIONS.format(folder=world))
    return folder


def test_a_local_task_on_the_shipped_model(tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = shipped_base("qwen2_vl", WorldOptions()), tmp_path / "out"
    line = ["eval", "--via", "lmms-eval", "--task", "mmself_toy", "--include_path", str(tasks), "--model", str(model)]
    assert main([*line, "--device", "cpu", "--batch_size", "2", "--limit", "4", "--out", str(out)]) == 0
    assert "lmms-eval:mmself_toy: accuracy" in capsys.readouterr().out
    folder = out / "lmms-eval-mmself_toy"
    scores, columns = read_json(folder / "scores.json"), read_json(folder / "columns.json")
    assert scores["n"] == 4 and scores["version"] == 1.0 and scores["headline"] == "accuracy"
    values = columns["columns"]["accuracy"]
    assert len(values) == 4 and scores["figures"]["accuracy"]["value"] == pytest.approx(sum(values) / 4)
    assert "mmself_toy" in json.dumps(scores["task"])
    assert main(["report", "--compare", str(out), f"again={out}", "--text"]) == 0


def test_a_task_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = shipped_base("qwen2_vl", WorldOptions())
    line = ["eval", "--via", "lmms-eval", "--task", "no_such_task", "--model", str(model), "--device", "cpu"]
    assert main([*line, "--out", str(tmp_path / "out")]) == 2
    assert "no_such_task" in capsys.readouterr().err
