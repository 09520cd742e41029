# SPDX-License-Identifier: Apache-2.0
"""The report of a run: numbers, files and page, at the end and on the way."""

import json
import random
import re
from pathlib import Path

import pytest
from PIL import Image

from llamafactory_mmself.cli import main
from llamafactory_mmself.data.questions import Question, read_questions, write_questions
from llamafactory_mmself.evaluate.answers import score
from llamafactory_mmself.files import read_json, write_json, write_jsonl
from llamafactory_mmself.generate.types import Completion, Sample
from llamafactory_mmself.loop.pages import chosen_questions
from llamafactory_mmself.loop.report import accuracy_table, text, write_report
from llamafactory_mmself.loop.steps import LoopError
from llamafactory_mmself.loop.view import read_run
from llamafactory_mmself.recipes.examples import write_dataset
from llamafactory_mmself.recipes.prompts import Prompts
from llamafactory_mmself.recipes.r3v import R3VOptions, build
from llamafactory_mmself.recipes.records import Checked, verify_samples


QUESTIONS = 40
SECONDS = {"samples_train": 21.0, "check_samples_train": 0.4, "train": 62.5, "test_greedy": 4.0, "score": 0.1}


def answer(question: Question, right: float, draw: random.Random) -> str:
    """A plausible answer; one in twenty cannot be read."""
    if draw.random() < 0.05:
        return "The picture shows <b>shapes</b> & more shapes."
    letter = question.answer if draw.random() < right else draw.choice([c for c in "ABCD" if c != question.answer])
    return f"I count the shapes one by one, row by row, and compare with the options.\nAnswer: {letter}"


def checked(questions: list[Question], n: int, right: float, iteration: int, seed: str) -> list[Checked]:
    draw = random.Random(seed)
    samples = [
        Sample(f"{q.id}#{k}", q.id, k, "policy", Completion(answer(q, right, draw), (1, 2, 3), "stop", None, 40))
        for q in questions
        for k in range(n)
    ]
    return verify_samples(questions, samples, "letters", iteration)


def write_run(folder: Path, iterations: int = 2) -> Path:
    """A folder as `mmself loop` leaves it, with made-up answers of a model that gets better."""
    questions = []
    for number in range(QUESTIONS):
        image = folder / "data" / f"{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (56, 56), (number * 6, 80, 160)).save(image)
        letter = "ABCD"[number % 4]
        extra = {"category": "count" if number % 2 else "where"}
        questions.append(
            Question(f"q{number}", "How many <red> shapes?", letter, (str(image),), ("1", "2", "3", "4"), extra)
        )
    test = folder / "data" / "test.json"
    write_questions(test, questions)
    run, steps, pool = folder / "run", {}, []
    for number in range(iterations + 1):
        place, right = run / f"iter{number}", 0.45 + 0.2 * number
        files = {
            "test_greedy": checked(questions, 1, right, number, f"g{number}"),
            "test_samples": checked(questions, 3, right, number, f"s{number}"),
            "test_select": checked(questions, 1, right + 0.1, number, f"c{number}"),
        }
        for name, rows in files.items():
            write_jsonl(place / f"checked_{name}.jsonl", (row.to_row() for row in rows))
        scores = score(
            questions,
            greedy=files["test_greedy"],
            samples=files["test_samples"],
            select=files["test_select"],
            profile="letters",
            seed=7,
        )
        write_json(place / "scores.json", scores.to_dict())
        if number:
            write_dataset(place / "train", "self_training", build(questions, pool, R3VOptions(), Prompts.load(), 0))
        pool += checked(questions, 3, right, number, f"t{number}")
        for name, seconds in SECONDS.items():
            if number or name != "train":
                steps[f"iter{number}/{name}"] = {"seconds": seconds + number, "figures": {"of": 1}}
    settings = {"method": "r3v", "seed": 7, "base_model": "tiny", "iterations": iterations, "test_data": str(test)}
    write_json(run / "run.json", {**settings, "verifier": "letters", "sampling": {"n": 3, "temperature": 0.7}})
    write_json(run / "manifest.json", {"planned": [*steps], "steps": steps})
    return run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return write_run(tmp_path)


def test_the_table_has_every_round_with_interval_unparsed_and_gain(run_folder: Path) -> None:
    run = read_run(run_folder)
    header, rows = accuracy_table(run)
    assert header[:4] == ["iteration", "test@1 %", "95 %", "unparsed"]
    assert [row[0] for row in rows] == ["iter0 (start)", "iter1", "iter2"]
    stored = read_json(run_folder / "iter2" / "scores.json")["scores"]["test@1"]
    assert rows[2][1] == f"{100 * stored['accuracy']:.1f}" and rows[2][3] == str(stored["unparsed"])
    gain = run.iterations[2].gain
    assert gain is not None and rows[2][-2] == f"{100 * gain.value:+.1f}"
    first = read_json(run_folder / "iter0" / "scores.json")["scores"]["test@1"]
    assert gain.value == pytest.approx(stored["accuracy"] - first["accuracy"])
    assert gain.interval.low <= gain.value <= gain.interval.high


