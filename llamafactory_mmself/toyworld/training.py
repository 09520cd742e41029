# SPDX-License-Identifier: Apache-2.0
"""Trains the weak starting model with LLaMA-Factory's stock `sft` stage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from random import Random
from typing import Any

from ..files import FileError, read_json, write_json, write_text
from .errors import ToyWorldError
from .models import FAMILIES, TEMPLATES, build_tiny_model
from .scenes import draw
from .start import FOLLOW, REASON, SEE, StartRow, start_rows
from .world import WorldOptions, scenes


WORK = "start"  # a folder in the model's: random weights, and a folder a phase with data, train.yaml, train.log


@dataclass(frozen=True)
class Phase:
    """One training of the start.

    Attributes:
        name: of its folder.
        shares: of the prompt forms among its rows.
        rows: how many, one scene each.
        epochs: passes over them.
        learning_rate: its peak; cosine decay after a short warm-up.
        batch_size: rows a step.
    """

    name: str
    shares: dict[str, float]
    rows: int
    epochs: float
    learning_rate: float
    batch_size: int

    def __post_init__(self) -> None:
        for name in ("rows", "epochs", "learning_rate", "batch_size"):
            if getattr(self, name) <= 0:
                raise ToyWorldError(f"Phase {self.name!r}: {name} has to be positive, not {getattr(self, name)}.")


PHASES = (
    Phase("see", SEE, 2000, 1, 3e-3, 8),
    Phase("reason", REASON, 4000, 2, 3e-3, 8),
    Phase("follow", FOLLOW, 2500, 1.5, 2e-3, 8),
)


@dataclass(frozen=True)
class StartOptions:
    """How the weak start is made: it learns to see, then to reason, then to follow every method's prompts.

    Attributes:
        family: of the tiny model; one of `models.FAMILIES`.
        model: a folder of `mmself toy model` to start from; None builds one from `family` and `seed`.
        phases: the trainings, each from the model of the one before.
        world: grid and picture size; must be those of the data that the model will see.
        seed: of weights, rows and training.
    """

    family: str = "qwen2_vl"
    model: Path | None = None
    phases: tuple[Phase, ...] = PHASES
    world: WorldOptions = field(default_factory=WorldOptions)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ToyWorldError(f"Unknown model family {self.family!r}. Choose one of: {', '.join(FAMILIES)}.")
        if not self.phases:
            raise ToyWorldError("The start needs one phase of training at least.")


def train_start(out: Path, options: StartOptions | None = None) -> Path:
    """Writes the rows, trains on them and leaves a complete checkpoint in `out`.

    `out/start/` keeps what went in: random weights, and for each phase rows with pictures, `train.yaml` and
    `train.log`. A model that was finished with the same options is left as it is.

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
    for number, phase in enumerate(options.phases):
        rows = start_rows([next(source) for _ in range(phase.rows)], rng, phase.shares)
        last = number == len(options.phases) - 1
        result = out if last else work / phase.name / "model"
        _train(phase, rows, model, result, work, options)
        if number:
            shutil.rmtree(model)
        model = result
    write_json(marker, {"options": made_from, "finished": True})
    return out


def training_config(phase: Phase, model: Path, data: Path, out: Path, options: StartOptions) -> dict[str, Any]:
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
        "per_device_train_batch_size": phase.batch_size,
        **_by_length(),
        "num_train_epochs": phase.epochs,
        "learning_rate": phase.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.05,
        "use_muon": True,  # tiny models learn from less than half the rows that AdamW takes
        "adam_beta2": 0.95,  # runs of a few hundred steps: the second moment has to follow quickly
        "save_strategy": "no",
        "logging_steps": 10,
        "report_to": "none",
        "seed": options.seed,
    }


def _by_length() -> dict[str, Any]:
    """Rows of about the same length share a batch; transformers 5 has another name for it."""
    from transformers import TrainingArguments

    names = {field.name for field in fields(TrainingArguments)}
    return {"group_by_length": True} if "group_by_length" in names else {"train_sampling_strategy": "group_by_length"}


def _train(phase: Phase, rows: list[StartRow], model: Path, out: Path, work: Path, options: StartOptions) -> None:
    folder = work / phase.name
    _write_rows(folder / "data", rows, options.world.size)
    config = training_config(phase, model, folder / "data", out, options)
    write_text(folder / "train.yaml", "".join(f"{name}: {json.dumps(value)}\n" for name, value in config.items()))
    _llamafactory(folder / "train.yaml", folder / "train.log")


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


def _llamafactory(config: Path, log: Path) -> None:
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
