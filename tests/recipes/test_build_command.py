# SPDX-License-Identifier: Apache-2.0
"""`mmself build`."""

import json

import pytest
from PIL import Image

from llamafactory_mmself.cli import main
from llamafactory_mmself.data.questions import write_questions
from llamafactory_mmself.files import read_json, read_jsonl, write_json, write_jsonl


@pytest.fixture
def files(tmp_path, questions, sample):
    """Questions, two rounds of solutions, and see-think-answer responses."""
    for question in questions:
        Image.new("RGB", (56, 56)).save(question.images[0])
    write_questions(tmp_path / "train.json", questions)
    first = [
        sample("q0", "I look and see green.\nAnswer: B"),
        sample("q0", "I look and see red.\nAnswer: A", 1),
        sample("q1", "I look and see grey.\nAnswer: D"),
        sample("q1", "I see nothing.", 1),
        sample("q2", "I look and see red.\nAnswer: A", finish="length"),
    ]
    second = [sample("q0", "Green, I think.\nAnswer: B", policy="p1"), sample("q1", "Blue.\nAnswer: C", policy="p1")]
    whole = "CAPTION: A shape.\n\nREASONING: It is so coloured.\n\nCONCLUSION: "
    answers = [sample("q0", whole + "(B)"), sample("q1", whole + "(A)"), sample("q2", "(A)")]
    for name, samples in (("s0", first), ("s1", second), ("a0", answers)):
        write_jsonl(tmp_path / f"{name}.jsonl", (item.to_row() for item in samples))
    return tmp_path


def build(files, recipe: str, *arguments: str) -> int:
    common = ["--questions", str(files / "train.json"), "--out", str(files / "data"), "--name", "mine"]
    return main(["build", recipe, *common, *arguments])


def test_r3v(files, capsys):
    samples = [str(files / "s0.jsonl"), str(files / "s1.jsonl")]
    assert build(files, "r3v", "--samples", *samples, "--profile", "letters", "--seed", "3") == 0
    shown = capsys.readouterr().out
    assert "s0.jsonl (iteration 0): 5 samples, 2 right, 1 unparsed" in shown
    assert "samples: right but cut: 1" in shown and "questions: mixed: 2" in shown
    assert "mine.json: 8 examples (cot 2, direct 3, refine 2, select 1)" in shown
    rows = {row["id"]: row for row in read_json(files / "data" / "mine.json")}
    assert set(rows) == {
        *(f"q{n}/direct" for n in range(3)),
        *("q0/iter1/cot", "q0/iter1/refine", "q0/iter1/select-2+1"),
        *("q1/iter1/cot", "q1/iter1/refine"),
    }
    assert rows["q0/iter1/cot"]["conversations"][1]["value"] == "Green, I think.\nAnswer: B"
    assert json.loads(rows["q1/iter1/cot"]["provenance"])["target"] == {"iteration": 1, "id": "q1#0", "policy": "p1"}
    assert "mine" in read_json(files / "data" / "dataset_info.json")


def test_r3v_switches(files, capsys):
    samples = ["--samples", str(files / "s0.jsonl"), str(files / "s1.jsonl")]
    warm = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]
    write_json(files / "warm.json", [{"conversations": warm}])
    assert build(files, "r3v", *samples, "--no_refine", "--no_select", "--warmup", str(files / "warm.json")) == 0
    assert "6 examples (cot 3, direct 3)" in capsys.readouterr().out
    assert build(files, "r3v", "--letters_only") == 0
    assert "3 examples (direct 3)" in capsys.readouterr().out
    assert build(files, "r3v", *samples, "--select_candidates", "2", "3", "--no_direct", "--pool", "all") == 0
    shown = capsys.readouterr().out
    assert "cot 2, refine 2, select 4" in shown
    assert build(files, "r3v", *samples, "--pool", "first", "--no_direct") == 0
    assert "2 examples (cot 1, refine 1)" in capsys.readouterr().out


def test_a_prompt_of_ones_own(files, capsys):
    file = files / "cot.txt"
    file.write_text("version: mine\n\nThink hard. {question}\n")
    samples = ["--samples", str(files / "s0.jsonl")]
    assert build(files, "r3v", *samples, "--prompt", f"cot={file}", "--no_direct", "--no_refine") == 0
    (row,) = read_json(files / "data" / "mine.json")
    assert row["conversations"][0]["value"].startswith("<image>\nThink hard. Which")
    assert json.loads(row["provenance"])["prompt"].startswith("mine-")


