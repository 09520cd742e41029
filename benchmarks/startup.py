# SPDX-License-Identifier: Apache-2.0
"""Measures what the installed plugin adds to the start of Python and of ``llamafactory-cli``.

Two empty virtual environments are made, one with this project's wheel and nothing else, and ``python -c pass`` runs in
both by turns. ``llamafactory-cli version`` runs in the present environment with the plugin on and off. Medians of wall
clock and of processor time are compared; a JSON with all of it goes to ``benchmarks/results``.

    python benchmarks/startup.py [--runs N] [--cli_runs N] [--json]
"""

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

from machine import describe_machine


ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
SWITCH = "LLAMAFACTORY_MMSELF"
PACKAGING = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "llamafactory_mmself_autoload.pth")
PACKAGES = ("llamafactory-mmself", "llamafactory", "torch", "transformers")


@dataclass(frozen=True)
class Command:
    """A command line and the environment variables it needs."""

    line: tuple[str, ...]
    variables: Mapping[str, str]


@dataclass(frozen=True)
class Cost:
    """Medians in milliseconds, without and with the plugin; `added` is the median difference within a pair of runs."""

    what: str
    runs: int
    without_wall: float
    with_wall: float
    added_wall: float
    without_cpu: float
    with_cpu: float
    added_cpu: float
    limit: float

    @property
    def verdict(self) -> str:
        return "ok" if self.added_wall <= self.limit else "OVER"


def run_once(command: Command) -> tuple[float, float]:
    """Runs a command; returns its wall clock time and processor time in milliseconds.

    Raises:
        RuntimeError: if the command fails.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {
        SWITCH: "auto"
    }
    start = time.perf_counter()
    process = subprocess.Popen(
        command.line, env=environment | command.variables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command.line)} ended with status {process.returncode}")
    return wall * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3


def compare(what: str, without: Command, with_plugin: Command, runs: int, limit: float) -> Cost:
    """Runs two commands by turns, `runs` times each, in random order within a pair, after one pair to warm up."""
    pairs: list[tuple[tuple[float, float], tuple[float, float]]] = []
    order = random.Random(0)
    for done in range(runs + 1):
        if sys.stderr.isatty():
            print(f"\r{what}: {done} of {runs} ", end="", file=sys.stderr, flush=True)
        if order.random() < 0.5:
            first = run_once(without)
            pairs.append((first, run_once(with_plugin)))
        else:
            second = run_once(with_plugin)
            pairs.append((run_once(without), second))
    if sys.stderr.isatty():
        print(file=sys.stderr)
    medians = [
        figure
        for clock in (0, 1)
        for figure in (
            statistics.median(pair[0][clock] for pair in pairs[1:]),
            statistics.median(pair[1][clock] for pair in pairs[1:]),
            statistics.median(pair[1][clock] - pair[0][clock] for pair in pairs[1:]),
        )
    ]
    return Cost(what, runs, *(round(figure, 3) for figure in medians), limit)


def make_environment(folder: Path, *packages: str) -> str:
    """Makes a virtual environment with these packages and nothing else, not even pip; returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = str(folder / "bin" / "python")
    if packages:
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", python]
        subprocess.run([*pip, "install", "--no-deps", "--no-index", *packages], check=True)
    return python


def build_wheel(folder: Path) -> str:
    """Builds the project's wheel from a copy, so that nothing is left in the checkout; returns the wheel's path."""
    source = folder / "source"
    shutil.copytree(ROOT / "llamafactory_mmself", source / "llamafactory_mmself")
    for name in PACKAGING:
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, source], check=True
    )
    return str(next(folder.glob("*.whl")))


def measure(runs: int, cli_runs: int) -> list[Cost]:
    """Takes all measurements."""
    with tempfile.TemporaryDirectory(prefix="mmself-startup-") as name:
        folder = Path(name)
        bare = make_environment(folder / "bare")
        equipped = make_environment(folder / "equipped", build_wheel(folder))
        costs = [
            compare(
                "python -c pass",
                Command((bare, "-c", "pass"), {}),
                Command((equipped, "-c", "pass"), {}),
                runs,
                limit=1.0,
            )
        ]
    line = (str(Path(sys.executable).parent / "llamafactory-cli"), "version")
    on, off = Command(line, {SWITCH: "on"}), Command(line, {SWITCH: "off"})
    return [*costs, compare("llamafactory-cli version", off, on, cli_runs, limit=100.0)]


def format_table(costs: Sequence[Cost]) -> str:
    """Lays the figures out for reading."""
    head = f"{'medians in ms':<26}{'runs':>6}{'without':>11}{'with':>11}{'added':>9}{'added cpu':>11}{'limit':>8}"
    rows = [
        f"{cost.what:<26}{cost.runs:>6}{cost.without_wall:>11.2f}{cost.with_wall:>11.2f}{cost.added_wall:>9.2f}"
        f"{cost.added_cpu:>11.2f}{cost.limit:>8.0f}  {cost.verdict}"
        for cost in costs
    ]
    return "\n".join([head, *rows])


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what the plugin adds to the start of Python.")
    parser.add_argument("--runs", type=int, default=400, help="pairs of `python -c pass` (default: 400)")
    parser.add_argument(
        "--cli_runs", "--cli-runs", type=int, default=15, help="pairs of `llamafactory-cli version` (default: 15)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()

    machine = describe_machine()
    costs = measure(options.runs, options.cli_runs)
    report = {
        "benchmark": "startup",
        "command": f"python benchmarks/startup.py --runs {options.runs} --cli_runs {options.cli_runs}",
        "date": date.today().isoformat(),
        "machine": machine,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "unit": "ms",
        "costs": [asdict(cost) for cost in costs],
    }
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"startup-{report['date']}.json"
    target.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(
        json.dumps(report, indent=2)
        if options.json
        else f"{format_table(costs)}\nWritten to {target.relative_to(ROOT)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
