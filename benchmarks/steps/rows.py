# SPDX-License-Identifier: Apache-2.0
"""Synthetic rows: words of one token each, and pictures of random blocks, drawn with a seed."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

from .settings import Setting


BLOCKS = 16  # a picture's blocks on a side
PREFIX = 0.3  # share of an answer that Sherlock's rows give as its prefix
COLUMNS = {
    "messages": "conversations",
    "chosen": "chosen",
    "rejected": "rejected",
    "images": "images",
    "rejected_images": "rejected_images",
    "prefix": "prefix",
    "prefix_l": "prefix_l",
    "weights": "weights",
}
NEGATIVE = frozenset({"ovip", "svco", "svco_single"})


class Words:
    """Draws texts of a given number of tokens."""

    def __init__(self, tokenizer: Any, rng: random.Random) -> None:
        vocabulary = set(tokenizer.get_vocab())
        words = sorted(token[1:] for token in vocabulary if re.fullmatch(r"Ġ[a-z]{2,}", token))
        alone = [word for word in words if len(tokenizer.tokenize(f"a {word} {word}")) == 3]
        self._words = alone
        self._first = [word for word in alone if len(tokenizer.tokenize(word)) == 1]
        self._rng = rng

    def text(self, tokens: int) -> str:
        """A text of so many tokens."""
        return " ".join([self._rng.choice(self._first), *self._rng.choices(self._words, k=tokens - 1)])


def write_rows(setting: Setting, count: int, tokenizer: Any, folder: Path, seed: int = 0) -> Path:
    """Writes a data set `rows` with its `dataset_info.json` and pictures.

    Args:
        setting: decides about lengths and columns.
        count: number of rows; no two share a picture.
        tokenizer: of the model.
        folder: what to write; what was there is removed.
        seed: of texts and pictures.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = random.Random(f"{seed}/{setting.name}")
    words = Words(tokenizer, rng)
    rows = [_row(setting, words, rng, folder, number) for number in range(count)]
    used = {"messages", "chosen", "rejected", *rows[0]}
    info = {
        "file_name": "rows.json",
        "formatting": "sharegpt",
        "ranking": True,
        "columns": {column: name for column, name in COLUMNS.items() if column in used},
    }
    if setting.method == "sherlock":
        info["prefix_in_response"] = "true"
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / "dataset_info.json").write_text(json.dumps({"rows": info}, indent=2), encoding="utf-8")
    return folder


def _row(setting: Setting, words: Words, rng: random.Random, folder: Path, number: int) -> dict[str, Any]:
    count = setting.answers if setting.method == "group" else 2
    cut = round(setting.answer * PREFIX)
    parts = [(words.text(cut), words.text(setting.answer - 1 - cut)) for _ in range(count)]
    chosen, *rejected = [{"from": "gpt", "value": " ".join(part)} for part in parts]
    row: dict[str, Any] = {
        "conversations": [{"from": "human", "value": f"<image>\n{words.text(setting.question)}"}],
        "chosen": chosen,
        "rejected": rejected if setting.method == "group" else rejected[0],
        "images": [_picture(setting.image, rng, folder / f"{number}.png")],
    }
    if setting.method in NEGATIVE:
        row["rejected_images"] = [_picture(setting.image, rng, folder / f"{number}-rejected.png")]
    if setting.method == "sherlock":
        row |= {"prefix": parts[0][0], "prefix_l": parts[1][0], "weights": round(rng.uniform(0.2, 1.0), 3)}
    return row


def _picture(side: int, rng: random.Random, path: Path) -> str:
    blocks = Image.frombytes("RGB", (BLOCKS, BLOCKS), rng.randbytes(3 * BLOCKS * BLOCKS))
    blocks.resize((side, side), Image.Resampling.NEAREST).save(path)
    return str(path)
