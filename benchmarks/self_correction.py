# SPDX-License-Identifier: Apache-2.0
"""Measures on the toy world what each round of Sherlock gains, direct and corrected, with the paper's ablations.

For each seed a world is drawn, its training questions are annotated and a weak model is started (`mmself toy data`,
`responses`, `start`). Each variant is then a run of `mmself loop` on `examples/sherlock/toy.yaml` with some values
changed; variants of a seed share the rounds before the first that they change. What was finished before is kept: more
seeds and variants can be added. Accuracy is greedy, on held-out questions that nothing was tuned on; gains and flips
are paired over these questions. A JSON with all of it and a table go to `benchmarks/results`.

    python benchmarks/self_correction.py [--seeds 0 1 2] [--variants sherlock ...] [--jobs 1] [--work DIR] [--table]
        [--set KEY=VALUE ...]
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

from llamafactory_mmself.evaluate.stats import bootstrap_gains, mean_over_seeds
from llamafactory_mmself.files import read_json, read_jsonl, write_json, write_text
from llamafactory_mmself.loop.sherlock import OFFLINE, SFT, round_name


ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
PROGRAMS = Path(sys.executable).parent
MAIN = "sherlock"
START = SFT  # the round that gains are measured from


@dataclass(frozen=True)
class Variant:
    """A group of rows: the recipe with some values changed.

    Attributes:
        name: short name.
        title: what the table says.
        changes: dotted key -> value; they concern the rounds from offline on.
    """

    name: str
    title: str
    changes: dict[str, Any] = field(default_factory=dict)


def _both(name: str, value: Any) -> dict[str, Any]:
    return {f"rounds.{phase}.{name}": value for phase in ("offline", "online")}


VARIANTS = (
    Variant(MAIN, "Sherlock"),
    Variant("no-dpo", "no DPO term", _both("no_dpo_term", True)),
    Variant("no-correction", "no correction term", _both("no_correction_term", True)),
    Variant("static", "static weight", _both("static_weight", 1.0)),
    Variant("one-cut", "one cut: whole responses", {"build.cuts": [1]}),
)


def main() -> None:
    options = _options()
    variants = [variant for variant in VARIANTS if variant.name in options.variants]
    work = options.work.resolve()
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    if not options.table:
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda seed: run_seed(work, seed, variants, threads, options), options.seeds))
    results = collect(work, options.seeds, variants)
    target = options.out / f"self_correction-{date.today()}"
    write_json(target.with_suffix(".json"), results)
    write_text(target.with_suffix(".md"), table(results))
    print(table(results))


def _options() -> argparse.Namespace:
    names = [variant.name for variant in VARIANTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=names, choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time (default: 1)")
    parser.add_argument("--train", type=int, default=1000, help="training questions (default: 1000)")
    parser.add_argument("--test", type=int, default=600, help="held-out questions (default: 600)")
    parser.add_argument("--base_model", type=Path, help="start from this model instead of a weak start of each seed")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="change values of all runs")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "benchmark-sherlock", help="folder of the runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of JSON and table")
    parser.add_argument("--table", action="store_true", help="run nothing; put together what is finished")
    return parser.parse_args()


def run_seed(work: Path, seed: int, variants: Sequence[Variant], threads: int, options: argparse.Namespace) -> None:
    """Draws the world of a seed, starts its model, and runs the variants one after the other."""
    folder = work / f"seed{seed}"
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    if not (folder / "data" / "annotated.json").exists():
        sizes = ("--train", options.train, "--test", options.test)
        _run(env, folder / "data.log", "toy", "data", "--out", folder / "data", "--seed", seed, *sizes)
        _run(env, folder / "data.log", "toy", "responses", "--data", folder / "data")
    base = options.base_model and options.base_model.resolve()
    if base is None:
        base = folder / "start"
        _run(env, folder / "start.log", "toy", "start", "--out", base, "--seed", seed)  # once
    for variant in variants:
        run = folder / variant.name
        _share_rounds(folder / MAIN, run)
        changes = {
            "seed": seed,
            "base_model": base,
            "train_data": folder / "data" / "annotated.json",
            "test_data": folder / "data" / "test.json",
            "output_dir": run,
            **variant.changes,
        }
        pairs = [f"{key}={json.dumps(value, default=str)}" for key, value in changes.items()]
        recipe = ROOT / "examples" / "sherlock" / "toy.yaml"
        _run(env, folder / f"{variant.name}.log", "loop", recipe, "--set", *pairs, *options.set)
        print(f"seed {seed}: {variant.title} done", flush=True)


def _share_rounds(main: Path, run: Path) -> None:
    """Copies the supervised rounds of the main run; the loop takes over those of its steps that are the same."""
    if run == main or run.exists() or not (main / "manifest.json").exists():
        return
    for number in range(OFFLINE):
        shutil.copytree(main / f"iter{number}", run / f"iter{number}")
    shutil.copy(main / "manifest.json", run)


def _run(env: dict[str, str], log: Path, *arguments: Any) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        subprocess.run([str(PROGRAMS / "mmself"), *map(str, arguments)], env=env, stdout=file, stderr=file, check=True)


def collect(work: Path, seeds: Sequence[int], variants: Sequence[Variant]) -> dict[str, Any]:
    """Accuracies, gains and flips of all rounds and variants, over the seeds that each finished for."""
    rows = []
    for variant in variants:
        finished = [seed for seed in seeds if _finished(work / f"seed{seed}" / variant.name)]
        if not finished:
            continue
        runs = [work / f"seed{seed}" / variant.name for seed in finished]
        first = 0 if variant.name == MAIN else OFFLINE
        for number in range(first, int(read_json(runs[0] / "run.json")["iterations"]) + 1):
            rows.append({"variant": asdict(variant), "seeds": finished, **_round(runs, number)})
    return {
        "date": str(date.today()),
        "script": "benchmarks/self_correction.py",
        "machine": describe_machine(),
        "questions": rows[0]["questions"] if rows else 0,
        "rows": rows,
    }


def _round(runs: Sequence[Path], number: int) -> dict[str, Any]:
    """What a round reaches: direct and corrected, against the SFT round, the round before, and itself uncorrected."""
    direct = [_outcomes(run, number, corrected=False) for run in runs]
    corrected = [_outcomes(run, number, corrected=True) for run in runs]
    gains = {}
    for name, other in (("over SFT", START), ("over the round before", number - 1)):
        if number > START:
            gains[f"direct {name}"] = _gain([_outcomes(run, other, corrected=False) for run in runs], direct)
            gains[f"corrected {name}"] = _gain([_outcomes(run, other, corrected=True) for run in runs], corrected)
    gains["corrected over direct"] = _gain(direct, corrected)
    return {
        "round": number,
        "name": round_name(number),
        "questions": len(direct[0]),
        "direct": [_mean(values) for values in direct],
        "corrected": [_mean(values) for values in corrected],
        "unparsed": [_unparsed(run, number) for run in runs],
        "wrong_to_right": [_flips(*pair, to=True) for pair in zip(direct, corrected, strict=True)],
        "right_to_wrong": [_flips(*pair, to=False) for pair in zip(direct, corrected, strict=True)],
        "gains": gains,
        "rows": [_rows(run, number) for run in runs],
        "verifier": read_json(runs[0] / "run.json")["verifier"],
    }


def _gain(before: list[list[bool]], after: list[list[bool]]) -> dict[str, Any]:
    """Mean gain over all seeds, its interval paired over questions, and that over seeds."""
    pairs = list(zip(before, after, strict=True))
    gains = [_mean(late) - _mean(early) for early, late in pairs]
    seeds = asdict(mean_over_seeds(gains)) if len(gains) > 1 else None
    return {"mean": _mean(gains), **asdict(bootstrap_gains(pairs)), "over_seeds": seeds}


def _flips(before: Sequence[bool], after: Sequence[bool], *, to: bool) -> int:
    return sum(late == to and early != to for early, late in zip(before, after, strict=True))


def _finished(run: Path) -> bool:
    settings = run / "run.json"
    return settings.exists() and (run / f"iter{read_json(settings)['iterations']}" / "scores.json").exists()


def _outcomes(run: Path, number: int, *, corrected: bool) -> list[bool]:
    """Right or wrong for each held-out question, in the file's order; corrected: after the last turn."""
    return [row["verdict"]["correct"] for row in read_jsonl(_checked(run, number, corrected))]


