# SPDX-License-Identifier: Apache-2.0
"""Small things in the places where documented commands look for a reader's own: models, data sets, runs, settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamafactory_mmself.data.questions import read_questions, write_questions
from llamafactory_mmself.toyworld.start import annotated
from llamafactory_mmself.toyworld.world import WorldOptions, write_world
from tests.documented.shell import ROOT
from tests.evaluate.tasks import official
from tests.evaluate.tasks.files import draw, dump, lines
from tests.generate.fake_server import Reply, choices


@dataclass(frozen=True)
class Place:
    """Where a page's commands run.

    Attributes:
        folder: the working directory.
        models: tiny models by family.
        address: of an endpoint that answers anything.
    """

    folder: Path
    models: Callable[[str], Path]
    address: str


Maker = Callable[[Place], None]

ANGLE = {"question": "angle = ()", "choices": ["58.0", "68.0", "78.0", "None"], "answer": "B"}
OVIP_COMMAND = (
    "llamafactory-cli train --stage mdpo --strategy online-orm --model_name_or_path llava-hf/llava-1.5-7b-hf "
    "--template llava_new --ds_path ovip.json --dataset dummy --experience_buffer --output_dir saves --do_train 1\n"
)
ARES_COMMAND = "torchrun run.py --k_actions 4 --rl_batch_size 8 --ga_step 8 --lr 2e-5\n"
SCENE = "The top row holds a blue circle, then nothing. The bottom row holds nothing, then a red square."


def answer(body: dict[str, Any], number: int) -> Reply:
    """What the endpoint says to everybody: a description where one is asked for, else the first option."""
    if not body:
        return Reply({"data": [{"id": "served"}]})
    described = "Description:" in json.dumps(body.get("messages"))
    return choices(f"Description: {SCENE}" if described else "A")


def model(name: str, family: str) -> Maker:
    """A tiny model under the name of a large one: a folder of that name goes before the hub."""

    def make(place: Place) -> None:
        (place.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (place.folder / name).symlink_to(place.models(family))

    return make


def adapter(name: str) -> Maker:
    """LoRA weights for the tiny LLaVA."""

    def make(place: Place) -> None:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForImageTextToText

        base = AutoModelForImageTextToText.from_pretrained(place.models("llava"))
        get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(place.folder / name)

    return make


def file(name: str, text: str) -> Maker:
    """A file with a text."""

    def make(place: Place) -> None:
        (place.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (place.folder / name).write_text(text)

    return make


def judge(place: Place) -> None:
    """The settings of a judge that is served."""
    file("judge.yaml", f"{{name: openai, api_base: '{place.address}', api_model: judge}}")(place)


def services(place: Place) -> None:
    """Judge and painter of the toy world, and a describer that is served."""
    served = f"{{api_base: '{place.address}', api_model: describer, structured: false}}"
    file("services.yaml", f"{{judge: {{engine: toy}}, describer: {served}, painter: {{engine: toy}}}}")(place)


def questions(name: str) -> Maker:
    """Questions of the toy world with whole responses."""

    def make(place: Place) -> None:
        world = place.folder / "toy-world"
        write_world(world, WorldOptions(train=5, test=1, captions=1))
        found = [annotated(question) for question in read_questions(world / "train.json")]
        write_questions(place.folder / name, found)

    return make


def samples(*names: str) -> Maker:
    """Made-up answers to `test.json`, in the form of `mmself sample`."""

    def make(place: Place) -> None:
        from llamafactory_mmself.generate.types import Completion, Sample

        asked = [question.id for question in read_questions(place.folder / "test.json")]
        for name in names:
            made = [Sample(f"{id}#0", id, 0, name, Completion(f"{name}: (A)", (), "stop")) for id in asked]
            lines(place.folder / name, [sample.to_row() for sample in made])

    return make


def benchmarks(*names: str) -> Maker:
    """Benchmarks in the layouts of their owners."""

    def make(place: Place) -> None:
        official.write(place.folder / "benchmarks", *names)

    return make


def geoqa(name: str) -> Maker:
    """GeoQA as R3V publishes it."""

    def make(place: Place) -> None:
        for split in ("train", "test"):
            ids = [f"{split}-{number}" for number in (1, 2)]
            draw(place.folder / name / "images", *(f"{id}.png" for id in ids))
            rows = [{"id": id, **ANGLE, "image": f"images/{id}.png"} for id in ids]
            dump(place.folder / name / f"{split}.jsonl", rows)

    return make


def m3cot(place: Place) -> None:
    """M3CoT as it is published."""
    for split in ("train", "test"):
        draw(place.folder / "M3CoT/images", f"{split}.png")
        row = {"id": split, "question": "Which?", "choices": ["one", "two"], "context": "", "answer": "B"}
        row |= {"domain": "commonsense", "topic": "social-commonsense", "image": f"images/{split}.png"}
        lines(place.folder / f"M3CoT/{split}.jsonl", [row])


def ovip_rows(name: str) -> Maker:
    """Two of the shipped rows, which have OViP's form."""

    def make(place: Place) -> None:
        rows = json.loads((place.folder / "data/mmself_pairs.json").read_text())[:2]
        for row in rows:
            row["images"] = [str(place.folder / "data" / image) for image in row["images"]]
        dump(place.folder / name, rows)

    return make


