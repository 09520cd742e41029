# SPDX-License-Identifier: Apache-2.0
"""Tasks of lmms-eval on our checkpoints.

lmms-eval runs as a program in an environment of its own; its results come into our form. It loads whole models, with
their own chat template, and fetches data sets by name. Seen with version 0.7.3.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...files import FileError, read_json, read_jsonl, write_json
from ..metrics.base import Answer, Columns, Figures
from ..results import COLUMNS, SCORES
from ..scales import FOREIGN
from . import BridgeError


ENVIRONMENT = ".venv-lmms-eval"
INSTALL = f"python -m venv {ENVIRONMENT} && {ENVIRONMENT}/bin/python -m pip install lmms-eval"
_ASK_VERSION = "import importlib.metadata as m; print(m.version('lmms_eval'))"
_TAIL = 30  # lines of the log in errors
_WIDTH = 1.959964  # of a 95 % interval, in standard errors
_CLOSE = 1e-6  # relative difference up to which a mean over samples is lmms-eval's own number

#: Type of a transformers model -> lmms-eval's name for what runs it.
MODELS = {
    "qwen2_vl": "qwen2_vl",
    "qwen2_5_vl": "qwen2_5_vl",
    "qwen3_vl": "qwen3_vl",
    "llava": "llava_hf",
    "llava_next": "llava_hf",
    "mllama": "llama_vision",
}


@dataclass(frozen=True)
class LmmsRun:
    """What lmms-eval is asked to do.

    Attributes:
        python: of the environment that lmms-eval is installed in.
        tasks: names of its tasks, or of tasks in `include_path`.
        model: folder or hub name of a whole model.
        out: folder to write.
        name: its name for what runs the model; None: what belongs to the model's type.
        arguments: more of its model arguments, `key=value,key=value`.
        include_path: folder with further task files.
        batch_size: prompts sampled together.
        limit: the first so many items of each task.
        device: `auto`, `cpu` or `cuda`.
        download: whether it may fetch data sets.
        command: what is told about how this was run.
    """

    python: Path
    tasks: tuple[str, ...]
    model: str
    out: Path
    name: str | None = None
    arguments: str = ""
    include_path: Path | None = None
    batch_size: int = 1
    limit: int | None = None
    device: str = "auto"
    download: bool = False
    command: str = ""


class Means:
    """The metric of results from lmms-eval: the mean of each column, as lmms-eval computed it.

    Figures that are no means of samples are in `scores.json` only.
    """

    name: ClassVar[str] = FOREIGN
    version: ClassVar[int] = 1
    headline: ClassVar[str] = ""  # each task has its own

    def __init__(self, lmms_eval: str, lower: Sequence[str] = ()) -> None:
        self.lmms_eval = lmms_eval
        self.lower = tuple(lower)

    def columns(self, answers: Sequence[Answer]) -> Columns:
        """Answers are scored by lmms-eval alone.

        Raises:
            BridgeError: always.
        """
        raise BridgeError("Results of lmms-eval cannot be scored again here: run the command again.")

    def figures(self, columns: Columns) -> Figures:
        """See `Metric.figures`."""
        return {name: float(values.mean()) for name, values in columns.items()}


def find_python(given: Path | None, beside: Sequence[Path] | None = None) -> tuple[Path, str]:
    """The Python that has lmms-eval, and the version of that.

    Args:
        given: the user's; None looks for an environment `.venv-lmms-eval`, and at this one.
        beside: folders to look in; by default the working directory and the one that this environment lies in.

    Raises:
        BridgeError: there is none, with the command that installs it.
    """
    if given is not None:
        if (version := _version(given)) is None:
            raise BridgeError(
                f"{given} has no lmms-eval. Install it there, or in an environment of its own: {INSTALL}"
            )
        return given, version
    folders = (Path.cwd(), Path(sys.prefix).parent) if beside is None else beside
    places = [place for folder in folders if (place := folder / ENVIRONMENT / "bin" / "python").exists()]
    for place in [*places, *([Path(sys.executable)] if beside is None else [])]:
        if (version := _version(place)) is not None:
            return place, version
    raise BridgeError(
        f"lmms-eval is not installed. It wants an environment of its own: {INSTALL}. It is found there; name another "
        "Python with --lmms_python."
    )


def _version(python: Path) -> str | None:
    try:
        done = subprocess.run([str(python), "-c", _ASK_VERSION], capture_output=True, text=True, check=False)
    except OSError as error:
        raise BridgeError(f"There is no program {python}: {error.strerror}.") from error
    return done.stdout.strip() if done.returncode == 0 else None


def model_name(model: str) -> str:
    """lmms-eval's name for what runs a model.

    Raises:
        BridgeError: the type of the model is not known.
    """
    config = Path(model) / "config.json"
    kind = read_json(config).get("model_type") if config.is_file() else None
    if kind not in MODELS:
        what = f"{model} is of type {kind}" if kind else f"{model} is no folder with a config.json"
        raise BridgeError(
            f"{what}: say with --lmms_model how lmms-eval calls what runs it (`lmms-eval models` lists them)."
        )
    return MODELS[kind]


def run_lmms_eval(run: LmmsRun) -> list[Path]:
    """Runs lmms-eval and brings its results into our form; returns a folder for each task.

    Its own files stay in `OUT/lmms-eval`, its log in `OUT/lmms-eval.log`.

    Raises:
        BridgeError: lmms-eval is not there, or failed; the text ends with the end of its log.
    """
    python, version = find_python(run.python)
    raw, log = run.out / "lmms-eval", run.out / "lmms-eval.log"
    before = set(raw.glob("**/*_results.json"))
    run.out.mkdir(parents=True, exist_ok=True)
    line = [str(python), "-m", "lmms_eval", *_arguments(run, raw)]
    offline = {} if run.download else {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    with open(log, "wb") as file:
        status = subprocess.run(
            line, env={**os.environ, **offline}, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False
        ).returncode
    made = sorted(set(raw.glob("**/*_results.json")) - before)
    if not made:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:])
        hint = "" if run.download else " It was kept from downloading; --download lets it fetch data sets."
        raise BridgeError(
            f"lmms-eval {version} ended with status {status} and wrote no results.{hint} The end of {log}:\n{tail}"
        )
    return [_converted(run, version, path, task) for path in made for task in _tasks(path)]


def _arguments(run: LmmsRun, raw: Path) -> list[str]:
    settings = [f"pretrained={run.model}"]
    if run.device == "cpu" or (run.device == "auto" and not _has_gpu()):
        settings += ["device=cpu", "device_map=cpu"]
    settings += [run.arguments] if run.arguments else []
    line = ["--model", run.name or model_name(run.model), "--model_args", ",".join(settings)]
    line += ["--tasks", ",".join(run.tasks), "--batch_size", str(run.batch_size), "--output_path", str(raw)]
    line += [] if run.include_path is None else ["--include_path", str(run.include_path)]
    line += [] if run.limit is None else ["--limit", str(run.limit)]
    return [*line, "--log_samples"]


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _tasks(path: Path) -> list[str]:
    """The tasks of a results file that have numbers; groups without any are left out."""
    return [task for task, values in read_json(path)["results"].items() if _figures(values)]


def _figures(values: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Figure -> value and 95 % interval, from `<metric>,<filter>` and its standard error."""
    found = {}
    for key, value in values.items():
        metric, comma, chosen = key.partition(",")
        if not comma or "_stderr" in metric or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        error = values.get(f"{metric}_stderr,{chosen}")
        half = _WIDTH * error if isinstance(error, int | float) and math.isfinite(error) else None
        ends = (None, None) if half is None else (value - half, value + half)
        found[metric if chosen == "none" else key] = {"value": float(value), "low": ends[0], "high": ends[1]}
    return found


