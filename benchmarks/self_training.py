# SPDX-License-Identifier: Apache-2.0
"""Measures on the toy world what R3V and STL gain over their starting model, with baselines and ablations.

For each seed a world is drawn and a weak model is started (`mmself toy data`, `mmself toy start`). Each variant is
then a run of `mmself loop` on `examples/r3v/toy.yaml` or `examples/stl/toy.yaml` with some values changed; variants of
a seed share the samples of round 0. What was finished before is kept: more seeds and variants can be added. Accuracy
is greedy, on held-out questions that nothing was tuned on, and gains are paired over these questions. A JSON with all
of it and a table go to `benchmarks/results`.

    python benchmarks/self_training.py [--seeds 0 1 2] [--variants r3v star ...] [--jobs 2] [--work DIR] [--table]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from machine import describe_machine

from llamafactory_mmself.data.questions import read_questions
from llamafactory_mmself.evaluate.answers import selections_of, verdicts_of
from llamafactory_mmself.evaluate.stats import bootstrap_gains, mean_over_seeds
from llamafactory_mmself.files import read_json, read_jsonl, write_json, write_text
from llamafactory_mmself.loop.rounds import read_checked


ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
PROGRAMS = Path(sys.executable).parent
TRAIN = 1000  # questions to learn from


@dataclass(frozen=True)
class Variant:
    """A row of the table: a recipe with some values changed.

    Attributes:
        name: short name; the row of a recipe as it is has the recipe's name and is measured with selection, too.
        title: what the table says.
        recipe: `r3v` or `stl`.
        changes: dotted key -> value.
    """

    name: str
    title: str
    recipe: str
    changes: dict[str, Any] = field(default_factory=dict)


VARIANTS = (
    Variant("r3v", "R3V", "r3v"),
    Variant("star", "STaR (no refine, no select)", "r3v", {"build.refine": False, "build.select": False}),
    Variant("no-refine", "R3V without self-refine", "r3v", {"build.refine": False}),
    Variant("no-select", "R3V without self-select", "r3v", {"build.select": False}),
    Variant("single", "R3V, a single round", "r3v", {"iterations": 1}),
    Variant("newest", "R3V, newest samples only", "r3v", {"build.pool": "newest"}),
    Variant("continue", "R3V, each round continues", "r3v", {"start": "continue"}),
    Variant("letters", "direct answers only", "r3v", {"build.letters_only": True, "iterations": 1}),
    Variant("stl", "STL", "stl"),
    Variant("stl-no-caption", "STL without captions", "stl", {"build.caption": False}),
    Variant("stl-no-negatives", "STL without negatives", "stl", {"build.negatives": False}),
    Variant("stl-unchecked", "STL without quality checks", "stl", {"build.checks": []}),
)


def main() -> None:
    options = _options()
    variants = [variant for variant in VARIANTS if variant.name in options.variants]
    work = options.work.resolve()
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    if not options.table:
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda seed: run_seed(work, seed, variants, threads), options.seeds))
    results = collect(work, options.seeds, variants)
    target = RESULTS / f"self_training-{date.today()}"
    write_json(target.with_suffix(".json"), results)
    write_text(target.with_suffix(".md"), table(results))
    print(table(results))


def _options() -> argparse.Namespace:
    names = [variant.name for variant in VARIANTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=names, choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--jobs", type=int, default=2, help="seeds at a time (default: 2)")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "benchmark", help="folder of the runs")
    parser.add_argument("--table", action="store_true", help="run nothing; put together what is finished")
    return parser.parse_args()


def run_seed(work: Path, seed: int, variants: Sequence[Variant], threads: int) -> None:
    """Draws the world of a seed, starts its model, and runs the variants one after the other."""
    folder = work / f"seed{seed}"
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    if not (folder / "data" / "train.json").exists():
        data = ("--out", folder / "data", "--train", TRAIN, "--seed", seed)
        _run(env, folder / "data.log", "toy", "data", *data)
    _run(env, folder / "start.log", "toy", "start", "--out", folder / "start", "--seed", seed)  # once
    for variant in variants:
        run = folder / variant.name
        _share_round_zero(folder, variant, run)
        changes = {
            "seed": seed,
            "base_model": folder / "start",
            "train_data": folder / "data" / "train.json",
            "test_data": folder / "data" / "test.json",
            "output_dir": run,
            **({} if variant.name == variant.recipe else {"evaluate.samples": 0}),  # greedy accuracy is enough there
            **variant.changes,
        }
        pairs = [
            f"{key}={json.dumps(value) if not isinstance(value, Path) else value}" for key, value in changes.items()
        ]
        recipe = ROOT / "examples" / variant.recipe / "toy.yaml"
        _run(env, folder / f"{variant.name}.log", "loop", recipe, "--set", *pairs)
        print(f"seed {seed}: {variant.title} done", flush=True)


def _share_round_zero(folder: Path, variant: Variant, run: Path) -> None:
    """Copies round 0 of the method's main run; the loop takes over those of its steps that are the same."""
    main = folder / variant.recipe
    if run == main or run.exists() or not (main / "manifest.json").exists():
        return
    shutil.copytree(main / "iter0", run / "iter0")
    shutil.copy(main / "manifest.json", run)