def test_stl_asks_for_refutations_first(files, capsys, sample):
    answers = ["--answers", str(files / "a0.jsonl")]
    assert build(files, "stl", *answers) == 0
    assert "mine_refute_requests.jsonl: 3 refutations to ask for" in capsys.readouterr().out
    assert not (files / "data" / "mine.json").exists()
    requests = list(read_jsonl(files / "data" / "mine_refute_requests.jsonl"))
    assert [row["id"] for row in requests] == ["q0!A", "q0!C", "q0!D"]
    assert set(requests[0]) == {"id", "messages", "images"}
    assert "The right option is (B)" in requests[0]["messages"][0]["content"]
    texts = ["CAPTION: A shape.\n\nEXPLANATION: It has another colour.", "EXPLANATION: Another one.", "No."]
    refuted = [sample(row["id"], text) for row, text in zip(requests, texts, strict=True)]
    write_jsonl(files / "r0.jsonl", (item.to_row() for item in refuted))
    assert build(files, "stl", *answers, "--refutations", str(files / "r0.jsonl")) == 0
    shown = capsys.readouterr().out
    assert "a0.jsonl (iteration 0): 3 samples, 1 right, 1 unparsed" in shown
    assert "skipped: refutation: no caption: 2" in shown and "skipped: answer: wrong: 1" in shown
    assert "2 examples (answer 1, refute 1)" in shown
    assert build(files, "stl", *answers, "--no_negatives") == 0
    assert "1 examples (answer 1)" in capsys.readouterr().out


@pytest.mark.slow
def test_a_token_limit_is_reported_and_kept(files, capsys, tiny_models):
    samples = ["--samples", str(files / "s0.jsonl"), str(files / "s1.jsonl")]
    counting = ["--model", str(tiny_models("qwen2_vl")), "--template", "qwen2_vl"]
    assert build(files, "r3v", *samples, *counting, "--max_tokens", "4096") == 0
    assert "over 4096 tokens, which training would cut: 0 of 8 examples" in capsys.readouterr().out
    assert build(files, "r3v", *samples, *counting, "--max_tokens", "2", "--drop_long") == 2
    shown = capsys.readouterr()
    assert "training would cut: 8 of 8" in shown.out and "would be empty" in shown.err


@pytest.mark.slow
def test_pictures_count_with_the_limits_of_training(files, capsys, questions, tiny_models):
    Image.new("RGB", (140, 140)).save(questions[0].images[0])
    counting = ["--model", str(tiny_models("qwen2_vl")), "--template", "qwen2_vl", "--max_tokens", "1"]

    def tokens(*limits: str) -> list[int]:
        assert build(files, "r3v", "--letters_only", *counting, *limits) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        return [int(words[1]) for words in sorted(lines) if words[0].endswith("/direct:")]

    text = tokens()[0] - 25
    assert tokens() == [text + 25, text + 4, text + 4]
    assert tokens("--image_max_pixels", str(28 * 28 * 9)) == [text + 9, text + 4, text + 4]
    assert tokens("--image_min_pixels", str(28 * 28 * 9)) == [text + 25, text + 9, text + 9]
    assert build(files, "r3v", "--letters_only", *counting, "--image_max_pixels", "9", "--image_min_pixels", "10") == 2
    assert "`image_max_pixels` cannot be smaller" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipe", "arguments", "message"),
    [
        ("r3v", [], "Give --samples, or --letters_only"),
        ("stl", [], "Give --answers, or --letters_only"),
        ("r3v", ["--samples", "no.jsonl"], "no.jsonl cannot be read"),
        ("r3v", ["--samples", "a0.jsonl", "--profile", "geoqqa"], "geoqqa"),
        ("r3v", ["--samples", "a0.jsonl", "a0.jsonl", "--max_tokens", "9"], "--max_tokens needs --model"),
        ("stl", ["--answers", "a0.jsonl", "--refutations", "a0.jsonl", "s0.jsonl"], "Give one file of --answers"),
        ("stl", ["--answers", "a0.jsonl", "--checks", "sense"], "Option `checks`"),
        ("r3v", ["--letters_only", "--prompt", "cot"], "NAME=FILE is expected, found 'cot'"),
    ],
)
def test_mistakes_are_told_in_a_line(files, capsys, monkeypatch, recipe, arguments, message):
    monkeypatch.chdir(files)
    assert build(files, recipe, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
