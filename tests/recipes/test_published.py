# SPDX-License-Identifier: Apache-2.0
"""What the published systems leave behind is taken over: files in their formats in, ours out."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from llamafactory_mmself.cli import main
from llamafactory_mmself.data.questions import Question, write_questions
from llamafactory_mmself.files import FileError
from llamafactory_mmself.generate.jobs import read_samples
from llamafactory_mmself.generate.teacher import load_teacher
from llamafactory_mmself.recipes.published import r3v, settings, stl
from llamafactory_mmself.recipes.records import RecipeError


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (28, 28), (9, 99, 199)).save(path)
    return path


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "\n".join(map(json.dumps, value)) if path.suffix == ".jsonl" else json.dumps(value)
    path.write_text(lines)
    return path


def validated(folder: Path, name: str) -> list[dict[str, Any]]:
    assert main(["validate", name, "--dataset_dir", str(folder)]) == 0
    assert main(["validate", str(folder / "dataset_info.json")]) == 0
    assert main(["validate", str(folder / f"{name}.json")]) == 2
    rows: list[dict[str, Any]] = json.loads((folder / f"{name}.json").read_text())
    return rows


# settings

OVIP = """
export NCCL_P2P_DISABLE=1
CUDA_VISIBLE_DEVICES=0,1 llamafactory-cli train --stage mdpo --strategy online-orm \\
    --model_name_or_path llava-hf/llava-1.5-7b-hf --not_half_dpo_loss --anchor_ratio 0.0 --learning_rate 1e-6 \\
    --ds_path ovip.json --dataset dummy --experience_buffer --exp_per_batch 1 --test  # a run
