# SPDX-License-Identifier: Apache-2.0
"""Data sets on disk: rows, registration, warm-up files."""

import json
import multiprocessing
from pathlib import Path

import pytest
from PIL import Image

from llamafactory_mmself.data.questions import Question
from llamafactory_mmself.files import FileError, read_json, write_json
from llamafactory_mmself.recipes.datasets import register_dataset
from llamafactory_mmself.recipes.examples import direct_example, read_examples, write_dataset
from llamafactory_mmself.recipes.lengths import token_count
from llamafactory_mmself.recipes.r3v import R3VOptions, build
from llamafactory_mmself.recipes.records import Checked, RecipeError, verify_samples


def _register(info: Path, writer: int) -> None:
    for number in range(20):
        register_dataset(info, f"set_{writer}_{number}", {"file_name": "x.json"})


def test_rows_are_sharegpt_with_our_columns(tmp_path, questions, checked, prompts):
    pool = [checked("q0", "It is green. Answer: B", True), checked("q0", "It is red. Answer: A", False, k=1)]
    examples = build(questions, pool, R3VOptions(), prompts, 0)
    path = write_dataset(tmp_path, "mine", examples)
    assert path == tmp_path / "mine.json"
    row = next(row for row in read_json(path) if row["kind"] == "refine")
    assert row["id"] == "q0/iter0/refine" and row["pair"] == "q0" and row["images"] == ["0.png"]
    assert [turn["from"] for turn in row["conversations"]] == ["human", "gpt"]
    assert row["conversations"][0]["value"].startswith("<image>\nWhich colour has shape 0?\nChoices:\n(A) red")
    assert json.loads(row["provenance"]) == {
        "question": "q0",
        "iteration": 0,
        "prompt": prompts.refine.digest,
        "target": {"iteration": 0, "id": "q0#0", "policy": "p0"},
        "shown": [{"iteration": 0, "id": "q0#1", "policy": "p0"}],
    }
    entry = read_json(tmp_path / "dataset_info.json")["mine"]
    assert entry == {
        "file_name": "mine.json",
        "formatting": "sharegpt",
        "columns": {
            "messages": "conversations",
            **{name: name for name in ("images", "id", "kind", "pair", "provenance")},
        },
    }
    assert read_examples(path) == examples


def test_pictures_outside_the_folder_keep_their_whole_path(tmp_path, questions, prompts):
    path = write_dataset(tmp_path / "data", "mine", [direct_example(questions[0], prompts)])
    assert read_json(path)[0]["images"] == [str(tmp_path / "0.png")]


def test_another_registry_only_when_named(tmp_path, questions, prompts):
    users = tmp_path / "dataset_info.json"
    write_json(users, {"theirs": {"file_name": "theirs.json"}})
    before = users.read_bytes()
    examples = [direct_example(questions[0], prompts)]
    write_dataset(tmp_path / "run", "mine", examples)
    assert users.read_bytes() == before
    path = write_dataset(tmp_path / "other", "mine", examples, register=users)
    assert not (tmp_path / "other" / "dataset_info.json").exists()
    entries = read_json(users)
    assert entries["theirs"] == {"file_name": "theirs.json"} and entries["mine"]["file_name"] == "other/mine.json"
    assert read_json(path)[0]["images"] == ["0.png"]  # as seen from the registry's folder


def test_writers_do_not_lose_each_others_entries(tmp_path):
    info = tmp_path / "dataset_info.json"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_register, args=(info, number)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len(read_json(info)) == 40


def test_a_broken_registry_is_left_alone(tmp_path):
    info = tmp_path / "dataset_info.json"
    info.write_text("[]")
    with pytest.raises(FileError, match=r"dataset_info.json: a JSON object is expected, found list"):
        register_dataset(info, "mine", {})
    info.write_text("{")
    with pytest.raises(FileError, match=r"dataset_info.json, line 1"):
        register_dataset(info, "mine", {})
    assert info.read_text() == "{"


