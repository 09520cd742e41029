# SPDX-License-Identifier: Apache-2.0
"""The commands that take long, with what they are given and what their services answer."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from llamafactory_mmself.data.questions import Question, write_questions
from llamafactory_mmself.files import write_json, write_jsonl
from llamafactory_mmself.generate.types import Completion, Sample
from tests.evaluate.tasks.files import draw
from tests.faults.harness import Command, key_of
from tests.generate.fake_server import Reply, choices, painted


COLOURS = ("red", "green", "blue", "white")
LETTERS = "ABCD"


def answer(body: dict[str, Any]) -> Reply:
    """Whatever service is asked: who, stands in the model's name; what it says, follows from what it is shown."""
    model = body["model"]
    # Seeds follow from the address, whose port is another one each time.
    chance = int(key_of({name: value for name, value in body.items() if name not in ("model", "seed")}), 16)
    if model == "painter":
        out = io.BytesIO()
        Image.frombytes("RGB", (16, 16), Random(chance).randbytes(16 * 16 * 3)).save(out, format="PNG")
        return painted(out.getvalue())
    speak = {"judge": _judge, "describer": _describer, "teacher": _teacher}.get(model, _policy)
    return choices(*(speak(_text(body), chance + k) for k in range(body.get("n", 1))))


def _text(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def _policy(text: str, chance: int) -> str:
    letter, colour = LETTERS[chance % 4], COLOURS[chance // 4 % 4]
    return (
        f"<SUMMARY> Look at {chance % 997}. </SUMMARY> <CAPTION> A {colour} circle. </CAPTION> "
        f"<REASONING> It is {colour}. </REASONING> <CONCLUSION> Answer: {letter} </CONCLUSION>"
    )


def _judge(text: str, chance: int) -> str:
    """One text for all forms that judges are asked for."""
    verdict = "yes" if chance % 3 else "no"
    if "Score" in text:
        return f"Score: [{chance % 11}]"
    return f"Step {chance % 997} is odd.\nRating: {chance % 7}\nChoice: {'AB'[chance % 2]}\nVerdict: {verdict}"


def _describer(text: str, chance: int) -> str:
    return f"Description: A {COLOURS[chance % 4]} square, number {chance % 997}."


def _teacher(text: str, chance: int) -> str:
    sentences = re.findall(r"^\d+\. ", text, re.MULTILINE)
    if "sentence by sentence" in text:
        return json.dumps({"scores": [{"index": n + 1, "score": chance % 11 / 10} for n in range(len(sentences))]})
    return json.dumps({"final_rationale": f"It is number {chance % 997}. It is round."})


def _questions(folder: Path, name: str = "questions", number: int = 8) -> None:
    draw(folder, "1.png", "2.png")
    rows = [
        Question(
            f"{name}{n}",
            f"Which colour has circle {n}?",
            LETTERS[n % 4],
            (str(folder / f"{n % 2 + 1}.png"),),
            tuple(COLOURS),
        )
        for n in range(number)
    ]
    write_questions(folder / f"{name}.json", rows)


def _samples(folder: Path, name: str, number: int = 8) -> None:
    write_jsonl(
        folder / f"{name}.jsonl",
        (
            Sample(
                f"questions{n}#0",
                f"questions{n}",
                0,
                name,
                Completion(f"I look. It is {name} {n}. It is not {n + 1}.", (), "stop"),
            ).to_row()
            for n in range(number)
        ),
    )


def _engine(folder: Path, base: str, name: str) -> None:
    settings = {"name": "openai", "api_base": base, "api_model": name, "batch_size": 4}
    write_json(folder / f"{name}.yaml", settings | {"timeout": 5, "retries": 4})


def _asked(folder: Path, base: str) -> None:
    _questions(folder)
    _engine(folder, base, "policy")
    _engine(folder, base, "judge")


def _taught(folder: Path, base: str) -> None:
    _asked(folder, base)
    _samples(folder, "ours")
    _samples(folder, "theirs")
    teacher = {"api_base": base, "api_model": "teacher", "concurrency": 2, "timeout": 5, "retries": 4}
    write_json(folder / "teacher.yaml", teacher)


def _mmhal(folder: Path, base: str) -> None:
    _asked(folder, base)
    names = [f"{n}_a.jpg" for n in range(1, 9)]
    draw(folder / "mmhal" / "images", *names)
    rows = [
        {
            "question_type": "counting",
            "question_topic": "outdoor",
            "image_id": name.removesuffix(".jpg"),
            "image_src": f"https://example.org/7/{name}",
            "image_content": ["Hat"],
            "question": f"What is in picture {name}?",
            "gt_answer": "It is blue.",
            "model_answer": "",
        }
        for name in names
    ]
    write_json(folder / "mmhal" / "response_template.json", rows)


def _services(folder: Path, base: str) -> None:
    _asked(folder, base)
    rows = [
        {
            "conversations": [{"from": "human", "value": f"<image>\nWhat is on picture {n}?"}],
            "chosen": {"from": "gpt", "value": f"A circle, number {n}."},
            "rejected": {"from": "gpt", "value": "..."},
            "images": [str(folder / f"{n % 2 + 1}.png")] * 2,
        }
        for n in range(4)
    ]
    write_json(folder / "ovip.json", rows)
    times = {"api_base": base, "concurrency": 2, "timeout": 3, "dead_after": 3, "retries": 4}
    sections = {name: {**times, "api_model": name} for name in ("judge", "describer", "painter")}
    write_json(folder / "services.yaml", {**sections, "checks": {"attempts": 1}, "cache": "out/cache"})


def _loop(folder: Path, base: str, **more: Any) -> None:
    _taught(folder, base)
    _questions(folder, "held", 4)
    (folder / "model").mkdir()
    write_json(folder / "model" / "config.json", {"model_type": "stub"})
    recipe = {
        "output_dir": "out",
        "base_model": str(folder / "model"),
        "template": "qwen2_vl",
        "train_data": str(folder / "questions.json"),
        "test_data": str(folder / "held.json"),
        "engine": {"api_base": base, "batch_size": 4, "device": "cpu"},
        "sampling": {"n": 2, "max_new_tokens": 64},
        "train": {"finetuning_type": "lora"},
        "export": "never",
        **more,
    }
    write_json(folder / "recipe.yaml", recipe)


def _r3v(folder: Path, base: str) -> None:
    _loop(folder, base, method="r3v", iterations=1, evaluate={"samples": 2})


def _ares(folder: Path, base: str) -> None:
    build = {"teacher": str(folder / "teacher.yaml"), "phases": ["sft"], "score_test": True, "check": None}
    _loop(folder, base, method="ares", iterations=1, build=build)


ENGINE = "--config {inputs}/policy.yaml"
COMMANDS = (
    Command(
        "sample", f"sample --questions {{inputs}}/questions.json {ENGINE} --n 2 --out out/s.jsonl", answer, _asked, 4
    ),
    Command(
        "correct",
        f"correct --questions {{inputs}}/questions.json {ENGINE} --judge {{inputs}}/judge.yaml --stop judge --turns 1 "
        "--profile letters --out out",
        answer,
        _asked,
        4,
    ),
    Command(
        "select",
        f"select --questions {{inputs}}/questions.json {ENGINE} --max_candidates 2 --out out",
        answer,
        _asked,
        4,
    ),
    Command(
        "eval",
        f"eval --task mmhal --data {{inputs}} {ENGINE} --judge {{inputs}}/judge.yaml --draws 20 --out out",
        answer,
        _mmhal,
        8,
    ),
    Command(
        "build ovip",
        f"build ovip --ds_path {{inputs}}/ovip.json --services {{inputs}}/services.yaml {ENGINE} --n 3 --chunk 2 "
        "--out out --name pairs",
        answer,
        _services,
        4,
    ),
    Command(
        "build sherlock candidates",
        f"build sherlock candidates --questions {{inputs}}/questions.json {ENGINE} --judge {{inputs}}/judge.yaml "
        "--profile letters --corrections 2 --chunk 4 --out out --name online",
        answer,
        _asked,
        4,
    ),
    Command(
        "build ares correct",
        "build ares correct --questions {inputs}/questions.json --samples {inputs}/ours.jsonl "
        "--teacher {inputs}/teacher.yaml --check none --out out --name fixed",
        answer,
        _taught,
        2,
    ),
    Command(
        "build ares score",
        "build ares score --questions {inputs}/questions.json --samples {inputs}/ours.jsonl "
        "--teacher {inputs}/teacher.yaml --out out/sentences.jsonl",
        answer,
        _taught,
        2,
    ),
    Command(
        "build ares captions",
        f"build ares captions --questions {{inputs}}/questions.json {ENGINE} --out out/captioned.json",
        answer,
        _asked,
        4,
    ),
    Command(
        "build ares compare",
        "build ares compare --questions {inputs}/questions.json --samples {inputs}/ours.jsonl "
        "--baseline {inputs}/theirs.jsonl --judge {inputs}/judge.yaml --out out/wins.json",
        answer,
        _taught,
        24,
    ),
    Command("loop r3v", "loop {inputs}/recipe.yaml", answer, _r3v, 4),
    Command("loop ares", "loop {inputs}/recipe.yaml", answer, _ares, 4),
)
