# SPDX-License-Identifier: Apache-2.0
"""`mmself sample`, as a user types it."""

import json

import pytest

from llamafactory_mmself.cli import main, make_parser
from llamafactory_mmself.commands.sample import engine_config
from llamafactory_mmself.data.questions import Question, write_questions
from llamafactory_mmself.generate.jobs import read_samples


@pytest.fixture
def questions(tmp_path, shapes):
    """Two questions with pictures and options."""
    path = tmp_path / "questions.json"
    write_questions(
        path,
        [
            Question("one", "What colour is it?", "A", (shapes[0],), ("red", "blue")),
            Question("two", "How many?", "B", (shapes[1],), ("2", "1")),
        ],
    )
    return path


@pytest.fixture
def engine_file(tmp_path, tiny_config):
    """The engine's settings in YAML."""
    path = tmp_path / "engine.yaml"
    config = tiny_config()
    path.write_text(f"model: {config.model}\ntemplate: qwen2_vl\ndevice: cpu\nbatch_size: 2\n")
    return path


def test_questions_are_sampled_with_a_prompt(questions, engine_file, tmp_path, capsys):
    out = tmp_path / "samples.jsonl"
    arguments = ["sample", "--questions", questions, "--prompt", "r3v_cot", "--config", engine_file, "--out", out]
    assert main([*map(str, arguments), "--n", "3", "--max_new_tokens", "5"]) == 0
    said = capsys.readouterr()
    assert "6 samples of 2 prompts, " in said.out and "were cut at 5 tokens" in said.out
    assert "sampling samples.jsonl: 100%" in said.err
    samples = read_samples(out)
    assert [sample.id for sample in samples] == ["one#0", "one#1", "one#2", "two#0", "two#1", "two#2"]
    assert all(len(sample.completion.token_ids) <= 5 for sample in samples)


def test_requests_are_sampled_as_they_are(engine_file, tmp_path, shapes):
    requests, out = tmp_path / "requests.jsonl", tmp_path / "samples.jsonl"
    rows = [
        {"id": "a", "prompt": "<image>\nWhat is it?", "images": [shapes[0]]},
        {"id": "b", "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]},
    ]
    requests.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["sample", "--requests", requests, "--config", engine_file, "--out", out, "--temperature", 0]
    assert main([*map(str, arguments), "--max_new_tokens", "4", "--logprobs"]) == 0
    assert [len(sample.completion.logprobs) > 0 for sample in read_samples(out)] == [True, True]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"prompt": "x"}, "request 1, field `id`: is missing"),
        ({"id": "a"}, "give either `prompt`, a text, or `messages`, a list"),
        ({"id": "a", "prompt": "x", "images": "p.png"}, "field `images`: a list of paths is expected"),
        ({"id": "a", "messages": [{"role": "judge", "content": "x"}]}, "field `messages`: `role`"),
        ({"id": "a", "prompt": "<image>", "images": ["none.png"]}, "Request 'a': there is no image "),
    ],
)
def test_wrong_requests_are_named(row, text, engine_file, tmp_path, capsys):
    requests = tmp_path / "requests.jsonl"
    requests.write_text(json.dumps(row) + "\n")
    arguments = ["sample", "--requests", requests, "--config", engine_file, "--out", tmp_path / "out.jsonl"]
    assert main(list(map(str, arguments))) == 2
    said = capsys.readouterr().err
    assert said.startswith("mmself: error: ") and text in said


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (["--prompt", "nonsense"], "Prompt file nonsense cannot be read"),
        (["--prompt", "r3v_refine"], "uses {prediction}, which has no value"),
        (["--n", "0"], "Sampling parameter `n` has to be at least 1, found 0"),
        (["--engine", "openai"], "engine.yaml: the openai engine needs `api_base`"),
        (["--workers", "0"], "engine.yaml.workers: a whole number of at least 1"),
        (["--model", "./none"], "There is no folder ./none"),
    ],
)
def test_wrong_options_are_named(changes, text, questions, engine_file, tmp_path, capsys):
    arguments = ["sample", "--questions", questions, "--config", engine_file, "--out", tmp_path / "out.jsonl"]
    assert main([*map(str, arguments), *changes]) == 2
    assert text in capsys.readouterr().err


def test_help_explains_every_option(capsys):
    with pytest.raises(SystemExit):
        main(["sample", "--help"])
    said = capsys.readouterr().out
    for flag in ("--questions", "--requests", "--prompt", "--engine", "--workers", "--ray", "--config", "--seed"):
        assert flag in said


@pytest.mark.parametrize("command", ["sample", "select"])
def test_picture_limits_come_from_flags_before_the_file(tmp_path, command):
    file = tmp_path / "engine.yaml"
    file.write_text("model: m\ntemplate: qwen2_vl\nllamafactory: {image_max_pixels: 5, image_min_pixels: 2}\n")
    line = [command, "--questions", "q.json", "--out", "out", "--config", str(file), "--image_max_pixels", "9"]
    config = engine_config(make_parser().parse_args(line))
    assert (config.llamafactory, config.pixels) == ({"image_max_pixels": 9, "image_min_pixels": 2}, (2, 9))
