# SPDX-License-Identifier: Apache-2.0
"""Measures training steps of the tree stages against what a user has today, on the same rows in one run.

Contenders: `naive`, the frozen baseline of `naive.py`; `llamafactory`, the stock stage `dpo`; `trl`, TRL's DPOTrainer
(LLaVA); and `dense`, `packed` and `auto`, the engines of the tree stages. Each trains in a process of its own as its
users start it, with the same checkpoint, seed, optimizer and LoRA, and takes a step when it is its turn: A, B, C, A,
B, C ... A step is all of it, from opening pictures to the optimizer. Memory is the most that a process takes in its
steps above what it took before them, when model and optimizer were loaded. Weights, texts and pictures are random,
drawn with a seed; the losses of all contenders are compared step by step.

    python benchmarks/training_steps.py                      the bar, and all other suites (hours)
    python benchmarks/training_steps.py --suites bar         the bar alone
    python benchmarks/training_steps.py --quick              a tiny model, about two minutes
    python benchmarks/training_steps.py --device cuda --suites bar --shape qwen2.5-vl-7b --methods dpo --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from machine import describe_commit, describe_machine
from steps.contenders import TRL_REPAIRS
from steps.jobs import Job
from steps.race import race
from steps.report import WARM_UP, judge, plot, summarise, table
from steps.rows import write_rows
from steps.settings import CONTENDERS, METHODS, SUITES, Contender, Setting, contenders_of
from steps.shapes import SHAPES, write_model
from steps.work import Load, loads, matrix_rate, step_flops

from llamafactory_mmself.files import write_json, write_text


RESULTS = Path(__file__).resolve().parent / "results"
README = Path(__file__).resolve().parent / "README.md"
#: Part of the README's table -> the suites in it.
PARTS: dict[str, tuple[str, ...]] = {
    "bar": ("bar",),
    "groups": ("groups", "batches", "llava"),
    "sizes": ("prompts", "images"),
}
PACKAGES = ("llamafactory-mmself", "llamafactory", "trl", "transformers", "peft", "torch")
STOCK = ("naive", "llamafactory", "trl")


def measure(suite: str, setting: Setting, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """One row of the result."""
    from transformers import AutoProcessor

    model = write_model(setting.shape, work / "models" / setting.shape, options.device)
    processor = AutoProcessor.from_pretrained(model)
    folder = work / suite / setting.name
    write_rows(setting, (WARM_UP + options.rounds) * setting.batch, processor.tokenizer, folder, options.seed)

    def job(contender: Contender, rounds: int) -> Job:
        return Job(contender, setting, WARM_UP + rounds, model, folder, folder / "out" / contender, options.device)

    trees = job("dense", options.rounds).trees()
    image_token = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    one = loads(trees[: setting.batch], setting, image_token)
    long = one["naive"].tokens > options.long_tokens
    rounds = min(options.rounds, options.long_rounds) if long else options.rounds
    present = [
        name
        for name in contenders_of(setting, options.contenders)
        if name not in STOCK or one["naive"].tokens <= options.stock_tokens
    ]
    runs = race([job(name, rounds) for name in present], folder, options.threads, together=not options.alone)
    row: dict[str, Any] = {
        "suite": suite,
        "name": setting.name,
        "setting": setting.to_dict(),
        "dtype": SHAPES[setting.shape].dtype,
        "loads": {name: asdict(load) for name, load in one.items()},
        "runs": {name: asdict(run) for name, run in runs.items()},
    }
    row = summarise(row)
    if suite != "quick":  # its steps are too short for ratios
        row["checks"] += judge(row, with_bar=setting in SUITES["bar"]())
    return row


def kept(suite: str, setting: Setting, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """`measure`, or what an earlier run with this commit and these options left in the same `--work`."""
    ignored = ("suites", "methods", "out", "work", "quick")
    origin = {name: value for name, value in vars(options).items() if name not in ignored}
    origin |= {"contenders": list(options.contenders), "commit": describe_commit(), "setting": setting.to_dict()}
    file = work / suite / f"{setting.name}.json"
    if file.exists() and (found := json.loads(file.read_text(encoding="utf-8")))["origin"] == origin:
        row: dict[str, Any] = found["row"]
        return row
    row = measure(suite, setting, options, work)
    write_json(file, {"origin": origin, "row": row})
    return row


def utilisation(row: dict[str, Any], rate: float) -> dict[str, float]:
    """Contender -> share of the device's rate in matrix products that its step reaches, by its own tokens."""
    setting = Setting(**row["setting"])
    kinds = {name: name if name in row["loads"] else "naive" for name in row["median_seconds"] if name != "auto"}
    work = {name: step_flops(Load(**row["loads"][kind]), setting) for name, kind in kinds.items()}
    return {name: round(flops / row["median_seconds"][name] / rate, 3) for name, flops in work.items()}


def settings(options: argparse.Namespace) -> list[tuple[str, Setting]]:
    """(suite, setting) in the order in which they are measured."""
    names = ("shape", "image", "question", "answer", "batch", "tuning", "checkpointing")
    changes = {name: value for name in names if (value := getattr(options, name)) is not None}
    suites: list[str] = ["quick"] if options.quick else options.suites
    found = [(suite, setting) for suite in suites for setting in SUITES[suite](**changes)]
    return [(suite, setting) for suite, setting in found if setting.method in options.methods]


