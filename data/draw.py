# SPDX-License-Identifier: Apache-2.0
"""Draws the pictures of this folder and writes its data sets and `dataset_info.json`.

    python data/draw.py --out data --seed 0

The package has to be installed. The same seed gives the same files.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from llamafactory_mmself.toyworld.rationales import SECTIONS, rationale, tagged_answer
from llamafactory_mmself.toyworld.scenes import (
    Question,
    Scene,
    answer,
    caption,
    contradict,
    draw,
    questions,
    random_scene,
    sentence,
)


TRAIN_SCENES, EVAL_SCENES = 20, 6
PAIRS_PER_SCENE = 2
SHERLOCK_ROWS = 24
DUMMY_ROWS = 60

Row = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """A question about a true scene, and a scene that differs in one object and gives another answer."""

    id: str
    question: Question
    true: Scene
    false: Scene
    true_image: str
    false_image: str

    @property
    def human(self) -> list[dict[str, str]]:
        """The user's turn."""
        return [{"from": "human", "value": f"<image>\n{self.question.text}"}]

    def reply(self, scene: Scene, with_rationale: bool) -> dict[str, str]:
        """What a model says that sees `scene`."""
        text = sentence(self.question, answer(self.question, scene))
        return gpt(f"{rationale(self.question, scene)} {text}" if with_rationale else text)


def gpt(text: str) -> dict[str, str]:
    """The model's turn."""
    return {"from": "gpt", "value": text}


def scene_pairs(rng: Random, images: dict[str, Scene], scenes: int, prefix: str) -> Iterator[Pair]:
    """Yields `PAIRS_PER_SCENE` pairs for each new scene and adds the scenes to `images` under their path."""
    for number in range(scenes):
        size = 3 if number % 4 == 3 else 2
        true = false = None
        while true is None or true in images.values() or false in images.values():
            true = random_scene(rng, size, size)
            false = contradict(true, rng)
        paths = []
        for scene in (true, false):
            paths.append(f"images/{len(images) + 1:04d}.png")
            images[paths[-1]] = scene
        telling = [q for q in questions(true) if answer(q, false) not in (None, answer(q, true))]
        kinds = sorted({q.kind for q in telling})
        for kind in rng.sample(kinds, k=PAIRS_PER_SCENE):
            question = rng.choice([q for q in telling if q.kind == kind])
            yield Pair(f"{prefix}-{number:02d}-{kind}", question, true, false, *paths)


def two_image_row(pair: Pair, with_rationale: bool) -> Row:
    """The true picture and the false one in `images`, as OViP has them."""
    return {
        "id": pair.id,
        "conversations": pair.human,
        "chosen": pair.reply(pair.true, with_rationale),
        "rejected": pair.reply(pair.false, with_rationale),
        "images": [pair.true_image, pair.false_image],
    }


def column_row(pair: Pair, rng: Random) -> Row:
    """Separate image columns, two or three rejected answers; the first one fits the rejected image."""
    wrong = {answer(pair.question, pair.false): pair.false}
    for _ in range(200):
        other = contradict(pair.true, rng)
        if answer(pair.question, other) not in (None, answer(pair.question, pair.true)) and len(wrong) < 3:
            wrong.setdefault(answer(pair.question, other), other)
    rejected = [pair.reply(scene, with_rationale=False) for scene in wrong.values()]
    if len(rejected) == 1:
        rejected.append(pair.reply(pair.false, with_rationale=True))
    return {
        "id": pair.id,
        "conversations": pair.human,
        "chosen": pair.reply(pair.true, with_rationale=False),
        "rejected": rejected,
        "images": [pair.true_image],
        "rejected_images": [pair.false_image],
        "answer": answer(pair.question, pair.true),
        "provenance": {
            "source": "toyworld",
            "kind": pair.question.kind,
            "scene": caption(pair.true),
            "rejected_scene": caption(pair.false),
        },
    }


def text_row(pair: Pair, with_rationale: bool) -> Row:
    """The same with the true picture alone: ordinary preference data."""
    return {**two_image_row(pair, with_rationale), "images": [pair.true_image]}