def ovip_run(place: Place) -> None:
    """What an OViP run leaves: the prompts, and a line for each picture that it painted."""
    ovip_rows("ovip.json")(place)
    first = json.loads((place.folder / "ovip.json").read_text())[0]
    draw(place.folder / "online_data/run", "negative.png")
    line = {
        "image_instruction": "a scene",
        "image": str(place.folder / "online_data/run/negative.png"),
        "step": 1,
        "prompt": first["conversations"][0]["value"].removeprefix("<image>\n"),
        "chosen_response": first["chosen"]["value"],
        "rejected_response": "Nothing.",
        "chosen_score": 11,
        "rejected_score": 2,
    }
    lines(place.folder / "online_data/run/data.jsonl", [line])


def sherlock_rows(place: Place) -> None:
    """A preference row as Sherlock's generators write it."""
    draw(place.folder, "0.png")
    row = {
        "conversations": [{"from": "human", "value": "<image>Which?"}],
        "chosen": {"from": "gpt", "value": "I see. right."},
        "rejected": {"from": "gpt", "value": "I see. wrong."},
        "prefix": "I see. ",
        "weights": 0.8,
        "images": "0.png",
    }
    dump(place.folder / "offline.json", [row])


def r3v_folder(place: Place) -> None:
    """R3V's folder: GeoQA, and samples of a round."""
    geoqa("MM-Self-Improve/data")(place)
    row = {
        "messages": [{"role": "user", "content": "<image>angle = ()"}],
        "images": [str(place.folder / "MM-Self-Improve/data/images/train-1.png")],
        "prediction": "It is given. Answer: B",
    }
    dump(place.folder / "MM-Self-Improve/outputs/geoqa-iter0_train_sample_0.json", [row])


def stl_folder(place: Place) -> None:
    """STL's folder of a domain: questions, keys, an answer and a refutation."""
    ours = place.folder / "commonsense/ours"
    draw(ours / "images", "c-1.png")
    text = "What is shown?\nSelect one:\n(a) red\n(b) green"
    question = {"question_id": "c-1", "image": "images/c-1.png", "text": text, "category": "social-commonsense"}
    lines(ours / "questions_train_commonsense.jsonl", [question])
    dump(ours / "correct_answers_train.json", {"c-1": "(b)"})
    said = "CAPTION: A leaf lies there.\n\nREASONING: It is green.\n\nCONCLUSION: (b)"
    lines(ours / "response_pos_it1.jsonl", [{"question_id": "c-1", "prompt": "Pick one.", "text": said}])
    refuted = "CAPTION: A leaf lies there.\n\nEXPLANATION: No red is there."
    told = {"question_id": "c-1", "prompt": "right: (b) refute: (a)", "text": refuted}
    lines(ours / "response_neg_train_it1.jsonl", [told])


