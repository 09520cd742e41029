# SPDX-License-Identifier: Apache-2.0
"""Other harnesses: lmms-eval through its command line, here a stand-in, and VLMEvalKit through prediction files."""

import csv
import json
import math
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

from llamafactory_mmself.cli import main
from llamafactory_mmself.evaluate.bridges.lmms_eval import (
    BridgeError,
    LmmsRun,
    find_python,
    model_name,
    run_lmms_eval,
)
from llamafactory_mmself.evaluate.bridges.vlmevalkit import dataset_name, export_predictions
from llamafactory_mmself.evaluate.compare import compare_models
from llamafactory_mmself.evaluate.metrics.base import Item
from llamafactory_mmself.evaluate.predictions import Prediction
from llamafactory_mmself.evaluate.results import Contender, read_results
from llamafactory_mmself.evaluate.tasks.task import load_task
from llamafactory_mmself.files import read_json


# What lmms-eval 0.7 writes, cut to what is read; a metric of sums (f1) has no number a sample.
STAND_IN = """
import json, os, sys, time
from pathlib import Path

arguments = sys.argv[1:]
if arguments[:1] == ["-c"]:
    print(os.environ.get("STAND_IN_VERSION", "0.7.3"))
    raise SystemExit(0 if "STAND_IN_MISSING" not in os.environ else 1)
assert arguments[:2] == ["-m", "lmms_eval"], arguments
assert arguments.pop() == "--log_samples"
given = dict(zip(arguments[2::2], arguments[3::2]))
Path(os.environ["STAND_IN_SEEN"]).write_text(json.dumps([given, os.environ.get("HF_HUB_OFFLINE")]))
if os.environ.get("STAND_IN_FAILS"):
    print("Error during evaluation: no such model. Please set --verbosity=DEBUG")
    raise SystemExit(0)
folder = Path(given["--output_path"]) / "some__model"
folder.mkdir(parents=True, exist_ok=True)
date = time.time_ns()
right = json.loads(os.environ.get("STAND_IN_RIGHT", "[1, 0, 1, 1]"))
mean = sum(right) / len(right)
task = given["--tasks"]
results = {
    "results": {
        task: {
            "alias": task, "accuracy,none": mean, "accuracy_stderr,none": 0.1, "accuracy_stderr_clt,none": 0.1,
            "accuracy_stderr_clustered,none": "N/A", "f1,strict": 0.6, "f1_stderr,strict": "N/A",
            "errors,none": 1 - mean, "errors_stderr,none": 0.1,
        },
        "a_group": {"alias": "a_group", " ": " "},
    },
    "versions": {task: 2.0}, "n-samples": {task: {"original": 9, "effective": len(right)}},
    "higher_is_better": {task: {"accuracy": True, "f1": True, "errors": False}},
    "config": {"model": given["--model"], "model_args": given["--model_args"], "limit": None},
    "task_hashes": {task: "hash"}, "date": str(date),
}
(folder / f"{date}_results.json").write_text(json.dumps(results))
with open(folder / f"{date}_samples_{task}.jsonl", "w") as file:
    for number, value in enumerate(right):
        row = {"doc_id": number, "target": "A", "filtered_resps": "A", "input": f"Question {number}?",
               "doc_hash": "h", "accuracy": float(value), "errors": 1.0 - value, "f1": {"pred": "A"}}
        file.write(json.dumps(row) + "\\n")
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python that only knows lmms-eval's command line."""
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{STAND_IN}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("STAND_IN_SEEN", str(tmp_path / "seen.json"))
    return program


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2_vl"}')
    return folder


@pytest.fixture
def request_run(stand_in: Path, model: Path, tmp_path: Path) -> Callable[..., LmmsRun]:
    def make(out: str = "out", **changes: Any) -> LmmsRun:
        values = {
            "python": stand_in,
            "tasks": ("mmstar",),
            "model": str(model),
            "out": tmp_path / out,
            "device": "cpu",
        }
        return LmmsRun(**{**values, **changes})

    return make


def test_results_come_in_the_form_of_all_scores(request_run, model, tmp_path) -> None:
    (folder,) = run_lmms_eval(request_run(limit=4, include_path=tmp_path, arguments="max_pixels=9"))
    seen, offline = json.loads((tmp_path / "seen.json").read_text())
    assert seen["--model"] == "qwen2_vl" and seen["--tasks"] == "mmstar" and seen["--limit"] == "4"
    assert seen["--model_args"] == f"pretrained={model},device=cpu,device_map=cpu,max_pixels=9"
    assert seen["--include_path"] == str(tmp_path) and offline == "1"

    scores, columns = read_json(folder / "scores.json"), read_json(folder / "columns.json")
    assert folder == tmp_path / "out" / "lmms-eval-mmstar" and scores["task"] == "lmms-eval:mmstar"
    assert scores["headline"] == "accuracy" and scores["n"] == 4 and scores["version"] == 2.0
    assert scores["metric"]["options"] == {"lmms_eval": "0.7.3", "lower": ["errors"]}
    accuracy = scores["figures"]["accuracy"]
    assert accuracy["value"] == 0.75 and accuracy["high"] - accuracy["low"] == pytest.approx(2 * 1.96 * 0.1, abs=1e-3)
    assert scores["figures"]["f1,strict"] == {"value": 0.6, "low": None, "high": None}
    assert columns["ids"] == ["0", "1", "2", "3"] and columns["columns"].keys() == {"accuracy", "errors"}


