# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks on the toy world share: runs for several seeds, what they reached, reports."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from machine import describe_commit, describe_machine

from llamafactory_mmself.evaluate.stats import bootstrap_gains, mean_over_seeds
from llamafactory_mmself.files import read_json, read_jsonl, write_json, write_text


ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
PROGRAMS = Path(sys.executable).parent


@dataclass(frozen=True)
class Variant:
    """A recipe with some values changed.

    Attributes:
        name: short name, also the folder of its runs; that of the recipe as it is is the recipe's.
        title: what the table says.
        recipe: the folder in `examples` whose `toy.yaml` is run.
        changes: dotted key -> value.
    """

    name: str
    title: str
    recipe: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def main(self) -> bool:
        """Whether this is the recipe as it is."""
        return self.name == self.recipe


@dataclass(frozen=True)
class Seed:
    """The runs of a seed: a world, a start, and a folder for each variant.

    Attributes:
        number: the seed.
        folder: where all of it lies.
        threads: threads of each process.
    """

    number: int
    folder: Path
    threads: int = 1

    def mmself(self, log: str, *arguments: Any) -> None:
        """Runs the command; what it says is added to a log in the folder.

        Raises:
            subprocess.CalledProcessError: it failed; the log tells why.
        """
        self._run(log, "mmself", *arguments)

    def train(self, log: str, recipe: Path, changes: Mapping[str, Any]) -> None:
        """Runs `llamafactory-cli train` on a recipe with values changed.

        Raises:
            subprocess.CalledProcessError: it failed; the log tells why.
        """
        pairs = [f"{name}={json.dumps(value, default=str)}" for name, value in changes.items()]
        self._run(log, "llamafactory-cli", "train", recipe, *pairs)

    def _run(self, log: str, program: str, *arguments: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        with open(self.folder / f"{log}.log", "ab") as file:
            command = [str(PROGRAMS / program), *map(str, arguments)]
            subprocess.run(command, env=env, stdout=file, stderr=file, check=True)

    def world(self, **counts: int) -> Path:
        """Draws the rows of each kind (`mmself toy data`), once."""
        data = self.folder / "data"
        if not (data / "dataset_info.json").exists():
            numbers = [word for name, count in counts.items() for word in (f"--{name}", count)]
            self.mmself("data", "toy", "data", "--out", data, *numbers, "--seed", self.number)
        return data

    def start(self, kind: str = "start") -> Path:
        """Trains the weak start, `start`, `reasoner` or `captioner`; what is there already is kept by the command."""
        start = self.folder / "start"
        self.mmself("start", "toy", kind, "--out", start, "--seed", self.number)
        return start

    def run(self, variant: Variant, changes: Mapping[str, Any], more: Sequence[str] = (), *, shared: int) -> None:
        """Runs a variant, or what is left of it.

        Args:
            variant: which.
            changes: dotted key -> value, under those of the variant.
            more: further KEY=VALUE pairs, as they are.
            shared: rounds to copy from the recipe's main run; the loop takes over those of their steps that are the
                same and redoes the others.
        """
        run, main = self.folder / variant.name, self.folder / variant.recipe
        if run != main and not run.exists() and (main / "manifest.json").exists():
            for number in range(shared):
                shutil.copytree(main / f"iter{number}", run / f"iter{number}")
            shutil.copy(main / "manifest.json", run)
        values = {"seed": self.number, "output_dir": run, **changes, **variant.changes}
        pairs = [f"{key}={json.dumps(value, default=str)}" for key, value in values.items()]
        recipe = ROOT / "examples" / variant.recipe / "toy.yaml"
        self.mmself(variant.name, "loop", recipe, "--set", *pairs, *more)
        print(f"seed {self.number}: {variant.title} done", flush=True)


def options(description: str | None, variants: Sequence[Variant], work: str) -> argparse.ArgumentParser:
    """The arguments that all of these benchmarks take."""
    names = [variant.name for variant in variants]
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=names, choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--jobs", type=int, default=2, help="seeds at a time (default: 2)")
    parser.add_argument("--train", type=int, default=1000, help="questions to learn from (default: 1000)")
    parser.add_argument("--test", type=int, default=600, help="held-out questions (default: 600)")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / work, help="folder of the runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of JSON and table")
    parser.add_argument("--table", action="store_true", help="run nothing; put together what is finished")
    return parser


