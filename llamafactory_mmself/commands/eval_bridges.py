# SPDX-License-Identifier: Apache-2.0
"""What `mmself eval` does with other harnesses: `--via lmms-eval` and `--export vlmevalkit`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..evaluate.scoring import Scored

_VIA = ("lmms_python", "lmms_model", "lmms_args", "include_path", "download")
_EXPORT = ("export_name", "export_dataset")
# Flags of `mmself eval` that lmms-eval never hears of, with their defaults.
_OURS: dict[str, Any] = {
    **dict.fromkeys(("data", "questions", "predictions", "max_new_tokens", "judge", "quirks", "config", "engine")),
    **dict.fromkeys(("dtype", "workers", "ray", "api_base", "api_model", "image_max_pixels", "image_min_pixels")),
    **dict.fromkeys(("image_do_pan_and_scan", "crop_to_patches")),
    **{"list": False, "rescore": False, "temperature": 0.0, "top_p": 1.0, "seed": 0, "draws": 1000, "prompt": []},
}


def add_bridges(parser: Any) -> None:
    """Adds the flags to the parser of `mmself eval`."""
    via = parser.add_argument_group("through another harness")
    via.add_argument(
        "--via",
        choices=("lmms-eval",),
        help="let lmms-eval, in an environment of its own, run its task of that name on the model",
    )
    via.add_argument(
        "--lmms_python", type=Path, metavar="FILE", help="Python that has it (default: .venv-lmms-eval's)"
    )
    via.add_argument("--lmms_model", metavar="NAME", help="its name for what runs the model (default: by the type)")
    via.add_argument("--lmms_args", metavar="KEY=VALUE,...", help="more of its model arguments")
    via.add_argument("--include_path", type=Path, metavar="DIR", help="folder with task files in its form")
    via.add_argument("--download", action="store_true", default=None, help="let it fetch the tasks' data sets")
    via.add_argument(
        "--export", choices=("vlmevalkit",), help="write the predictions for it as well: OUT/vlmevalkit/..."
    )
    via.add_argument("--export_name", metavar="NAME", help="the model's name there (default: its folder's)")
    via.add_argument("--export_dataset", metavar="NAME", help="the data set's name there, for one task")


def check_bridges(options: argparse.Namespace) -> None:
    """Refuses flags that would do nothing.

    Raises:
        ValueError: naming them.
    """
    for switch, names in (("via", _VIA), ("export", _EXPORT)):
        given = [f"--{name}" for name in names if vars(options)[name] is not None]
        if given and vars(options)[switch] is None:
            value = {"via": "lmms-eval", "export": "vlmevalkit"}[switch]
            raise ValueError(f"{', '.join(given)} would do nothing without --{switch} {value}.")
    idle = [f"--{name}" for name, default in _OURS.items() if vars(options)[name] != default]
    if options.via is not None and idle:
        raise ValueError(
            f"{', '.join(idle)} would do nothing with --via lmms-eval; what it takes goes into --lmms_args."
        )
    if options.via is not None and options.export is not None:
        raise ValueError("--export writes our predictions, and --via makes none: leave one out.")
    if options.export_dataset is not None and len(options.task or ()) > 1:
        raise ValueError("--export_dataset names the data set of one task, and several are run.")


def run_via(options: argparse.Namespace) -> str:
    """Runs tasks through lmms-eval; returns a table.

    Raises:
        ValueError: a flag is missing, or lmms-eval is, or it fails.
    """
    from ..evaluate.answers import table
    from ..evaluate.bridges.lmms_eval import LmmsRun, find_python, run_lmms_eval
    from ..files import read_json

    for name in ("task", "model", "out"):
        if not vars(options)[name]:
            raise ValueError(f"--via lmms-eval needs --{name}.")
    python, version = find_python(options.lmms_python)
    print(f"mmself: lmms-eval {version} of {python}; its log: {options.out / 'lmms-eval.log'}", file=sys.stderr)
    run = LmmsRun(
        python=python,
        tasks=tuple(options.task),
        model=_whole_model(options),
        out=options.out,
        name=options.lmms_model,
        arguments=options.lmms_args or "",
        include_path=options.include_path,
        batch_size=options.batch_size or 1,
        limit=options.limit,
        device=options.device or "auto",
        download=bool(options.download),
        command=" ".join(["mmself", *sys.argv[1:]]),
    )
    rows = []
    for folder in run_lmms_eval(run):
        scores = read_json(folder / "scores.json")
        for name, figure in scores["figures"].items():
            ends = "" if figure["low"] is None else f"{figure['low']:.4g}–{figure['high']:.4g}"
            rows.append([f"{scores['task']}: {name}", f"{figure['value']:.4g}", ends, str(scores["n"])])
    return table(["task", "lmms-eval's value", "95 %", "n"], rows)


def export(options: argparse.Namespace, data: Path, scored: Sequence[Scored]) -> list[Path]:
    """Writes the predictions of tasks for VLMEvalKit; returns the files.

    Args:
        options: flags of `mmself eval`.
        data: folder of the benchmarks.
        scored: tasks whose predictions are there, each turn by itself.

    Raises:
        ValueError: the data set's name is not known.
    """
    from ..evaluate.benchmark import PICTURES
    from ..evaluate.bridges.vlmevalkit import export_predictions
    from ..evaluate.predictions import PREDICTIONS, read_predictions

    last = (options.adapter or [""])[-1] or options.model or options.api_model
    name = options.export_name or (Path(last).name if last else "model")
    paths = []
    for item in scored:
        items = item.task.items(data, options.out / PICTURES, options.limit)
        predictions = read_predictions(item.folder / PREDICTIONS, items, options.limit is not None)
        turn = item.facts.get("turn")
        model = name if turn is None else f"{name}-turn{turn}"
        folder = options.out / options.export
        paths.append(export_predictions(item.task, items, predictions, model, folder, options.export_dataset, data))
    return paths


def _whole_model(options: argparse.Namespace) -> str:
    """The model that lmms-eval loads: it takes no adapters, so they are merged into `OUT/merged` first.

    Raises:
        ValueError: there is an adapter and no template.
    """
    adapters = [adapter for adapter in options.adapter or () if adapter != "none"]
    if not adapters:
        return str(options.model)
    from ..files import write_text
    from ..generate.config import EngineConfig
    from ..generate.policy import policy_of
    from ..loop.training import is_model, merge

    if len(adapters) > 1 or not options.template:
        raise ValueError("lmms-eval loads whole models: give one --adapter and --template, and it is merged first.")
    merged = options.out / "merged"
    note = options.out / "merged_from.txt"
    made_of = policy_of(EngineConfig(model=options.model, adapter=(adapters[0],), template=options.template)) + "\n"
    if not (is_model(merged) and note.is_file() and note.read_text(encoding="utf-8") == made_of):
        options.out.mkdir(parents=True, exist_ok=True)
        merge(options.model, Path(adapters[0]), options.template, merged, options.out / "merge.yaml", {})
        write_text(note, made_of)
    return str(merged)