def test_ai2d_without_masks_is_a_data_set_of_its_own(tmp_path) -> None:
    task = load_task("ai2d")
    (tmp_path / "ai2d").mkdir()
    for name, expected in (("AI2D_TEST.tsv", "AI2D_TEST"), ("AI2D_TEST_NO_MASK.tsv", "AI2D_TEST_NO_MASK")):
        (tmp_path / "ai2d" / name).touch()
        assert dataset_name(task, None, tmp_path) == dataset_name(task, None, tmp_path / "ai2d") == expected
    assert dataset_name(task, "mine", tmp_path) == "mine"


def test_they_are_compared_in_pairs_where_that_is_possible(request_run, monkeypatch) -> None:
    run_lmms_eval(request_run("a"))
    monkeypatch.setenv("STAND_IN_RIGHT", "[1, 1, 1, 1]")
    run_lmms_eval(request_run("b"))
    found = compare_models(
        [
            Contender(name, run.out, read_results(run.out))
            for name, run in (("a", request_run("a")), ("b", request_run("b")))
        ]
    )
    (item,) = found.tables
    lines = {line.figure: line for line in item.lines}
    assert item.headline == "accuracy" and lines["accuracy"].gains[1].value == pytest.approx(0.25)
    assert lines["accuracy"].gains[1].interval is not None and lines["accuracy"].scale.top == 1
    assert lines["f1,strict"].gains[1].value == 0 and lines["f1,strict"].gains[1].interval is None
    assert lines["errors"].scale.lower and not lines["accuracy"].scale.lower


def test_another_version_is_not_compared(request_run, monkeypatch) -> None:
    run_lmms_eval(request_run("a"))
    monkeypatch.setenv("STAND_IN_VERSION", "0.8")
    run_lmms_eval(request_run("b"))
    with pytest.raises(ValueError, match="metric options"):
        compare_models([Contender(name, Path(), read_results(request_run(name).out)) for name in ("a", "b")])


def test_a_run_without_results_is_an_error_with_the_end_of_its_log(request_run, monkeypatch) -> None:
    """lmms-eval ends with status 0 when an evaluation fails."""
    monkeypatch.setenv("STAND_IN_FAILS", "1")
    with pytest.raises(BridgeError, match=r"(?s)wrote no results.*no such model"):
        run_lmms_eval(request_run())


def test_without_lmms_eval_there_is_the_command_that_installs_it(stand_in, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BridgeError, match=r"python -m venv \.venv-lmms-eval.*pip install lmms-eval"):
        find_python(None, beside=(tmp_path,))
    assert find_python(stand_in) == (stand_in, "0.7.3")
    place = tmp_path / ".venv-lmms-eval" / "bin"
    place.mkdir(parents=True)
    (place / "python").symlink_to(stand_in)
    assert find_python(None, beside=(tmp_path,)) == (place / "python", "0.7.3")
    monkeypatch.setenv("STAND_IN_MISSING", "1")
    with pytest.raises(BridgeError, match="bin/python has no lmms-eval"):
        find_python(stand_in)
    with pytest.raises(BridgeError, match="no program"):
        find_python(tmp_path / "nowhere")


def test_names_of_models_there(model, tmp_path) -> None:
    assert model_name(str(model)) == "qwen2_vl"
    (model / "config.json").write_text('{"model_type": "llava"}')
    assert model_name(str(model)) == "llava_hf"
    (model / "config.json").write_text('{"model_type": "strange"}')
    with pytest.raises(BridgeError, match="--lmms_model"):
        model_name(str(model))
    with pytest.raises(BridgeError, match="--lmms_model"):
        model_name("some/name-of-a-hub")