def for_each_seed(given: argparse.Namespace, action: Callable[[Seed], None]) -> None:
    """Calls an action for each seed, `--jobs` at a time, unless only the table is asked for."""
    if given.table:
        return
    threads = max(1, (os.cpu_count() or 1) // given.jobs)
    seeds = [Seed(number, given.work.resolve() / f"seed{number}", threads) for number in given.seeds]
    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(action, seeds))


def finished(work: Path, variant: Variant) -> dict[int, Path]:
    """Seed -> run, of all runs of a variant that are finished, whichever were asked for."""
    runs = {int(folder.name.removeprefix("seed")): folder / variant.name for folder in work.resolve().glob("seed*")}
    return {seed: run for seed, run in sorted(runs.items()) if _finished(run)}


def last_round(run: Path) -> int:
    """The number of a run's last round."""
    return int(read_json(run / "run.json")["iterations"])


def outcomes(run: Path, number: int, purpose: str = "test_greedy") -> list[bool]:
    """Right or wrong for each held-out question, in the file's order."""
    return [row["verdict"]["correct"] for row in read_jsonl(_checked(run, number, purpose))]


def unparsed(run: Path, number: int, purpose: str = "test_greedy") -> int:
    """Held-out questions whose answer could not be read."""
    return sum(not row["verdict"]["parsed"] for row in read_jsonl(_checked(run, number, purpose)))


def gain(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Mean gain over all seeds, its interval paired over questions, that of each seed, and the interval over seeds."""
    pairs = [(list(early), list(late)) for early, late in zip(before, after, strict=True)]
    gains = [mean(late) - mean(early) for early, late in pairs]
    over_seeds = asdict(mean_over_seeds(gains)) if len(gains) > 1 else None
    return {"mean": mean(gains), **asdict(bootstrap_gains(pairs)), "seeds": gains, "over_seeds": over_seeds}


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)


def percent(values: Sequence[float]) -> str:
    """The mean of shares, for a table."""
    return f"{mean(values):.1%}"


def signed(found: Mapping[str, Any] | None) -> str:
    """A gain with its interval in points, for a table."""
    if found is None:
        return "–"
    return f"{100 * found['mean']:+.1f} [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"


@dataclass(frozen=True)
class Report:
    """What a benchmark writes: a dated JSON and a table.

    Attributes:
        script: the script's name without its ending.
        title: heading of the table.
        text: what the columns mean; it follows `about`.
        columns: names of the columns, the first ones to the left.
        left: how many are to the left.
        about: what was counted; `{questions}` and `{verifiers}` are filled in.
    """

    script: str
    title: str
    text: str
    columns: Sequence[str]
    left: int
    about: str = (
        "Shares of {questions} held-out questions answered rightly, means over seeds; unparsed answers count as wrong "
        "(verifier `{verifiers}`). In brackets: 95 % intervals of a bootstrap that is paired over questions."
    )

    def write(self, out: Path, rows: Sequence[Mapping[str, Any]], cells: Callable[[Any], Sequence[str]]) -> None:
        """Writes both and prints the table; `cells` makes a row's columns."""
        if not rows:
            print("No run is finished.")
            return
        results = {
            "date": str(date.today()),
            "script": f"benchmarks/{self.script}.py",
            "machine": describe_machine(),
            "commit": describe_commit(),
            "questions": rows[0]["questions"],
            "rows": list(rows),
        }
        lines = [*self._head(results), *(f"| {' | '.join(cells(row))} |" for row in rows)]
        table = "\n".join(lines) + "\n"
        target = out / f"{self.script}-{results['date']}"
        write_json(target.with_suffix(".json"), results)
        write_text(target.with_suffix(".md"), table)
        print(table)

    def _head(self, results: Mapping[str, Any]) -> list[str]:
        machine = results["machine"]
        verifiers = ", ".join(sorted({row["verifier"] for row in results["rows"]}))
        rules = ["---"] * self.left + ["--:"] * (len(self.columns) - self.left)
        return [
            f"# {self.title}",
            "",
            f"`{results['script']}`, {results['date']}, on {machine['cpu']} with {machine['cores']} cores.",
            "",
            f"{self.about.format(questions=results['questions'], verifiers=verifiers)} {self.text}",
            "",
            f"| {' | '.join(self.columns)} |",
            f"|{'|'.join(rules)}|",
        ]


def _finished(run: Path) -> bool:
    return (run / "run.json").exists() and (run / f"iter{last_round(run)}" / "scores.json").exists()


def _checked(run: Path, number: int, purpose: str) -> Path:
    return run / f"iter{number}" / f"checked_{purpose}.jsonl"