"""


def test_ovips_command_becomes_a_yaml(tmp_path, capsys):
    (tmp_path / "train.sh").write_text(OVIP)
    assert main(["import", "ovip", "--settings", str(tmp_path / "train.sh"), "--out", str(tmp_path / "o.yaml")]) == 0
    found = yaml.safe_load((tmp_path / "o.yaml").read_text())
    assert found == {
        "stage": "mdpo",
        "strategy": "online-orm",
        "model_name_or_path": "llava-hf/llava-1.5-7b-hf",
        "not_half_dpo_loss": True,
        "anchor_ratio": 0.0,
        "learning_rate": 1e-6,
        "ds_path": "ovip.json",
        "experience_buffer": True,
        "exp_per_batch": 1,
        "services": "services.yaml",
    }
    told = capsys.readouterr().out
    assert "dataset: dummy is left out" in told and "test: True is left out" in told
    assert "# dataset: dummy is left out" in (tmp_path / "o.yaml").read_text()


def test_sherlocks_yaml_becomes_ours(tmp_path):
    given = {"stage": "dpo", "pref_loss": "sr", "pref_beta": 0.1, "refine_beta": 0.025, "template": "mllama"}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(given))
    found = settings.convert("sherlock", tmp_path / "s.yaml")
    assert found.values == {"stage": "sherlock_dpo", "pref_beta": 0.1, "refine_beta": 0.025, "template": "mllama"}
    found = settings.sherlock({"stage": "sft"})
    assert found.values == {"stage": "sft"}


def test_aress_command_keeps_its_steps():
    flags = settings.read_command(
        "torchrun --nproc_per_node=4 run.py --k_actions 4 --rl_batch_size 8 --ga_step 8 --rl_epochs 10 --lr 2e-5 "
        "--top_p 0.9 --vf_coef 1.0 --init_kl_coef 1e-4",
        "run.sh",
    )
    found = settings.ares(flags)
    values = found.values
    assert (values["rollout_n"], values["ppo_epochs"], values["learning_rate"]) == (4, 10, 2e-5)
    assert values["per_device_train_batch_size"] * 4 * values["gradient_accumulation_steps"] == 64
    assert any("top_p" in note for note in found.notes)
    large = settings.ares({"k_actions": 4, "rl_batch_size": 2, "ga_step": 16}).values
    assert (large["per_device_train_batch_size"], large["gradient_accumulation_steps"]) == (1, 8)


@pytest.mark.parametrize(
    ("text", "said"), [("echo 'unclosed", "cannot be read as a command"), ("cd project\nls", "no command with flags")]
)
def test_scripts_without_a_command_are_refused(text, said):
    with pytest.raises(RecipeError, match=said):
        settings.read_command(text, "run.sh")


def test_what_is_no_yaml_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("a: [1")
    with pytest.raises(RecipeError, match="is no YAML"):
        settings.convert("sherlock", tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("- 1")
    with pytest.raises(RecipeError, match="keys and values"):
        settings.convert("sherlock", tmp_path / "a.yaml")
    with pytest.raises(FileError, match="cannot be read"):
        settings.convert("sherlock", tmp_path / "b.yaml")


# OViP's pictures


def test_painted_pictures_become_rows_with_two_pictures(tmp_path, capsys):
    one, two = picture(tmp_path / "one.png"), picture(tmp_path / "two.png")
    negative = picture(tmp_path / "run" / "images" / "n.png")

    def prompt(question: str, image: Path, chosen: str) -> dict[str, Any]:
        return {
            "conversations": [{"from": "human", "value": f"<image>\n{question}"}],
            "chosen": {"from": "gpt", "value": chosen},
            "rejected": {"from": "gpt", "value": "No."},
            "images": [str(image), str(image)],
        }

    ds_path = write(tmp_path / "ovip.json", [prompt("Who?", one, "A cat."), prompt("Who?", two, "A dog.")])

    def line(question: str, chosen: str, image: str) -> dict[str, Any]:
        pair = {"chosen_response": chosen, "rejected_response": "A cow.", "chosen_score": 11, "rejected_score": 2}
        return {"image_instruction": "a cow", "image": image, "step": 3, "prompt": question, **pair}

    lines = [
        line("Who?", "A dog.", "/gone/n.png"),
        line("Who?", "A bird.", str(negative)),
        line("Who?", "A cat.", "x"),
    ]
    write(tmp_path / "run" / "data.jsonl", lines)
    places = ["--pictures", str(tmp_path / "run" / "data.jsonl"), "--out", str(tmp_path / "out")]
    assert main(["import", "ovip", *places]) == 2
    assert "needs --ds_path" in capsys.readouterr().err
    assert main(["import", "ovip", *places, "--ds_path", str(ds_path)]) == 0
    told = capsys.readouterr().out
    assert "without a picture: 1" in told and "belongs to no picture, or to several: 1" in told
    (row,) = validated(tmp_path / "out", "ovip_pictures")
    assert Path(row["images"][0]).name == "two.png" and Path(row["rejected_images"][0]).name == "n.png"
    assert json.loads(row["provenance"])["chosen_score"] == 11


# R3V


def test_r3vs_folder_becomes_samples_and_data_sets(tmp_path, capsys):
    images = [str(picture(tmp_path / "images" / f"train-{number}.png")) for number in (1, 2)]

    def sample(number: int, text: str) -> dict[str, Any]:
        turns = [{"role": "user", "content": "<image>How long?\nChoices:\n(A) 1\n(B) 2"}]
        return {"messages": turns, "images": [images[number]], "prediction": text}

    for k in (0, 1):
        rows = [sample(0, f"one {k}. Answer: A"), sample(1, f"two {k}. Answer: B")]
        write(tmp_path / "outputs" / f"geo-iter0_train_sample_{k}.json", rows)
    added = [{**sample(0, "one 0. Answer: A"), "index": "train-1"}, {"prediction": None, "index": "train-2"}]
    write(tmp_path / "outputs" / "geo-iter0_train_sample_0_added.json", added)
    final = [{"messages": [{"role": "user", "content": "How long?"}, {"role": "assistant", "content": "Answer: A"}]}]
    write(tmp_path / "data" / "geo_iter0.json", [{**row, "images": images[:1]} for row in final])
    parts = [{"id": "refine-train-1", "image": "train-1.png", "conversations": final[0]["messages"]}]
    write(tmp_path / "data" / "geo-iter0_refine.json", parts)
    out = tmp_path / "out"
    command = ["import", "r3v", "--src", str(tmp_path), "--out", str(out), "--images", str(tmp_path / "images")]
    assert main(command) == 0
    samples = read_samples(out / "geo_train_iter0.jsonl")
    assert [sample.id for sample in samples] == ["train-1#0", "train-1#1", "train-2#0"]
    assert samples[1].text == "one 1. Answer: A"
    assert "samples without a text: 1" in capsys.readouterr().out
    (row,) = validated(out, "geo_iter0")
    assert row["conversations"][0]["value"] == "<image>\nHow long?"
    (row,) = validated(out, "geo-iter0_refine")
    assert (row["kind"], row["id"]) == ("refine", "refine-train-1")


def test_the_first_version_of_r3v_is_read_too(tmp_path):
    rows = [{"index": 7, "answer": "3", "question": "How many?", "prediction": "Answer: 3"}]
    write(tmp_path / "qwenvl_result_sft_iter2_train_sample1.json", rows)
    write(tmp_path / "qwenvl_result_sft_iter2_sample1.json", rows)
    found = r3v.read_folder(tmp_path)
    assert {name: [sample.request for sample in known] for name, known in found.samples.items()} == {
        "qwenvl_train_iter2": ["7"],
        "qwenvl_test_iter2": ["7"],
    }


# STL


def test_stls_folder_becomes_samples_and_data_sets(tmp_path):
    picture(tmp_path / "images" / "physics-1.png")
    response = {"question_id": "physics-1", "prompt": "Pick one.", "text": "CAPTION: c"}
    write(tmp_path / "response_pos_it1.jsonl", [response])
    told = {**response, "prompt": "... right: (b) ... refute: (c)", "text": "EXPLANATION: e"}
    write(tmp_path / "response_neg_train_it1.jsonl", [told, {**told, "prompt": "nothing"}])
    turns = [{"from": "human", "value": "<image>\nWhy?"}, {"from": "gpt", "value": "Because."}]
    row = {"id": "physics-1", "image": "images/physics-1.png", "conversations": turns}
    write(tmp_path / "training_set_it1.json", [{**row, "type": "1"}, {**row, "type": "2"}])
    found = stl.read_folder(tmp_path)
    assert [sample.request for sample in found.samples["answers_iter1"]] == ["physics-1"]
    assert [sample.request for sample in found.samples["refutations_iter1"]] == ["physics-1!C"]
    assert found.skipped == {"refutations whose prompt names no option": 1}
    assert main(["import", "stl", "--src", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    rows = validated(tmp_path / "out", "training_set_it1")
    assert [row["kind"] for row in rows] == ["answer", "refute"]


# ARES


def rollout(run: Path, k: int, id: str, lines: list[str], scores: str | None) -> None:
    folder = run / "questions" / str(k) / "p0" / id
    folder.mkdir(parents=True)
    body = ",\n".join(f'"{line}": xxx' for line in lines)
    (folder / "rationale_from_mm_cot.txt").write_text("{\n" + body + "\n}\n")
    if scores is not None:
        (folder / "score.txt").write_text(scores)


def test_aress_rollouts_become_samples_and_ready_scores(tmp_path, capsys):
    run = tmp_path / "RL_models" / "base"
    rollout(run, 0, "12", ["It is red: so hot.", "Iron melts."], "0.9\n0.2\n")
    rollout(run, 1, "12", ["It is blue."], None)
    rollout(run, 0, "9", ["One.", "Two."], "1.0\n")
    rollout(run, 1, "9", [], None)
    out = tmp_path / "out"
    assert main(["import", "ares", "--rollouts", str(run), "--out", str(out)]) == 0
    assert [sample.id for sample in read_samples(out / "rollouts.jsonl")] == ["9#0", "12#0", "12#1"]
    (scored,) = (json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines())
    assert scored["text"] == "It is red: so hot. Iron melts." and scored["scores"] == [0.9, 0.2]
    assert load_teacher(str(out / "scores.jsonl")).name == "scores in scores.jsonl"
    told = capsys.readouterr().out
    for reason in ("without scores: 1", "another number of scores than sentences: 1", "without a sentence: 1"):
        assert reason in told
    rollout(run, 2, "9", ["One."], "good")
    assert main(["import", "ares", "--rollouts", str(run), "--out", str(out)]) == 2
    assert "one number a line is expected" in capsys.readouterr().err


def test_aress_predictions_and_corrections(tmp_path, capsys):
    extra = {"solution": "Heat rises.", "hint": "A stove."}
    questions = [Question(id, "Why?", "A", (), ("hot", "cold"), extra) for id in ("1", "2", "3")]
    write_questions(tmp_path / "questions.json", questions)
    asked = ["--questions", str(tmp_path / "questions.json"), "--out", str(tmp_path / "out")]
    predictions = write(tmp_path / "predictions_ans_train.json", {"preds": ["a", "b", "c"], "labels": []})
    assert main(["import", "ares", "--predictions", str(predictions), *asked]) == 0
    assert [sample.text for sample in read_samples(tmp_path / "out" / "predictions_ans_train.jsonl")] == [
        "a",
        "b",
        "c",
    ]
    problems = {"1": {"solution": "Solution: Hot air\nrises."}, "2": {"solution": "Heat rises."}, "3": {}}
    corrections = write(tmp_path / "correction.json", problems)
    assert main(["import", "ares", "--corrections", str(corrections), *asked]) == 0
    (row,) = validated(tmp_path / "out", "corrections")
    assert row["conversations"][1]["value"] == "Hot air rises." and "A stove." in row["conversations"][0]["value"]
    told = capsys.readouterr().out
    assert "solutions that nobody corrected: 1" in told and "questions without a solution: 1" in told
    short = write(tmp_path / "short.json", {"preds": ["a"]})
    assert main(["import", "ares", "--predictions", str(short), *asked]) == 2
    assert "has 1 predictions, the split 3 questions" in capsys.readouterr().err


@pytest.mark.parametrize("system", ["r3v", "stl"])
def test_folders_of_something_else_are_refused(system, tmp_path, capsys):
    write(tmp_path / "other.json", [{"a": 1}])
    assert main(["import", system, "--src", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "holds no files of" in capsys.readouterr().err