def _converted(run: LmmsRun, version: str, path: Path, task: str) -> Path:
    """Writes `scores.json` and `columns.json` of a task."""
    results = read_json(path)
    folder = run.out / f"lmms-eval-{task}"
    date = path.name.removesuffix("_results.json")
    samples = path.with_name(f"{date}_samples_{task}.jsonl")
    rows = list(read_jsonl(samples)) if samples.is_file() else []
    try:
        figures = _figures(results["results"][task])
        ids = [str(row["doc_id"]) for row in rows]
        better = results.get("higher_is_better", {}).get(task, {})
        scores = {
            "task": f"lmms-eval:{task}",
            "version": results["versions"].get(task),
            "metric": {
                "name": FOREIGN,
                "version": Means.version,
                "options": {"lmms_eval": version, "lower": sorted(n for n in figures if better.get(n) is False)},
            },
            "n": results.get("n-samples", {}).get(task, {}).get("effective", len(rows)),
            "unparsed": None,
            "cut": None,
            "judge": None,
            "limit": run.limit,
            "items": _digest([[row["doc_id"], row.get("target"), row.get("input")] for row in rows]),
            "policy": run.model,
            "engine": {name: results["config"].get(name) for name in ("model", "model_args", "gen_kwargs")},
            "command": run.command,
            "headline": next(iter(figures)),
            "figures": figures,
        }
    except (KeyError, AttributeError) as error:
        raise FileError(f"{path} is no results file of lmms-eval as version 0.7 writes it: {error!r}.") from error
    write_json(folder / COLUMNS, {"ids": ids, "columns": _columns(rows, figures)})
    write_json(folder / SCORES, scores)
    return folder


def _columns(
    rows: Sequence[Mapping[str, Any]], figures: Mapping[str, Mapping[str, float | None]]
) -> dict[str, list[float]]:
    """The numbers of samples whose mean is the figure; of others lmms-eval tells no number a sample."""
    columns = {}
    for figure, found in figures.items():
        values = [row.get(figure.partition(",")[0]) for row in rows]
        if not rows or not all(isinstance(value, bool | int | float) for value in values):
            continue
        numbers = [float(value) for value in values]  # type: ignore[arg-type]
        value = found["value"]
        if value is not None and math.isclose(float(np.mean(numbers)), value, rel_tol=_CLOSE, abs_tol=_CLOSE):
            columns[figure] = numbers
    return columns


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
