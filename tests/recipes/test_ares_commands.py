# SPDX-License-Identifier: Apache-2.0
"""`mmself build ares`, from samples to data sets and figures."""

import json

import pytest

from llamafactory_mmself.cli import main
from llamafactory_mmself.data.questions import read_questions, write_questions
from llamafactory_mmself.files import read_json, read_jsonl, write_jsonl
from llamafactory_mmself.generate.types import Completion, Sample
from llamafactory_mmself.toyworld.choices import scene_of
from llamafactory_mmself.toyworld.forms import solution


EXACT = "llamafactory_mmself.toyworld.teacher:exact"


@pytest.fixture
def made(tmp_path):
    """Questions of the toy world, and a sample of each: all right but the first, which repeats itself."""
    assert main(["toy", "data", "--out", str(tmp_path), "--train", "6", "--test", "2", "--captions", "2"]) == 0
    questions = tmp_path / "train.json"
    texts = [str(solution(row, scene_of(row))) for row in read_questions(questions)]
    texts[0] = "I see nothing. I see nothing."
    samples = [
        Sample(f"{row.id}#0", row.id, 0, "p", Completion(text, (1,), "stop"))
        for row, text in zip(read_questions(questions), texts, strict=True)
    ]
    write_jsonl(tmp_path / "samples.jsonl", (sample.to_row() for sample in samples))
    return ["--questions", str(questions), "--samples", str(tmp_path / "samples.jsonl")]


def test_scores(made, tmp_path, capsys):
    out = tmp_path / "scores.jsonl"
    assert main(["build", "ares", "score", *made, "--teacher", EXACT, "--out", str(out)]) == 0
    rows = list(read_jsonl(out))
    assert rows[0]["scores"] == [0.0, 0.0]
    assert all(set(row["scores"]) == {1.0} for row in rows[1:])
    assert "failed 0" in capsys.readouterr().out


def test_corrections(made, tmp_path, capsys):
    line = ["build", "ares", "correct", *made, "--prompt", "r3v_cot", "--check", "toy", "--teacher", EXACT]
    assert main([*line, "--out", str(tmp_path / "data"), "--name", "fixed"]) == 0
    rows = read_json(tmp_path / "data" / "fixed.json")
    assert len(rows) == 6
    assert [json.loads(row["provenance"])["source"] for row in rows].count("teacher") == 1
    assert "fixed" in read_json(tmp_path / "data" / "dataset_info.json")
    assert "teacher 1" in capsys.readouterr().out


def test_a_teacher_that_corrects_nothing_makes_no_rows(made, tmp_path, capsys):
    ready = tmp_path / "ready.jsonl"
    ready.write_text("")
    line = ["build", "ares", "correct", *made, "--teacher", str(ready), "--out", str(tmp_path), "--name", "none"]
    assert main(line) == 2
    assert "would be empty" in capsys.readouterr().err


def test_answers_and_their_requests(made, tmp_path, capsys):
    assert main(["build", "ares", "answer", *made, "--out", str(tmp_path / "data"), "--name", "answers"]) == 0
    assert len(read_json(tmp_path / "data" / "answers.json")) == 6
    requests = tmp_path / "asked.jsonl"
    assert main(["build", "ares", "answer", *made, "--requests", str(requests)]) == 0
    assert len(list(read_jsonl(requests))) == 6
    assert main(["build", "ares", "answer", *made]) == 2
    assert "--requests" in capsys.readouterr().err


def test_reports(made, tmp_path, capsys):
    from dataclasses import replace

    questions = tmp_path / "train.json"
    rows = [
        replace(row, extra={**row.extra, "subject": "natural science", "grade": "grade3", "solution": "A reason."})
        for row in read_questions(questions)
    ]
    write_questions(questions, rows)
    out, samples = tmp_path / "report.json", made[3]
    line = ["build", "ares", "report", "--questions", str(questions), "--answers", samples, "--samples", samples]
    assert main([*line, "--profile", "toy", "--out", str(out)]) == 0
    figures = read_json(out)
    assert (figures["answers"], figures["unparsed"]) == (6, 1)
    assert figures["accuracy"]["natural"]["of"] == figures["accuracy"]["has_image"]["of"] == 6
    assert figures["accuracy"]["average"]["accuracy"] == pytest.approx(5 / 6)
    assert figures["rationales"]["pairs"] == 6
    assert "unparsed" in capsys.readouterr().out


def test_captions(made, tmp_path, tiny_models):
    out = tmp_path / "captioned.json"
    line = ["build", "ares", "captions", "--questions", made[1], "--out", str(out), "--device", "cpu"]
    more = ["--model", str(tiny_models("qwen2_vl")), "--template", "qwen2_vl", "--max_new_tokens", "4"]
    assert main([*line, *more]) == 0
    rows = read_questions(out)
    assert len(rows) == 6
    assert all("caption" in row.extra for row in rows)
    assert set(read_json(tmp_path / "captioned.captions.json")["captions"]) == {row.id for row in rows}


def test_win_rates_of_two_models(made, tmp_path, capsys, monkeypatch):
    class LikesTheFirst:
        name, policy = "fake", "fake"

        def __init__(self, config):
            assert config.name == "openai"

        def generate(self, requests, params, seed):
            return [[Completion("Choice: A", (), "stop")] for _ in requests]

        def close(self):
            pass

    monkeypatch.setattr("llamafactory_mmself.generate.engines.LazyEngine", LikesTheFirst)
    judge = tmp_path / "judge.yaml"
    judge.write_text("{name: openai, api_base: 'http://localhost:1/v1', api_model: judge}")
    line = ["build", "ares", "compare", *made, "--judge", str(judge), "--out", str(tmp_path / "wins.json")]
    assert main([*line, "--baseline", str(tmp_path / "samples.jsonl")]) == 0
    assert read_json(tmp_path / "wins.json")["figures"]["tie"]["value"] == 100  # a judge of places wins nothing
    assert "pairs    6" in capsys.readouterr().out