def _run(env: dict[str, str], log: Path, *arguments: Any) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        subprocess.run([str(PROGRAMS / "mmself"), *map(str, arguments)], env=env, stdout=file, stderr=file, check=True)


def collect(work: Path, seeds: Sequence[int], variants: Sequence[Variant]) -> dict[str, Any]:
    """Accuracies, gains over the start and self-selection of all variants, over the seeds that each finished for."""
    rows = []
    for variant in variants:
        finished = [seed for seed in seeds if _finished(work / f"seed{seed}" / variant.name)]
        if not finished:
            continue
        runs = [work / f"seed{seed}" / variant.name for seed in finished]
        last = [_last_round(run) for run in runs]
        before = [_greedy(work / f"seed{seed}" / variant.recipe, 0) for seed in finished]
        after = [_greedy(run, number) for run, number in zip(runs, last, strict=True)]
        gains = [_mean(late) - _mean(early) for early, late in zip(before, after, strict=True)]
        row = {
            "variant": asdict(variant),
            "seeds": finished,
            "rounds": last[0],
            "questions": len(before[0]),
            "start": [_mean(values) for values in before],
            "accuracy": [_mean(values) for values in after],
            "unparsed": [_unparsed(run, number) for run, number in zip(runs, last, strict=True)],
            "gains": gains,
            "gain": _gain(before, after),
            "gain_over_seeds": asdict(mean_over_seeds(gains)) if len(gains) > 1 else None,
            "selection": _selection(runs, last, after),
            "verifier": read_json(runs[0] / "run.json")["verifier"],
        }
        rows.append(row)
    return {
        "date": str(date.today()),
        "script": "benchmarks/self_training.py",
        "machine": describe_machine(),
        "questions": rows[0]["questions"],
        "rows": rows,
    }


def _gain(before: list[list[bool]], after: list[list[bool]]) -> dict[str, float]:
    """Mean gain over all seeds and its interval, paired over questions."""
    pairs = list(zip(before, after, strict=True))
    return {"mean": _mean([_mean(late) - _mean(early) for early, late in pairs]), **asdict(bootstrap_gains(pairs))}


def _selection(runs: list[Path], last: list[int], greedy: list[list[bool]]) -> dict[str, Any] | None:
    """Accuracy of self-selection among the samples, and what it gains over the same model's greedy answers."""
    folders = [run / f"iter{number}" for run, number in zip(runs, last, strict=True)]
    if not all((folder / "checked_test_select.jsonl").exists() for folder in folders):
        return None
    selected = [_selected(folder) for folder in folders]
    return {"accuracy": [_mean(values) for values in selected], "gain": _gain(greedy, selected)}


def _selected(folder: Path) -> list[bool]:
    """Right or wrong for each held-out question; what candidates agree on is not selected, it is their answer."""
    questions = read_questions(Path(read_json(folder.parent / "run.json")["test_data"]))
    candidates = verdicts_of(questions, read_checked(folder / "checked_test_samples.jsonl"), "samples")
    chosen = selections_of(questions, read_checked(folder / "checked_test_select.jsonl"), candidates)
    return [chosen[question.id][0].correct for question in questions]


def _finished(run: Path) -> bool:
    return (run / "run.json").exists() and (run / f"iter{_last_round(run)}" / "scores.json").exists()


def _last_round(run: Path) -> int:
    return int(read_json(run / "run.json")["iterations"])


def _greedy(run: Path, number: int) -> list[bool]:
    return _correct(run / f"iter{number}" / "checked_test_greedy.jsonl")


def _correct(file: Path) -> list[bool]:
    """Right or wrong for each held-out question, in the file's order."""
    return [row["verdict"]["correct"] for row in read_jsonl(file)]


def _unparsed(run: Path, number: int) -> int:
    rows = read_jsonl(run / f"iter{number}" / "checked_test_greedy.jsonl")
    return sum(not row["verdict"]["parsed"] for row in rows)


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Self-training on the toy world",
        "",
        f"`{results['script']}`, {results['date']}, on {results['machine']['cpu']} with {results['machine']['cores']} "
        "cores.",
        "",
        f"Shares of {results['questions']} held-out questions answered rightly, means over seeds; unparsed "
        f"answers count as wrong (verifier `{results['rows'][0]['verifier']}`). In brackets: 95 % intervals of a "
        "bootstrap that is paired over questions. Gain: greedy after the last round minus greedy before the first. "
        "Selection: among three samples where they differ, minus the same model's greedy answers.",
        "",
        "| variant | seeds | rounds | start | greedy | unparsed | gain | select@3 | select@3 − greedy |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in results["rows"]:
        chosen = row["selection"]
        cells = [
            row["variant"]["title"],
            ", ".join(map(str, row["seeds"])),
            str(row["rounds"]),
            f"{_mean(row['start']):.1%}",
            f"{_mean(row['accuracy']):.1%}",
            str(sum(row["unparsed"])),
            _signed(row["gain"]),
            f"{_mean(chosen['accuracy']):.1%}" if chosen else "–",
            _signed(chosen["gain"]) if chosen else "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _signed(gain: dict[str, float]) -> str:
    return f"{100 * gain['mean']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"


if __name__ == "__main__":
    main()