def test_a_run_has_finished_when_all_its_planned_steps_have(run_folder: Path) -> None:
    assert read_run(run_folder).finished
    manifest = json.loads((run_folder / "manifest.json").read_text())
    last = manifest["planned"][-1]
    write_json(run_folder / "manifest.json", {**manifest, "planned": [*manifest["planned"], "iter2/more"]})
    assert not read_run(run_folder).finished
    del manifest["steps"][last]
    write_json(run_folder / "manifest.json", manifest)
    assert not read_run(run_folder).finished


def test_questions_of_a_round_of_rl_are_shown_as_questions(run_folder: Path) -> None:
    path = run_folder / "iter1" / "train" / "self_training.json"
    asked = {"from": "human", "value": "How many?"}
    row = {"id": "q", "conversations": [asked, {"from": "gpt", "value": "Answer: B"}], "answer": "B", "images": []}
    path.write_text(json.dumps([row]))
    view = read_run(run_folder).iterations[1]
    assert view.kinds == {"question": 1}
    write_report(run_folder)
    page = (run_folder / "report" / "index.html").read_text()
    assert '<div class="label">answer</div><pre>Answer: B' in page


def test_the_text_says_what_the_numbers_depend_on(run_folder: Path) -> None:
    shown = text(read_run(run_folder))
    assert "n = 40, seed 7, verifier letters v" in shown and "unparsed" in shown and ", finished" in shown
    assert re.search(r"trained on +cot +direct +refine +select", shown)
    assert re.search(r"seconds +samples_train", shown)


def test_all_files_are_written_and_the_page_carries_everything(run_folder: Path) -> None:
    write_report(run_folder)
    names = {path.name for path in (run_folder / "report").iterdir()}
    charts = {f"{name}.{kind}" for name in ("accuracy", "kinds", "time") for kind in ("png", "svg")}
    assert names == charts | {"table.csv", "report.json", "index.html"}
    page = (run_folder / "report" / "index.html").read_text()
    sources = re.findall(r'(?:src|srcset|href)="([^"]{0,20})', page)
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert "<script" not in page and "url(" not in page
    assert "How many &lt;red&gt; shapes?" in page and "<red>" not in page and "<b>shapes" not in page
    assert all(f'<span class="tag">{kind}</span>' in page for kind in ("cot", "direct", "refine", "select"))
    assert 'class="mark right"' in page and 'class="mark wrong"' in page and "temperature" in page


def test_the_csv_has_a_line_for_each_score(run_folder: Path) -> None:
    write_report(run_folder)
    lines = (run_folder / "report" / "table.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * 4
    assert lines[0].startswith("iteration,name,accuracy,low,high,n,unparsed,seed,verifier")


def test_the_same_run_gives_the_same_files(run_folder: Path) -> None:
    write_report(run_folder)
    once = {path.name: path.read_bytes() for path in (run_folder / "report").iterdir()}
    write_report(run_folder)
    assert once == {path.name: path.read_bytes() for path in (run_folder / "report").iterdir()}


def test_a_run_on_the_way_is_shown_as_far_as_it_came(run_folder: Path) -> None:
    (run_folder / "iter2" / "scores.json").unlink()
    for path in (run_folder / "iter2").glob("checked_*"):
        path.unlink()
    write_json(run_folder / "current.json", {"step": "iter2/train"})
    shown = write_report(run_folder)
    assert ", at iter2/train" in shown
    assert accuracy_table(read_run(run_folder))[1][2] == ["iter2", *["–", "", ""] * 4, "–", ""]


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"method": "stl", "seed": 0, "iterations": 3})
    assert "nothing is finished yet" in write_report(tmp_path)
    assert (tmp_path / "report" / "index.html").exists()


def test_pictures_that_have_gone_do_not_stop_the_report(run_folder: Path) -> None:
    for path in (run_folder.parent / "data").glob("*.png"):
        path.unlink()
    assert "iter2" in write_report(run_folder)


def test_questions_are_picked_from_all_outcomes(run_folder: Path) -> None:
    run = read_run(run_folder)
    questions = {question.id for question in read_questions(Path(str(run.settings["test_data"])))}
    chosen = [question.id for question in chosen_questions(run)]
    assert len(chosen) == len(set(chosen)) == 9 and questions.issuperset(chosen)
    outcomes = {
        tuple(view.answers["test_greedy"][id][0].verdict.correct for view in (run.iterations[0], run.iterations[-1]))
        for id in chosen
    }
    assert len(outcomes) >= 3


def test_the_command(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run_folder), "--text"]) == 0
    assert not (run_folder / "report").exists()
    assert main(["report", str(run_folder)]) == 0
    assert "index.html" in capsys.readouterr().out
    assert json.loads((run_folder / "report" / "report.json").read_text())["finished"] is True
    assert main(["report", str(tmp_path)]) == 2
    assert "no run.json" in capsys.readouterr().err
    with pytest.raises(LoopError):
        read_run(tmp_path)
