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

from ..files import FileError, read_json, write_json, write_text
from .errors import ToyWorldError
from .models import FAMILIES, TEMPLATES, build_tiny_model
from .scenes import draw
from .start import StartRow, start_rows
from .world import WorldOptions, scenes


WORK = "start"  # a folder in the model's: random weights, and a folder a phase with data, train.yaml, train.log


@dataclass(frozen=True)
class StartOptions:
    """How the weak start is made: first it learns to see, then to follow prompts.

    Attributes:
        family: of the tiny model; one of `models.FAMILIES`.
        model: a folder of `mmself toy model` to start from; None builds one from `family` and `seed`.
        captions: captioned scenes to learn to see from, before all else.
        rows: rows over all prompt forms, one scene each.
        caption_epochs: passes over the captions.
        epochs: passes over the rows; more make a stronger start.
        caption_learning_rate: its peak for the captions; cosine decay after a short warm-up.
        learning_rate: the same for the rows.
        batch_size: rows a step.
        world: grid and picture size; must be those of the data that the model will see.
        seed: of weights, rows and training.
    """

    family: str = "qwen2_vl"
    model: Path | None = None
    captions: int = 2000
    rows: int = 2000
    caption_epochs: float = 4.0
    epochs: float = 4.0
    caption_learning_rate: float = 2e-3
    learning_rate: float = 1.5e-3
    batch_size: int = 16
    world: WorldOptions = field(default_factory=WorldOptions)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ToyWorldError(f"Unknown model family {self.family!r}. Choose one of: {', '.join(FAMILIES)}.")
        for name in ("captions", "rows", "caption_epochs", "epochs", "caption_learning_rate", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ToyWorldError(f"{name} has to be positive, not {getattr(self, name)}.")
        if self.batch_size < 1:
            raise ToyWorldError(f"batch_size has to be 1 or more, not {self.batch_size}.")


def train_start(out: Path, options: StartOptions | None = None) -> Path:
    """Writes the rows, trains on them and leaves a complete checkpoint in `out`.

    `out/start/` keeps what went in: random weights, and for each phase (`see`, `follow`) rows with pictures,
    `train.yaml` and `train.log`. A model that was finished with the same options is left as it is.

    Returns:
        `out`.

    Raises:
        ToyWorldError: `out` holds something else, or training failed; the text ends with the log's last lines.
    """
    options = options or StartOptions()
    out = Path(out).resolve()
    work, marker = out / WORK, out / WORK / "start.json"
    made_from = json.loads(json.dumps(asdict(options), default=str))
    if out.exists() and any(out.iterdir()):
        if not marker.is_file():
            raise ToyWorldError(f"{out} is not empty and holds no model of `mmself toy start`. Choose another folder.")
        if read_json(marker) == {"options": made_from, "finished": True}:
            return out
        if options.model is not None and Path(options.model).resolve().is_relative_to(out):
            raise ToyWorldError(f"{options.model} lies in {out}, which is written anew. Choose another folder.")
        shutil.rmtree(out)
    write_json(marker, {"options": made_from, "finished": False})
    model = Path(options.model or build_tiny_model(options.family, work / "random", seed=options.seed)).resolve()
    rng = Random(f"{options.seed}/start")
    source = scenes("start", rng, options.world.rows, options.world.columns)
    see = start_rows([next(source) for _ in range(options.captions)], rng, {"caption": 1.0})
    follow = start_rows([next(source) for _ in range(options.rows)], rng)
    _phase(
        work / "see",
        see,
        model,
        work / "see" / "model",
        options.caption_epochs,
        options.caption_learning_rate,
        options,
    )
    _phase(work / "follow", follow, work / "see" / "model", out, options.epochs, options.learning_rate, options)
    shutil.rmtree(work / "see" / "model")
    write_json(marker, {"options": made_from, "finished": True})
    return out


def training_config(
    model: Path, data: Path, out: Path, epochs: float, rate: float, options: StartOptions
) -> dict[str, Any]:
    """The keys of a phase's training YAML: full tuning of everything, the vision tower too."""
    return {
        "model_name_or_path": str(model),
        "template": TEMPLATES[options.family],
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "freeze_vision_tower": False,
        "freeze_multi_modal_projector": False,
        "dataset": "rows",
        "dataset_dir": str(data),
        "media_dir": str(data),
        "cutoff_len": 1024,
        "output_dir": str(out),
        "per_device_train_batch_size": options.batch_size,
        "num_train_epochs": epochs,
        "learning_rate": rate,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.05,
        "adam_beta2": 0.95,  # runs of a few hundred steps: the second moment has to follow quickly
        "save_strategy": "no",
        "logging_steps": 10,
        "report_to": "none",
        "seed": options.seed,
    }


def _phase(
    folder: Path, rows: list[StartRow], model: Path, out: Path, epochs: float, rate: float, options: StartOptions
) -> None:
    _write_rows(folder / "data", rows, options.world.size)
    config = training_config(model, folder / "data", out, epochs, rate, options)
    write_text(folder / "train.yaml", "".join(f"{name}: {json.dumps(value)}\n" for name, value in config.items()))
    _train(folder / "train.yaml", folder / "train.log")


def _write_rows(folder: Path, rows: list[StartRow], size: int) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    table = []
    for row in rows:
        image = f"images/{row.id}.png"
        draw(row.scene, size, lit=True).save(folder / image, optimize=True)
        turns = [{"from": "human", "value": row.prompt}, {"from": "gpt", "value": row.target}]
        table.append(
            {"id": row.id, "kind": row.kind, "images": [image], "conversations": turns, "scene": str(row.scene)}
        )
    write_json(folder / "rows.json", table)
    columns = {"messages": "conversations", "images": "images"}
    entry = {"file_name": "rows.json", "formatting": "sharegpt", "columns": columns}
    write_json(folder / "dataset_info.json", {"rows": entry})


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