def cut(text: str, stage: int) -> int:
    """Where stage 1 to 4 begins: at the start, before CAPTION, before REASONING, in the middle of REASONING."""
    if stage == 1:
        return 0
    if stage < 4:
        return text.index(f"<{SECTIONS[stage - 1]}>")
    start, end = text.index("<REASONING>"), text.index(" </REASONING>")
    return text.index(" ", (start + end) // 2)


def sherlock_rows(pairs: list[Pair], rng: Random) -> tuple[list[Row], list[Row]]:
    """Rows with whole answers and the same rows with suffixes; every other row has one prefix for both answers."""
    whole, suffix = [], []
    for number, pair in enumerate(pairs[:SHERLOCK_ROWS]):
        stage, noise = (number // 2 + 2) % 4 + 1, round(rng.random(), 2)
        chosen, wrong = (tagged_answer(pair.question, scene) for scene in (pair.true, pair.false))
        prefix, tail = chosen[: cut(chosen, stage)], chosen[cut(chosen, stage) :]
        prefix_l, tail_l = wrong[: cut(wrong, stage)], wrong[cut(wrong, stage) :]
        if number % 2 == 0:
            prefix_l = prefix
        row = {
            "id": pair.id,
            "conversations": pair.human,
            "prefix": prefix,
            "prefix_l": prefix_l,
            # Sherlock's dynamic beta: an early cut or strong noise makes the update more careful.
            "weights": round(1 / (0.5 + (stage / 4) ** (0.5 + noise / 2)), 6),
            "images": [pair.true_image],
        }
        whole.append({**row, "chosen": gpt(prefix + tail), "rejected": gpt(prefix_l + tail_l)})
        suffix.append({**row, "chosen": gpt(tail), "rejected": gpt(tail_l)})
    return whole, suffix


def sft_row(pair: Pair, rng: Random, turns: int) -> Row:
    """A conversation of one or two turns about the true scene."""
    conversation = [*pair.human, pair.reply(pair.true, with_rationale=True)]
    if turns == 2:
        more = rng.choice([q for q in questions(pair.true) if q != pair.question and q.kind != "describe"])
        conversation.append({"from": "human", "value": more.text})
        conversation.append(gpt(sentence(more, answer(more, pair.true))))
    return {"id": pair.id, "conversations": conversation, "images": [pair.true_image]}


def dataset_info() -> dict[str, Any]:
    """Names each file and its columns the way LLaMA-Factory reads them."""
    base = {"messages": "conversations", "images": "images"}
    ranking = {**base, "chosen": "chosen", "rejected": "rejected"}
    sherlock = {**ranking, "prefix": "prefix", "prefix_l": "prefix_l", "weights": "weights", "id": "id"}
    columns = {**ranking, **{name: name for name in ("rejected_images", "id", "answer", "provenance")}}
    entries = {
        "mmself_pairs": ("mmself_pairs.json", {**ranking, "id": "id"}),
        "mmself_pairs_columns": ("mmself_pairs_columns.jsonl", columns),
        "mmself_text_pairs": ("mmself_text_pairs.json", {**ranking, "id": "id"}),
        "mmself_sherlock_full": ("mmself_sherlock_full.json", sherlock),
        "mmself_sherlock_suffix": ("mmself_sherlock_suffix.json", sherlock),
        "dummy": ("dummy.json", ranking),
        "ovip_eval": ("ovip_eval.json", {**ranking, "id": "id"}),
    }
    info = {
        name: {"file_name": file, "formatting": "sharegpt", "ranking": True, "columns": names}
        for name, (file, names) in entries.items()
    }
    info["mmself_sft"] = {"file_name": "mmself_sft.json", "formatting": "sharegpt", "columns": {**base, "id": "id"}}
    return info


def write(out: Path, seed: int) -> None:
    """Writes everything into `out`; files of other names are left alone."""
    rng = Random(seed)
    images: dict[str, Scene] = {}
    train = list(scene_pairs(rng, images, TRAIN_SCENES, "train"))
    held_out = list(scene_pairs(rng, images, EVAL_SCENES, "eval"))
    dummy = {key: value for key, value in two_image_row(train[0], with_rationale=False).items() if key != "id"}
    whole, suffix = sherlock_rows(train, rng)
    tables = {
        "mmself_pairs": [two_image_row(pair, bool(i % 2)) for i, pair in enumerate(train)],
        "mmself_pairs_columns": [column_row(pair, rng) for pair in train],
        "mmself_text_pairs": [text_row(pair, bool(i % 2)) for i, pair in enumerate(train)],
        "mmself_sherlock_full": whole,
        "mmself_sherlock_suffix": suffix,
        "mmself_sft": [sft_row(pair, rng, i % 2 + 1) for i, pair in enumerate(train)],
        "dummy": [dummy] * DUMMY_ROWS,
        "ovip_eval": [two_image_row(pair, bool(i % 2)) for i, pair in enumerate(held_out)],
    }
    (out / "images").mkdir(parents=True, exist_ok=True)
    for path, scene in images.items():
        draw(scene).save(out / path, optimize=True)
    info = dataset_info()
    for name, rows in tables.items():
        file = out / info[name]["file_name"]
        lines = [json.dumps(row) for row in rows]
        text = "\n".join(lines) if file.suffix == ".jsonl" else "[\n" + ",\n".join(lines) + "\n]"
        file.write_text(text + "\n", encoding="utf-8")
    (out / "dataset_info.json").write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Draw the pictures and write the small data sets.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="where the scenes come from")
    arguments = parser.parse_args()
    write(arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
