# SPDX-License-Identifier: Apache-2.0
"""Measures what an online step gains when judging, describing and painting run ahead of training.

A weak captioner of the toy world trains with `examples/mdpo/online_orm_toy.yaml` and services that take their time:
once with all phases in turn (`rollout_sync`), once ahead of training, by turns. A step's time is the whole training's
over its steps. The ratio and where the time went go to `benchmarks/results` as JSON.

    python benchmarks/online_overlap.py [--judge 1] [--describer 1] [--painter 2] [--steps 20] [--rounds 3]
        [--work DIR]
"""

import argparse
import json
import os
import sys
from collections import Counter
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from machine import describe_commit, describe_machine
from toy_runs import RESULTS, ROOT, Seed

from llamafactory_mmself.files import read_json, read_jsonl, write_json, write_text


RECIPE = ROOT / "examples" / "mdpo" / "online_orm_toy.yaml"
SERVICES = ("judge", "describer", "painter")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, seconds in zip(SERVICES, (1.0, 1.0, 2.0), strict=True):
        parser.add_argument(f"--{name}", type=float, default=seconds, help=f"seconds a call (default: {seconds:g})")
    parser.add_argument("--steps", type=int, default=20, help="of a run (default: 20)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind (default: 3)")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "benchmark-overlap", help="folder of the runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON")
    given = parser.parse_args()
    seed = Seed(0, given.work.resolve(), threads=1)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path[1:]])
    data, start = seed.world(train=0, test=0, captions=0, prompts=400), seed.start("captioner")
    services = seed.folder / "services.yaml"
    engines = {name: {"engine": f"slow_services:{name}", "seconds": getattr(given, name)} for name in SERVICES}
    write_text(services, json.dumps({**engines, "checks": {"engine": "slow_services:checks"}}))
    runs: dict[str, list[dict[str, Any]]] = {"in turn": [], "ahead": []}
    for number in range(given.rounds):
        for kind, found in runs.items():
            out = seed.folder / f"{kind.replace(' ', '_')}{number}"
            changes = {
                "model_name_or_path": start,
                "ds_path": data / "prompts.json",
                "services": services,
                "output_dir": out,
                "overwrite_output_dir": True,
                "rollout_sync": kind == "in turn",
                "max_steps": given.steps,
                "plot_loss": False,
                "save_strategy": "no",
            }
            seed.train(kind.replace(" ", "_"), RECIPE, changes)
            found.append(_timed(out, given.steps))
            print(f"{kind}: {found[-1]['step']:.2f} s a step", flush=True)
    ratios = [turn["step"] / ahead["step"] for turn, ahead in zip(*runs.values(), strict=True)]
    results = {
        "date": str(date.today()),
        "script": "benchmarks/online_overlap.py",
        "commit": describe_commit(),
        "machine": describe_machine(),
        "seconds a call": {name: getattr(given, name) for name in SERVICES},
        "steps": given.steps,
        "runs": runs,
        "ratios": ratios,
        "ratio": median(ratios),
    }
    write_json(given.out / f"online_overlap-{results['date']}.json", results)
    print(f"ahead of training, a step is {results['ratio']:.2f} x as fast ({min(ratios):.2f} to {max(ratios):.2f})")


def _timed(out: Path, steps: int) -> dict[str, Any]:
    """Seconds of a step and of each phase in it; phases of services add up over threads."""
    phases: Counter[str] = Counter()
    for span in read_jsonl(out / "time_log.jsonl"):
        phases[span["tag"]] += span["seconds"]
    step = read_json(out / "train_results.json")["train_runtime"] / steps
    return {"step": step, "phases": {name: seconds / steps for name, seconds in phases.items()}}


if __name__ == "__main__":
    main()