def test_no_empty_data_sets_and_no_odd_names(tmp_path, questions, prompts):
    with pytest.raises(RecipeError, match="'mine' would be empty: no sample was right"):
        write_dataset(tmp_path, "mine", [])
    for name in ("a,b", "a/b", ""):
        with pytest.raises(RecipeError, match="is no name for a data set"):
            write_dataset(tmp_path, name, [direct_example(questions[0], prompts)])
    assert not list(tmp_path.glob("*.json"))


def test_a_users_own_rows_can_warm_up(tmp_path, questions):
    turns = [{"from": "human", "value": "<image>\nWhy?"}, {"from": "gpt", "value": "So."}]
    path = tmp_path / "warm.json"
    write_json(path, [{"conversations": turns, "images": ["0.png"]}])
    (example,) = read_examples(path)
    assert (example.id, example.kind, example.pair) == ("warm/0", "cot", "warm/0")
    assert example.images == (str(tmp_path / "0.png"),)
    assert example.provenance == {"file": "warm.json", "row": 0, "samples": []}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"conversations": [{"from": "gpt", "value": "x"}]}, "row 0, field `conversations`: one turn of `human`"),
        ({"conversations": 3}, "row 0, field `conversations`"),
        (3, "row 0: a JSON object is expected"),
        ({"images": ["no.png"]}, "row 0, field `images`: there is no file .*no.png"),
        ({"provenance": "{"}, "row 0, field `provenance`: JSON text is expected"),
    ],
)
def test_a_wrong_warmup_row_is_named(tmp_path, row, message):
    turns = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]
    write_json(tmp_path / "warm.json", [{"conversations": turns, **row} if isinstance(row, dict) else row])
    with pytest.raises(RecipeError, match=message):
        read_examples(tmp_path / "warm.json")


def test_checked_samples_survive_a_file(questions, sample):
    samples = [sample("q0", "Answer: B"), sample("q1", "Answer: (A)"), sample("q2", "hm", 3, "p7", "length")]
    checked = verify_samples(questions, samples, "letters", 2)
    assert [(item.verdict.correct, item.verdict.parsed) for item in checked] == [
        (True, True),
        (False, True),
        (False, False),
    ]
    assert [Checked.from_row(json.loads(json.dumps(item.to_row()))) for item in checked] == checked
    with pytest.raises(RecipeError, match=r"Sample 'q9#0' answers 'q9', which is not among the 3 questions"):
        verify_samples(questions, [sample("q9", "Answer: B")], "letters", 0)


def test_the_unit_is_known_to_the_verifier(sample):
    question = Question("t", "How much?", "12", (), None, {"unit": "marbles"})
    (item,) = verify_samples([question], [sample("t", "Answer: 12 marbles")], "tabmwp", 0)
    assert item.verdict.correct


@pytest.mark.slow
def test_tokens_are_counted_as_training_counts_them(tmp_path, questions, prompts, tiny_models):
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    from llamafactory_mmself.generate.config import EngineConfig
    from llamafactory_mmself.generate.encoding import load_encoder

    for question in questions:
        Image.new("RGB", (112, 84)).save(question.images[0])
    examples = [direct_example(question, prompts) for question in questions]
    write_dataset(tmp_path, "mine", examples)
    model = str(tiny_models("qwen2_vl"))
    count = token_count(load_encoder(EngineConfig(model=model, template="qwen2_vl")).rows)
    arguments = {
        "model_name_or_path": model,
        "template": "qwen2_vl",
        "stage": "sft",
        "do_train": True,
        "dataset": "mine",
        "dataset_dir": str(tmp_path),
        "output_dir": str(tmp_path / "out"),
        "report_to": "none",
    }
    model_args, data_args, training_args, _, _ = get_train_args(arguments)
    parts = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(parts["tokenizer"], data_args)
    rows = get_dataset(template, model_args, data_args, training_args, stage="sft", **parts)["train_dataset"]
    lengths = [len(row["input_ids"]) for row in rows]
    assert [count(example.prompt, example.target, example.images) for example in examples] == lengths