def _unparsed(run: Path, number: int) -> list[int]:
    """Unparsed answers, direct and corrected."""
    files = (_checked(run, number, corrected) for corrected in (False, True))
    return [sum(not row["verdict"]["parsed"] for row in read_jsonl(file)) for file in files]


def _checked(run: Path, number: int, corrected: bool) -> Path:
    turns = int(read_json(run / "run.json")["evaluate"]["turns"])
    name = f"checked_test_correct{turns}.jsonl" if corrected else "checked_test_greedy.jsonl"
    return run / f"iter{number}" / name


def _rows(run: Path, number: int) -> int:
    file = run / f"iter{number}" / "train" / "self_training.json"
    return len(read_json(file)) if file.exists() else 0


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    verifiers = ", ".join(sorted({row["verifier"] for row in results["rows"]}))
    lines = [
        "# Self-correction on the toy world",
        "",
        f"`{results['script']}`, {results['date']}, on {results['machine']['cpu']} with {results['machine']['cores']} "
        "cores.",
        "",
        f"Shares of {results['questions']} held-out questions answered rightly, means over seeds, greedy; unparsed "
        f"answers count as wrong (verifier `{verifiers}`). Corrected: after the last correction. In brackets: 95 % "
        "intervals of a bootstrap that is paired over questions. Flips: corrections that turned wrong answers right, "
        "and right ones wrong, over all seeds.",
        "",
        "| variant | round | seeds | direct | corrected | unparsed | corrected − direct | flips | direct − SFT | "
        "corrected − SFT | corrected − round before |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in results["rows"]:
        gains = row["gains"]
        cells = [
            row["variant"]["title"],
            row["name"],
            ", ".join(map(str, row["seeds"])),
            f"{_mean(row['direct']):.1%}",
            f"{_mean(row['corrected']):.1%}",
            " / ".join(str(sum(counts)) for counts in zip(*row["unparsed"], strict=True)),
            _signed(gains["corrected over direct"]),
            f"+{sum(row['wrong_to_right'])} / −{sum(row['right_to_wrong'])}",
            _signed(gains.get("direct over SFT")),
            _signed(gains.get("corrected over SFT")),
            _signed(gains.get("corrected over the round before")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _signed(gain: dict[str, Any] | None) -> str:
    if gain is None:
        return "–"
    return f"{100 * gain['mean']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"


if __name__ == "__main__":
    main()