def ares_run(place: Place) -> None:
    """ScienceQA, and what an ARES run leaves: rollouts, predictions, corrections."""
    official.write(place.folder / "science", "scienceqa")
    (place.folder / "science/scienceqa").rename(place.folder / "ScienceQA")
    splits = place.folder / "ScienceQA/pid_splits.json"
    known = json.loads(splits.read_text())
    names = ("train", "val", "test", "trainval", "minitrain", "minival", "minitest")
    dump(splits, {name: known.get(name, known["test"]) for name in names})
    rollout = place.folder / "RL_models/run/questions/0/p0/10"
    rollout.mkdir(parents=True)
    (rollout / "rationale_from_mm_cot.txt").write_text('{\n"It is hot.": xxx\n}\n')
    (rollout / "score.txt").write_text("0.9\n")
    dump(place.folder / "predictions_ans_train.json", {"preds": ["The answer is (B)."], "labels": []})
    dump(place.folder / "correction.json", {"10": {"solution": "Solution: It is hot."}})


def finished_run(name: str) -> Maker:
    """A run of R3V with one round."""

    def make(place: Place) -> None:
        from llamafactory_mmself.cli import main
        from llamafactory_mmself.toyworld.training import shipped_base

        write_world(place.folder / "runs/toy/data", WorldOptions(train=3, test=1, captions=1))
        base = shipped_base("qwen2_vl", WorldOptions())
        changes = [f"base_model={base}", f"output_dir={name}", "iterations=1", "train.max_steps=1"]
        assert main(["loop", "examples/r3v/toy.yaml", "--set", *changes]) == 0

    return make


STAND_INS: Mapping[str, tuple[Maker, ...]] = {
    "README.md": (
        *(model("llava-hf/llava-1.5-7b-hf", "llava"), model("Qwen/Qwen2-VL-7B-Instruct", "qwen2_vl")),
        *(model("saves/sherlock", "mllama"), ovip_rows("data/ovip_train.json"), services),
        *(geoqa("GeoQA"), m3cot, questions("test.json"), judge),
        benchmarks("pope", "mmstar", "llava_bench", "mmhal", "mmvet"),
    ),
    "docs/ares.md": (questions("test.json"), samples("ours.jsonl", "theirs.jsonl"), judge),
    "docs/evaluation.md": (
        *(model("llava-hf/llava-1.5-7b-hf", "llava"), adapter("saves/ovip"), judge, finished_run("runs/r3v-toy")),
        benchmarks("pope", "mmstar", "llava_bench", "mmhal", "mmvet"),
    ),
    "docs/index.md": (file("recipe.yaml", (ROOT / "examples/mdpo/orm_tiny.yaml").read_text()),),
    "docs/migration.md": (
        *(
            file("train.sh", OVIP_COMMAND),
            ovip_run,
            file("sherlock.yaml", "{stage: dpo, pref_loss: sr}"),
            sherlock_rows,
        ),
        *(r3v_folder, stl_folder, file("run.sh", ARES_COMMAND), ares_run),
    ),
    "docs/self_correction.md": (
        *(model(f"saves/{name}", "mllama") for name in ("r0", "sft", "offline", "sherlock")),
        *(model("runs/sherlock-toy/iter5/model", "qwen2_vl"), judge),
        *(questions("data/llava_cot_train.json"), questions("test.json")),
    ),
    "docs/self_training.md": (
        *(questions("data/geoqa/test.json"), finished_run("runs/geometry")),
        model("runs/geometry/iter3/merged", "qwen2_vl"),
    ),
    "patches/README.md": (model("models/tiny-qwen2-vl", "qwen2_vl"),),
    "docs/services.md": (*(model("llava-hf/llava-1.5-7b-hf", "llava"), ovip_rows("ovip.json"), services),),
}
