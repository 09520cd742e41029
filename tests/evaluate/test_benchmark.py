# SPDX-License-Identifier: Apache-2.0
"""Running benchmarks: what is generated, what is kept, what goes on when a task fails, and the command."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from llamafactory_mmself.cli import main
from llamafactory_mmself.data.questions import read_questions
from llamafactory_mmself.evaluate.benchmark import BenchmarkError, Settings, evaluate
from llamafactory_mmself.evaluate.original_llava import OriginalLlavaError, refuse_original_llava
from llamafactory_mmself.evaluate.predictions import PredictionError
from llamafactory_mmself.evaluate.results import read_results
from llamafactory_mmself.evaluate.tasks.layouts import MissingFile
from llamafactory_mmself.evaluate.tasks.task import Task, TaskError, load_task, select
from llamafactory_mmself.evaluate.verdicts import VerdictError
from llamafactory_mmself.generate.types import EngineError
from tests.evaluate.tasks import official
from tests.evaluate.tasks.files import lines
from tests.evaluate.tasks.recorded import Recorded, RecordedJudge, runner


POPE = {f"{part}-{n}": "Yes" for part in ("random", "popular", "adversarial") for n in (1, 2)}
MMHAL = {"0": "It is blue.", "1": "There are nine."}
RATINGS = {"There are nine.": "Rating: 2", "It is blue.": "Rating: 6"}


@pytest.fixture
def data(tmp_path) -> Path:
    """All benchmarks, a few items each."""
    return official.write(tmp_path / "benchmarks", "pope", "mmhal", "geoqa", "mmstar")


def tasks(*names: str) -> list[Task]:
    return [load_task(name) for name in names]


def settings(data: Path, **changes) -> Settings:
    return Settings(**{"data": data, "out": data.parent / "out", "draws": 20, **changes})


def written(path: Path):
    return json.loads(path.read_text())


def test_a_second_run_generates_nothing(data) -> None:
    first, second = Recorded(POPE), Recorded({})
    one = evaluate(tasks("pope"), settings(data), run=runner(first))
    before = (data.parent / "out/pope/scores.json").read_bytes()
    two = evaluate(tasks("pope"), settings(data), run=runner(second))
    assert (first.calls, second.calls) == (3, 0)
    assert one.scored[0].figures == two.scored[0].figures
    assert (data.parent / "out/pope/scores.json").read_bytes() == before


def test_a_run_that_broke_down_is_finished(data) -> None:
    broken, rest, whole = Recorded(POPE, fails_after=2), Recorded(POPE), Recorded(POPE)
    with pytest.raises(EngineError, match="out of memory"):
        evaluate(tasks("pope"), settings(data), run=runner(broken))
    assert not (data.parent / "out/pope/predictions.jsonl").exists()
    evaluate(tasks("pope"), settings(data), run=runner(rest))
    evaluate(tasks("pope"), settings(data, out=data.parent / "whole"), run=runner(whole))
    assert (broken.calls, rest.calls, whole.calls) == (2, 1, 3)
    name = "pope/predictions.jsonl"
    ours, theirs = ((data.parent / folder / name).read_text() for folder in ("out", "whole"))
    assert ours == theirs


def test_scores_tell_how_they_came_about(data) -> None:
    model = Recorded(POPE, cut=["random-1"])
    evaluate(
        tasks("pope"), settings(data, seed=3, temperature=0.5, top_p=0.9, command="mmself eval"), run=runner(model)
    )
    scores = written(data.parent / "out/pope/scores.json")
    assert (scores["task"], scores["version"], scores["n"], scores["cut"]) == ("pope", 1, 6, 1)
    assert scores["metric"] == {"name": "yes_no", "version": 1, "options": {}}
    assert (scores["policy"], scores["seed"], scores["command"]) == ("recorded", 3, "mmself eval")
    assert scores["sampling"]["temperature"] == 0.5 and scores["sampling"]["max_new_tokens"] == 16
    assert scores["headline"] == "f1" and scores["judge"] is None
    assert scores["figures"]["f1"]["low"] is None  # all questions are about one picture
    assert {"llamafactory-mmself", "transformers"} <= scores["versions"].keys()
    assert model.params is not None and model.params.top_p == 0.9
    (result,) = read_results(data.parent / "out").values()
    assert (result.task, len(result.ids), result.headline) == ("pope", 6, "f1")


def test_answers_are_scored_again_without_a_model(data) -> None:
    evaluate(tasks("pope"), settings(data), run=runner(Recorded(POPE)))
    path = data.parent / "out/pope/predictions.jsonl"
    path.write_text(path.read_text().replace('"Yes"', '"No"', 1))
    again = evaluate(tasks("pope"), settings(data))
    facts = again.scored[0].facts
    assert again.scored[0].figures["yes_ratio"].value == pytest.approx(500 / 6)
    assert facts["policy"] == "recorded" and facts["sampling"]["max_new_tokens"] == 16
    with pytest.raises(BenchmarkError, match="There is nothing to score again"):
        evaluate(tasks("geoqa"), settings(data))


def test_a_judges_words_are_kept(data) -> None:
    judge = RecordedJudge(RATINGS)
    first = evaluate(tasks("mmhal"), settings(data), run=runner(Recorded(MMHAL)), judge=judge)
    assert first.scored[0].figures["score"].value == 4.0
    assert first.scored[0].facts["judge"]["policy"] == "judge"
    assert (judge.calls, len(judge.asked[0].images)) == (1, 1)
    asleep = RecordedJudge({})
    evaluate(tasks("mmhal"), settings(data), run=runner(Recorded(MMHAL)), judge=asleep)
    again = evaluate(tasks("mmhal"), settings(data))
    assert asleep.calls == 0
    assert again.scored[0].figures == first.scored[0].figures
    assert again.scored[0].facts["judge"] == first.scored[0].facts["judge"]
    path = data.parent / "out/mmhal/predictions.jsonl"
    path.write_text(path.read_text().replace("nine", "ten"))
    with pytest.raises(VerdictError, match="no verdict on the answer to '1' by this rubric: give --judge"):
        evaluate(tasks("mmhal"), settings(data))


def test_a_task_with_a_judge_needs_one_before_anything_is_sampled(data) -> None:
    model = Recorded(MMHAL)
    with pytest.raises(BenchmarkError, match="MMHal-Bench is scored by a judge: give --judge"):
        evaluate(tasks("mmhal"), settings(data), run=runner(model))
    assert model.calls == 0


def test_a_group_goes_on_without_the_task_that_fails(data) -> None:
    model = Recorded(POPE | {"test-0": "Answer: B", "test-1": "Answer: B"})
    found = evaluate(tasks("pope", "chartqa", "mmhal", "geoqa"), settings(data), run=runner(model))
    assert [item.task.name for item in found.scored] == ["pope", "geoqa"]
    assert "has no folder chartqa for ChartQA" in found.not_run["chartqa"]
    assert "--judge" in found.not_run["mmhal"]
    with pytest.raises(MissingFile):
        evaluate(tasks("chartqa"), settings(data), run=runner(model))


def test_the_model_goes_before_the_judge_comes(data) -> None:
    order: list[str] = []

    class Judge(RecordedJudge):
        def generate(self, *arguments):
            order.append("judged")
            return super().generate(*arguments)

    evaluate(
        tasks("mmhal", "pope"),
        settings(data),
        run=runner(Recorded(MMHAL | POPE)),
        judge=Judge(RATINGS),
        release=lambda: order.append("released"),
    )
    assert order == ["released", "judged"]


def test_a_prompt_of_the_users_own(data, tmp_path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("version: 7\n\nLook well. {question}\n")
    model = Recorded(POPE)
    evaluate(tasks("pope"), settings(data, prompts={"eval_yes_no": str(own)}), run=runner(model))
    assert all(request.messages[0].content.startswith("<image>\nLook well. Is there") for request in model.asked)
    assert written(data.parent / "out/pope/scores.json")["prompt"].startswith("7-")


def test_predictions_from_elsewhere(data, tmp_path) -> None:
    file = tmp_path / "answers.json"
    file.write_text(json.dumps([{"question_id": id, "response": text} for id, text in POPE.items()]))
    found = evaluate(tasks("pope"), settings(data), predictions=file)
    assert found.scored[0].figures["yes_ratio"].value == 100.0
    rows = json.loads(file.read_text())
    file.write_text(json.dumps(rows[1:]))
    with pytest.raises(PredictionError, match="1 of 6 questions have no prediction, the first is 'random-1'"):
        evaluate(tasks("pope"), settings(data), predictions=file)
    file.write_text(json.dumps([*rows, {"id": "x", "text": "y"}]))
    with pytest.raises(PredictionError, match="the task has no question 'x'"):
        evaluate(tasks("pope"), settings(data), predictions=file)
    file.write_text(json.dumps([*rows, rows[0]]))
    with pytest.raises(PredictionError, match="row 6: 'random-1' comes twice"):
        evaluate(tasks("pope"), settings(data), predictions=file)
    file.write_text(json.dumps([{"id": 1}]))
    with pytest.raises(PredictionError, match="row 0: a text is expected in one of the fields text, response"):
        evaluate(tasks("pope"), settings(data), predictions=file)
    several = evaluate(tasks("pope", "geoqa"), settings(data), predictions=file)
    assert all("because there are several tasks" in why for why in several.not_run.values())


def test_who_answered_elsewhere_is_not_made_up(data, tmp_path) -> None:
    evaluate(tasks("pope"), settings(data, engine={"name": "hf"}), run=runner(Recorded(POPE)))
    file = tmp_path / "answers.jsonl"
    lines(file, [{"id": id, "text": text} for id, text in POPE.items()])
    evaluate(tasks("pope"), settings(data), predictions=file)
    scores = written(data.parent / "out/pope/scores.json")
    assert [scores[name] for name in ("engine", "sampling", "prompt", "policy")] == [None, None, None, ""]
    first = json.loads((data.parent / "out/pope/predictions.jsonl").read_text().splitlines()[0])
    assert first["prompt"] is None and first["text"] == "Yes"


def test_an_answer_that_a_turn_leaves_is_not_judged_again(data, tmp_path) -> None:
    folder = tmp_path / "correct"
    said = [{"request": id, "k": 0, "text": text} for id, text in MMHAL.items()]
    lines(folder / "turn0.jsonl", said)
    lines(folder / "turn1.jsonl", [{"request": "1@0", "k": 0, "text": "It is blue. There are two."}])
    judge = RecordedJudge(RATINGS)
    found = evaluate(tasks("mmhal"), settings(data), predictions=folder, judge=judge)
    assert [item.figures["score"].value for item in found.scored] == [4.0, 6.0]
    assert len(judge.asked) == 3


@pytest.mark.parametrize(
    ("need", "there", "problem"),
    [
        ("nltk", (), r"pip install 'llamafactory-mmself\[eval\]'"),
        ("spacy:en_core_web_lg", ("spacy",), "python -m spacy download en_core_web_lg"),
    ],
)
def test_what_scoring_needs_is_looked_for_first(need, there, problem, data, monkeypatch) -> None:
    monkeypatch.setattr("llamafactory_mmself.evaluate.benchmark.find_spec", lambda name: name in there or None)
    model = Recorded(POPE)
    with pytest.raises(BenchmarkError, match=problem):
        evaluate([replace(load_task("pope"), needs=(need,))], settings(data), run=runner(model))
    assert model.calls == 0


def test_corrections_are_scored_turn_by_turn(data, tmp_path) -> None:
    folder = tmp_path / "correct"
    lines(folder / "turn0.jsonl", [turn("test-0", 0, "C"), turn("test-0", 1, "B"), turn("test-1", 0, "A")])
    lines(folder / "turn1.jsonl", [turn("test-0@0", 0, "B"), turn("test-0@1", 0, "A"), turn("test-1@0", 0, "B")])
    lines(folder / "turn2.jsonl", [turn("test-0@0", 0, "A")])  # the other one had ended
    found = evaluate(tasks("geoqa"), settings(data), predictions=folder)
    assert [item.figures["accuracy"].value for item in found.scored] == [0.0, 100.0, 50.0]
    assert [item.facts["turn"] for item in found.scored] == [0, 1, 2]
    again = evaluate(tasks("geoqa"), settings(data))
    assert [item.figures["accuracy"].value for item in again.scored] == [0.0, 100.0, 50.0]
    assert read_results(data.parent / "out/turn1")["geoqa"].columns["right"].tolist() == [1.0, 1.0]


def turn(request: str, k: int, letter: str) -> dict:
    return {"id": f"{request}#{k}", "request": request, "k": k, "policy": "p", "text": f"Answer: {letter}"}


@pytest.mark.parametrize("model_type", ["llava", "llava_llama"])
def test_original_llava_is_told_how_to_be_converted(model_type, tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "mm_vision_tower": "openai/clip"}))
    with pytest.raises(OriginalLlavaError, match=r"convert_llava_weights_to_hf\.py"):
        refuse_original_llava(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava", "text_config": {}, "vision_config": {}}))
    refuse_original_llava(str(tmp_path), [str(tmp_path)])
    (tmp_path / "non_lora_trainables.bin").write_bytes(b"")
    with pytest.raises(OriginalLlavaError, match=r"merge_lora_weights\.py"):
        refuse_original_llava("llava-hf/llava-1.5-7b-hf", [str(tmp_path)])
    with pytest.raises(OriginalLlavaError, match="for liuhaotian/llava-v1"):
        refuse_original_llava("liuhaotian/llava-v1.5-7b")


def test_groups_and_own_task_files(tmp_path) -> None:
    rule, judge, every = select(["rule"]), select(["judge"]), select(["all"])
    assert {task.name for task in judge} == {"mmhal", "object_hal", "llava_bench", "mmvet"}
    assert {task.name for task in every} == {task.name for task in (*rule, *judge)}
    assert "mmbench_test" not in {task.name for task in every}
    own = tmp_path / "own.yaml"
    text = load_task("toy").file.read_text()
    own.write_text(text.replace("name: toy\nversion: 1", "name: own\nversion: 2"))
    assert [(task.name, task.version) for task in select([str(own), "pope", "pope"])] == [("own", 2), ("pope", 1)]
    own.write_text(text.replace("layout: questions", "layout: nowhere"))
    with pytest.raises(TaskError, match="key `layout`: there is no reader 'nowhere'"):
        load_task(own)
    own.write_text(text.replace("max_new_tokens: 256", "max_new_tokens: 0"))
    with pytest.raises(TaskError, match="key `max_new_tokens`: a whole number from 1"):
        load_task(own)
    with pytest.raises(TaskError, match=r"There is no task nothing\..* Tasks are ai2d, "):
        load_task("nothing")


def test_the_command_scores_predictions_and_tells_what_was_not_run(data, tmp_path, capsys) -> None:
    answers = tmp_path / "answers"
    lines(answers / "pope.jsonl", [{"id": id, "text": text} for id, text in POPE.items()])
    line = ["eval", "--task", "pope", "geoqa", "--data", str(data), "--out", str(tmp_path / "o"), "--draws", "20"]
    assert main([*line, "--predictions", str(answers)]) == 1
    out = capsys.readouterr().out
    assert "| task | figure | value | 95 %" in out and "| pope | f1     | 66.7  |" in out
    assert "Not run:" in out and "- geoqa: " in out
    summary = written(tmp_path / "o/summary.json")
    assert summary["tasks"][0]["value"] == pytest.approx(200 / 3)
    assert list(summary["not_run"]) == ["geoqa"]
    assert (tmp_path / "o/summary.md").read_text().strip() == out.strip()
    before = (tmp_path / "o/pope/predictions.jsonl").read_bytes()
    assert main(["eval", "--rescore", *line[4:], "--limit", "2"]) == 0
    assert "| pope | f1     | 66.7  |" in capsys.readouterr().out  # yes is true for one of two
    assert (tmp_path / "o/pope/predictions.jsonl").read_bytes() == before


def test_the_command_lists_tasks_and_their_files(data, capsys) -> None:
    (data / "pope/output/coco/coco_pope_random.json").unlink()
    assert main(["eval", "--list", "--data", str(data)]) == 0
    shown = {line.split("|")[1].strip(): line for line in capsys.readouterr().out.splitlines()[2:]}
    assert "all there" in shown["mmhal"] and "judge" in shown["mmhal"]
    assert "missing: coco_pope_random.json" in shown["pope"]
    assert "no folder chartqa" in shown["chartqa"]


def test_the_command_writes_questions_for_other_commands(data, tmp_path, capsys) -> None:
    file = tmp_path / "questions.json"
    assert main(["eval", "--task", "geoqa", "--data", str(data), "--questions", str(file)]) == 0
    first = read_questions(file)[0]
    assert (first.id, first.text, first.answer, first.choices) == (
        "test-0",
        "angle 0 = ()",
        "B",
        ("58.0", "68.0", "78.0", "None"),
    )
    assert main(["eval", "--task", "mmstar", "--data", str(data), "--questions", str(file)]) == 0
    assert read_questions(file)[0].block == "What is 0?\nOptions: A: one, two, B: three, C: four"
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "--task says what to run"),
        (["--task", "pope"], "--data DIR, or the environment variable MMSELF_BENCHMARKS"),
        (["--task", "pope", "--data", "d"], "--out DIR says where to write"),
        (["--task", "pope", "--data", "d", "--out", "o", "--limit", "0"], "at least one question"),
        (["--task", "pope", "--data", "d", "--out", "o", "--rescore", "--predictions", "p"], "leave it out"),
        (["--task", "pope", "--data", "d", "--out", "o", "--prompt", "mmstar=x"], "no task of this run and no prompt"),
        (["--task", "pope", "--data", "d", "--out", "o"], "the hf engine needs `model`"),
        (["--task", "pope", "--data", "nowhere", "--out", "o"], "There is no folder nowhere of benchmarks"),
        (["--list", "--data", "nowhere"], "There is no folder nowhere of benchmarks"),
        (["--task", "popp", "--data", "d", "--out", "o"], "Did you mean pope?"),
        (["--task", "pope", "--data", "d", "--out", "o", "--draws", "-1"], "at least 0 is expected"),
        (["--data", "d", "--out", "o", "--rescore"], "o has no predictions of any task"),
    ],
)
def test_the_command_says_what_is_missing(arguments, problem, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("MMSELF_BENCHMARKS", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    assert main(["eval", *arguments]) == 2
    assert problem in capsys.readouterr().err


def test_the_command_refuses_original_llava_before_loading(data, tmp_path, capsys) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava_llama"}))
    line = ["eval", "--task", "pope", "--data", str(data), "--out", str(tmp_path / "o"), "--template", "llava"]
    assert main([*line, "--model", str(tmp_path), "--adapter", "none"]) == 2
    assert "convert_llava_weights_to_hf.py" in capsys.readouterr().err
