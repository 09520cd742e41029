# SPDX-License-Identifier: Apache-2.0
"""Trains the toy world's models with LLaMA-Factory's stock `sft` stage: the base, and weak starts from it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from ..files import FileError, read_json, write_json, write_text
from .errors import ToyWorldError
from .models import FAMILIES, TEMPLATES, build_tiny_model
from .scenes import Scene, draw
from .start import CARELESS, CARELESS_TAGGED, CHOOSE, EMBELLISH, FOLLOW, REASON, SEE, TAGGED, StartRow, start_rows
from .world import WorldOptions, scenes


WORK = "training"  # a folder in the model's: random weights, and a folder a phase with data, train.yaml, train.log


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
        careless: share of careless answers among its rows, from 0 to 1.
    """

    name: str
    shares: dict[str, float]
    rows: int
    epochs: float
    learning_rate: float
    batch_size: int
    careless: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rows", "epochs", "learning_rate", "batch_size"):
            if getattr(self, name) <= 0:
                raise ToyWorldError(f"Phase {self.name!r}: {name} has to be positive, not {getattr(self, name)}.")
        if not 0 <= self.careless <= 1:
            raise ToyWorldError(f"Phase {self.name!r}: careless is a share from 0 to 1, not {self.careless}.")


# From random weights to a model that sees, reasons and follows every method's prompts, in an hour. Comparing and
# copying take many steps to be found rather than many rows: small batches then.
BASE = (
    Phase("see", SEE, 3000, 1, 3e-3, 16),
    Phase("reason", REASON, 14000, 1, 1.5e-3, 4),
    Phase("follow", FOLLOW, 16000, 1, 1.5e-3, 4),
    Phase("choose", CHOOSE, 12000, 1, 1.5e-3, 4),
)
# From the base to a model that is careless wherever a question leaves room for it.
START = (Phase("start", CARELESS, 1200, 2, 2e-3, 8, careless=1.0),)
# From the base to a model that answers and corrects in tagged sections, and then carelessly where nothing is shown.
REASONER = (
    Phase("sections", TAGGED, 6000, 1, 1.5e-3, 4),
    Phase("reasoner", CARELESS_TAGGED, 1000, 1, 1e-3, 8, careless=1.0),
)
# From the base to a model whose captions name things that are not there.
CAPTIONER = (Phase("captioner", EMBELLISH, 1200, 1, 1e-3, 8, careless=0.75),)


@dataclass(frozen=True)
class TrainingOptions:
    """How a model is trained: phase by phase, each from the model of the one before.

    Attributes:
        family: of the tiny model; one of `models.FAMILIES`.
        model: what the first phase starts from, as `shipped_base`; None builds random weights from `family` and
            `seed`.
        phases: the trainings.
        world: grid and picture size; must be those of the data that the model will see.
        seed: of weights, rows and training.
    """

    family: str = "qwen2_vl"
    model: Path | None = None
    phases: tuple[Phase, ...] = START
    world: WorldOptions = field(default_factory=WorldOptions)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ToyWorldError(f"Unknown model family {self.family!r}. Choose one of: {', '.join(FAMILIES)}.")
        if not self.phases:
            raise ToyWorldError("A training needs one phase at least.")


def shipped_base(family: str, world: WorldOptions) -> Path:
    """The folder of the base model that comes with the package, trained by `mmself toy base` with its defaults.

    Raises:
        ToyWorldError: there is none for this family, grid or picture size.
    """
    if family == "qwen2_vl" and world.pictures == WorldOptions().pictures:
        return Path(__file__).parent / "base"
    raise ToyWorldError(
        f"No base model is shipped for {family} on a grid of {world.rows} x {world.columns} in {world.size} pixels. "
        f"Train one with `mmself toy base --family {family}` (and --data) and name its folder with --model."
    )


