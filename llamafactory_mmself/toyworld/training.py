# SPDX-License-Identifier: Apache-2.0
"""Trains the weak starting model with LLaMA-Factory's stock `sft` stage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from ..files import FileError, write_json, write_text
from .errors import ToyWorldError
from .models import FAMILIES, TEMPLATES, build_tiny_model
from .scenes import draw
from .start import start_rows
from .world import WorldOptions, scenes


WORK = "start"  # a folder in the model's: random weights, data, train.yaml, train.log
_DATASET = "toy_start"


@dataclass(frozen=True)
class StartOptions:
    """How the weak start is made.

    Attributes:
        family: of the tiny model; one of `models.FAMILIES`.
        model: a folder of `mmself toy model` to start from; None builds one from `family` and `seed`.
        rows: training rows over all prompt forms, one scene each.
        epochs: passes over them.
        learning_rate: its peak; cosine decay after a short warm-up.
        batch_size: rows a step.
        world: grid and picture size; must be those of the data that the model will see.
        seed: of weights, rows and training.
    """

    family: str = "qwen2_vl"
    model: Path | None = None
    rows: int = 1500
    epochs: float = 6.0
    learning_rate: float = 1e-3
    batch_size: int = 32
    world: WorldOptions = field(default_factory=WorldOptions)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ToyWorldError(f"Unknown model family {self.family!r}. Choose one of: {', '.join(FAMILIES)}.")
        if self.rows < 1 or self.epochs <= 0 or self.learning_rate <= 0 or self.batch_size < 1:
            raise ToyWorldError("rows, epochs, learning_rate and batch_size have to be positive.")


def train_start(out: Path, options: StartOptions = StartOptions()) -> Path:
    """Writes the rows, trains on them and leaves a complete checkpoint in `out`.

    `out/start/` keeps what went in: random weights, rows with pictures, `train.yaml`, `train.log`.

    Returns:
        `out`.

    Raises:
        ToyWorldError: `out` holds something else, or training failed; the text ends with the log's last lines.
    """
    out = Path(out).resolve()
    work = out / WORK
    if out.exists() and any(out.iterdir()) and not (work / "train.yaml").is_file():
        raise ToyWorldError(f"{out} is not empty and holds no model of `mmself toy start`. Choose another folder.")
    shutil.rmtree(out, ignore_errors=True)
    model = options.model or build_tiny_model(options.family, work / "tiny", seed=options.seed)
    _write_rows(work / "data", options)
    config = training_config(Path(model).resolve(), work / "data", out, options)
    write_text(work / "train.yaml", "".join(f"{name}: {json.dumps(value)}\n" for name, value in config.items()))
    _train(work / "train.yaml", work / "train.log")
    write_json(work / "start.json", {**asdict(options), "model": str(model)})
    return out


def training_config(model: Path, data: Path, out: Path, options: StartOptions) -> dict[str, Any]:
    """The keys of the training YAML: full tuning of everything, the vision tower too."""
    return {
        "model_name_or_path": str(model),
        "template": TEMPLATES[options.family],
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "freeze_vision_tower": False,
        "freeze_multi_modal_projector": False,
        "dataset": _DATASET,
        "dataset_dir": str(data),
        "media_dir": str(data),
        "cutoff_len": 1024,
        "output_dir": str(out),
        "per_device_train_batch_size": options.batch_size,
        "num_train_epochs": options.epochs,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.05,
        "save_strategy": "no",
        "logging_steps": 10,
        "report_to": "none",
        "seed": options.seed,
    }


def _write_rows(folder: Path, options: StartOptions) -> None:
    rng = Random(f"{options.seed}/start")
    world = options.world
    source = scenes("start", rng, world.rows, world.columns)
    rows = start_rows([next(source) for _ in range(options.rows)], rng)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    table = []
    for row in rows:
        image = f"images/{row.id}.png"
        draw(row.scene, world.size, lit=True).save(folder / image, optimize=True)
        turns = [{"from": "human", "value": row.prompt}, {"from": "gpt", "value": row.target}]
        table.append(
            {"id": row.id, "kind": row.kind, "images": [image], "conversations": turns, "scene": str(row.scene)}
        )
    write_json(folder / f"{_DATASET}.json", table)
    columns = {"messages": "conversations", "images": "images"}
    entry = {"file_name": f"{_DATASET}.json", "formatting": "sharegpt", "columns": columns}
    write_json(folder / "dataset_info.json", {_DATASET: entry})


def _train(config: Path, log: Path) -> None:
    beside = Path(sys.executable).parent / "llamafactory-cli"
    command = str(beside) if beside.is_file() else shutil.which("llamafactory-cli")
    if command is None:
        raise ToyWorldError("`llamafactory-cli` is not installed beside this Python; install llamafactory==0.9.5.")
    environment = {"WANDB_DISABLED": "true", "TOKENIZERS_PARALLELISM": "false", **os.environ}
    try:
        with open(log, "w", encoding="utf-8") as file:
            done = subprocess.run([command, "train", str(config)], stdout=file, stderr=file, env=environment)
    except OSError as error:
        raise FileError(f"{log} cannot be written: {error.strerror or error}.") from error
    if done.returncode != 0:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])
        raise ToyWorldError(
            f"Training the start ended with status {done.returncode}. Settings: {config}, log: {log}. Its end:\n{tail}"
        )