def write_report(report: dict[str, Any], folder: Path, name: str) -> Path:
    """Writes JSON and plot, and tables into the README if the folder is the one of dated results."""
    target = folder / f"{name}.json"
    write_json(target, report)
    plot(report, target.with_suffix(".png"))
    if folder == RESULTS and report["device"]["kind"] == "cpu":
        for part, suites in PARTS.items():
            rows = [row for row in report["rows"] if row["suite"] in suites]
            if rows:
                _write_part(part, {**report, "rows": rows}, target)
    return target


def _write_part(part: str, report: dict[str, Any], target: Path) -> None:
    begin, end = (f"<!-- training steps, {part}: {place} -->" for place in ("begin", "end"))
    before, rest = README.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(end)
    about = (
        f"`{report['command']}`, {report['date']}, commit {report['commit']}, {report['machine']['cpu']} with "
        f"{report['machine']['cores']} cores, {report['threads']} threads a process; {report['rounds']} rounds. "
        f"[All figures](results/{target.name})."
    )
    image = f"![speed of each contender, dense = 1](results/{target.stem}.png)"
    write_text(README, f"{before}{begin}\n\n{about}\n\n{image}\n\n{table(report)}\n{end}{after}")


def _without_places(arguments: Sequence[str]) -> list[str]:
    """A command line without the folders that it names: nobody else has them."""
    pairs = zip(["", *arguments], arguments, strict=False)
    return [word for before, word in pairs if not {before, word} & {"--work", "--out"}]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure training steps of the tree stages against what there is.")
    suites = [name for name in SUITES if name != "quick"]
    parser.add_argument("--suites", nargs="+", choices=suites, default=suites, help="default: all")
    parser.add_argument("--quick", action="store_true", help="a tiny model and two methods instead of the suites")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="default: all")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS, help="default: all")
    parser.add_argument("--rounds", type=int, help="timed steps of each contender (default: 7; quick: 3)")
    parser.add_argument("--long-rounds", type=int, default=3, help="the same where a batch is long (default: 3)")
    parser.add_argument(
        "--long-tokens", type=int, default=8_000, help="tokens from which on a batch is long (default: 8000)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument(
        "--alone",
        action=argparse.BooleanOptionalAction,
        help="one contender after the other instead of by turns (default on cuda, where one large model fits)",
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each process (default: all cores)")
    parser.add_argument("--seed", type=int, default=0, help="of texts and pictures (default: 0)")
    parser.add_argument("--shape", choices=SHAPES, help="another model than the suite's")
    for name in ("image", "question", "answer", "batch"):
        parser.add_argument(f"--{name}", type=int, help="another value than the suite's, where it does not vary")
    parser.add_argument("--tuning", choices=("lora", "full"), help="what is trained (default: lora)")
    parser.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, help="gradient checkpointing")
    parser.add_argument(
        "--stock-tokens",
        type=int,
        default=8_000,
        help="leave out naive, llamafactory and trl where a batch has more tokens than this (default: 8000)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        help="keep models, rows, logs and finished settings in this folder; a run that was cut off goes on from there",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result (default: benchmarks/results)")
    options = parser.parse_args(arguments)
    if options.alone is None:
        options.alone = options.device == "cuda"
    if options.rounds is None:
        options.rounds = 3 if options.quick else 7
    if min(options.rounds, options.long_rounds) < 1:
        parser.error("--rounds and --long-rounds have to be at least 1")
    return options


def main() -> int:
    options = parse()
    machine = describe_machine()
    os.environ["LLAMAFACTORY_VERBOSITY"] = "WARN"
    planned = settings(options)
    dtypes = {SHAPES[setting.shape].dtype for _, setting in planned}
    device: dict[str, Any] = {
        "kind": options.device,
        "name": torch.cuda.get_device_name() if options.device == "cuda" else machine["cpu"],
        "matrix_flops": {dtype: matrix_rate(options.device, dtype, options.threads) for dtype in sorted(dtypes)},
    }
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="mmself-steps-") as scratch, redirect_stdout(sys.stderr):
        work = Path(options.work or scratch)
        os.environ["HF_HOME"] = str(work / "huggingface")
        from llamafactory_mmself import _autoload

        _autoload.activate()
        for place, (suite, setting) in enumerate(planned):
            print(f"{place + 1} of {len(planned)}: {suite}, {setting.name}", flush=True)
            rows.append(kept(suite, setting, options, work))
            rows[-1]["utilisation"] = utilisation(rows[-1], device["matrix_flops"][rows[-1]["dtype"]])
    report = {
        "benchmark": "training_steps",
        "command": " ".join(["python benchmarks/training_steps.py", *_without_places(sys.argv[1:])]),
        "date": date.today().isoformat(),
        "commit": describe_commit(),
        "machine": machine,
        "device": device,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "threads": options.threads,
        "by_turns": not options.alone,
        "rounds": options.rounds,
        "contenders": list(options.contenders),
        "trl_repairs": list(TRL_REPAIRS),
        "rows": rows,
    }
    parts = ["quick"] if options.quick else [options.shape] if options.shape else []
    measured = [part for part, suites in PARTS.items() if not options.quick and set(suites) & set(options.suites)]
    parts += measured if len(measured) < len(PARTS) else []
    name = "-".join(["training_steps", *parts, *(["cuda"] if options.device == "cuda" else []), report["date"]])
    target = write_report(report, options.out, name)
    print(f"{table(report)}\nWritten to {target}")
    return 0 if all(check["passed"] for row in rows for check in row["checks"]) else 1


if __name__ == "__main__":
    sys.exit(main())