def train_model(out: Path, options: TrainingOptions | None = None) -> Path:
    """Writes the rows, trains on them and leaves a complete checkpoint in `out`.

    `out/training/` keeps what went in: random weights, and for each phase rows with pictures, `train.yaml` and
    `train.log`. Phases that an earlier run finished with the same options are left as they are.

    Returns:
        `out`.

    Raises:
        ToyWorldError: `out` holds something else, or training failed; the text ends with the log's last lines.
    """
    options = options or TrainingOptions()
    out = Path(out).resolve()
    work, marker = out / WORK, out / WORK / "options.json"
    made_from = json.loads(json.dumps({**asdict(options), "world": options.world.pictures}, default=str))
    done = _keep_finished(out, marker, made_from)
    write_json(marker, {"options": made_from, "finished": done})
    model = Path(options.model or work / "random").resolve()
    if options.model is None and not done:
        build_tiny_model(options.family, model, seed=options.seed)
    rng = Random(f"{options.seed}/start")
    source = _scenes(rng, options.world)
    for number, phase in enumerate(options.phases):
        rows = start_rows(list(islice(source, phase.rows)), rng, phase.shares, phase.careless)
        result = out if number == len(options.phases) - 1 else work / phase.name / "model"
        if number >= done:
            _train(phase, rows, model, result, work, options)
            write_json(marker, {"options": made_from, "finished": number + 1})
        model = result
    for phase in options.phases[:-1]:
        shutil.rmtree(work / phase.name / "model", ignore_errors=True)
    return out


def _keep_finished(out: Path, marker: Path, made_from: dict[str, Any]) -> int:
    """The number of phases that an earlier run finished with these options; what else it wrote is removed."""
    if not out.exists() or not any(out.iterdir()):
        return 0
    if not marker.is_file():
        raise ToyWorldError(
            f"{out} is not empty and holds no model of `mmself toy start` or `mmself toy base`. Choose another folder."
        )
    earlier = read_json(marker)
    done = int(earlier["finished"])
    if earlier["options"] == made_from and done == len(made_from["phases"]):
        return done
    same = {**earlier["options"], "phases": earlier["options"]["phases"][:done]}
    if same != {**made_from, "phases": made_from["phases"][:done]} or done >= len(made_from["phases"]):
        done = 0
    if made_from["model"] and Path(made_from["model"]).resolve().is_relative_to(out):
        raise ToyWorldError(f"{made_from['model']} lies in {out}, which is written anew. Choose another folder.")
    kept = {marker.name, "random", *(phase["name"] for phase in made_from["phases"][:done])} if done else set()
    for path in (*out.iterdir(), *marker.parent.iterdir()):
        if path == marker.parent or (path.parent == marker.parent and path.name in kept):
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return done


def _scenes(rng: Random, world: WorldOptions) -> Iterator[Scene]:
    """The scenes of the split again and again: each time round they get other questions."""
    known: list[Scene] = []
    try:
        for scene in scenes("start", rng, world.rows, world.columns):
            known.append(scene)
            yield scene
    except ToyWorldError:  # no more of them
        while known:
            yield from rng.sample(known, len(known))
        raise


def training_config(phase: Phase, model: Path, data: Path, out: Path, options: TrainingOptions) -> dict[str, Any]:
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
        "preprocessing_num_workers": 2,
        "disable_gradient_checkpointing": True,  # so small a model has room for its activations
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
        "logging_steps": 20,
        "report_to": "none",
        "seed": options.seed,
    }


def _by_length() -> dict[str, Any]:
    """Rows of about the same length share a batch; transformers 5 has another name for it."""
    from transformers import TrainingArguments

    names = {field.name for field in fields(TrainingArguments)}
    return {"group_by_length": True} if "group_by_length" in names else {"train_sampling_strategy": "group_by_length"}


def _train(phase: Phase, rows: list[StartRow], model: Path, out: Path, work: Path, options: TrainingOptions) -> None:
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
    # A second thread brings such a model nothing, and costs much where others want the core.
    quiet = {"WANDB_DISABLED": "true", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    environment = {**quiet, **os.environ}
    try:
        with open(log, "w", encoding="utf-8") as file:
            done = subprocess.run([command, "train", str(config)], stdout=file, stderr=file, env=environment)
    except OSError as error:
        raise FileError(f"{log} cannot be written: {error.strerror or error}.") from error
    if done.returncode != 0:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])
        raise ToyWorldError(
            f"Training the model ended with status {done.returncode}. Settings: {config}, log: {log}. Its end:\n{tail}"
        )