def test_the_command_goes_through_lmms_eval(stand_in, model, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    line = ["eval", "--via", "lmms-eval", "--lmms_python", str(stand_in), "--task", "mmstar", "--model", str(model)]
    assert main([*line, "--device", "cpu", "--out", str(tmp_path / "out"), "--download"]) == 0
    assert json.loads((tmp_path / "seen.json").read_text())[1] is None
    shown = capsys.readouterr().out
    assert "lmms-eval:mmstar" in shown and "0.75" in shown
    assert main(["eval", "--via", "lmms-eval", "--task", "mmstar", "--out", str(tmp_path / "out")]) == 2
    assert "--model" in capsys.readouterr().err
    assert main(["eval", "--task", "mmstar", "--download", "--out", "x", "--data", str(tmp_path)]) == 2
    assert "--download would do nothing without --via lmms-eval" in capsys.readouterr().err


def test_an_adapter_is_merged_first_and_once(stand_in, model, tmp_path, capsys, monkeypatch) -> None:
    from llamafactory_mmself.loop import training

    merged: list[str] = []

    def merge(base: str, adapter: Path, template: str, output: Path, config: Path, extra: dict[str, Any]) -> None:
        merged.append(f"{base} {adapter} {template}")
        output.mkdir(parents=True, exist_ok=True)
        (output / "config.json").write_text('{"model_type": "qwen2_vl"}')
        (output / "model.safetensors").write_text("")

    monkeypatch.setattr(training, "merge", merge)
    line = ["eval", "--via", "lmms-eval", "--lmms_python", str(stand_in), "--task", "mmstar", "--device", "cpu"]
    line += ["--model", str(model), "--out", str(tmp_path / "out"), "--adapter", "one"]
    assert main(line) == 2 and "--template" in capsys.readouterr().err
    line += ["--template", "qwen2_vl"]
    for adapter, weights, count in (("one", "1", 1), ("one", "1", 1), ("two", "2", 2), ("two", "trained again", 3)):
        (tmp_path / adapter).mkdir(exist_ok=True)
        (tmp_path / adapter / "adapter_model.safetensors").write_text(weights)
        line[line.index("--adapter") + 1] = str(tmp_path / adapter)
        assert main(line) == 0 and len(merged) == count
    seen = json.loads((tmp_path / "seen.json").read_text())[0]
    assert seen["--model_args"].startswith(f"pretrained={tmp_path / 'out' / 'merged'},")


# VLMEvalKit.


def items() -> list[Item]:
    truth = {
        "answer": "B",
        "choices": ["red", "blue"],
        "category": "colour",
        "l2_category": "hue",
        "question": "What?",
    }
    return [Item("7", "What?\nA. red", ("x.png",), truth), Item("8", "Why?", (), {"answer": ["a", "b"], "scene": {}})]


def read_tsv(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_predictions_for_vlmevalkit(tmp_path) -> None:
    answers = [Prediction("7", 'Because\t"x"\nB'), Prediction("8", "")]
    path = export_predictions(load_task("mmstar"), items(), answers, "my model", tmp_path)
    assert path == tmp_path / "my_model" / "my_model_MMStar.tsv"
    first, second = read_tsv(path)
    assert first == {
        "index": "7", "question": "What?", "A": "red", "B": "blue", "answer": "B", "category": "colour",
        "l2-category": "hue", "prediction": 'Because\t"x"\nB',
    }  # fmt: skip
    assert second["index"] == "8" and second["question"] == "Why?" and second["A"] == ""
    assert json.loads(second["answer"].replace("'", '"')) == ["a", "b"] and "scene" not in first


def test_pandas_reads_them_as_vlmevalkit_does(tmp_path) -> None:
    answers = [Prediction("7", "B"), Prediction("8", "None")]
    table = pandas.read_csv(export_predictions(load_task("mmstar"), items(), answers, "m", tmp_path), sep="\t")
    assert list(table["index"]) == [7, 8] and table["prediction"][0] == "B"
    assert math.isnan(table["A"][1])


def test_indices_are_numbers_and_names_are_theirs(tmp_path) -> None:
    named = [Item("random-1", "Is it?", (), {"answer": "yes"}), Item("random-2", "Is it?", (), {"answer": "no"})]
    rows = read_tsv(
        export_predictions(load_task("pope"), named, [Prediction(item.id, "Yes") for item in named], "m", tmp_path)
    )
    assert [row["index"] for row in rows] == ["0", "1"] and [row["id"] for row in rows] == ["random-1", "random-2"]
    assert dataset_name(load_task("pope"), None) == "POPE" and dataset_name(load_task("pope"), "Other") == "Other"
    with pytest.raises(BridgeError, match="--export_dataset"):
        dataset_name(load_task("toy"), None)


def test_the_command_exports_what_was_predicted(tmp_path, capsys) -> None:
    from llamafactory_mmself.toyworld.world import WorldOptions, write_world

    write_world(tmp_path / "data" / "toy", WorldOptions(train=2, test=3, captions=2))
    rows = json.loads((tmp_path / "data" / "toy" / "test.json").read_text())
    made = tmp_path / "made.jsonl"
    made.write_text("".join(json.dumps({"id": row["id"], "text": "Answer: A"}) + "\n" for row in rows))
    line = ["eval", "--task", "toy", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    more = ["--export", "vlmevalkit", "--export_name", "mine", "--export_dataset", "Toy"]
    assert main([*line, "--predictions", str(made), *more]) == 0
    path = tmp_path / "out" / "vlmevalkit" / "mine" / "mine_Toy.tsv"
    assert str(path) in capsys.readouterr().out
    assert [row["prediction"] for row in read_tsv(path)] == ["Answer: A"] * 3
    path.unlink()
    assert main([*line, "--rescore", *more]) == 0 and path.exists()
