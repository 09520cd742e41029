# SPDX-License-Identifier: Apache-2.0
"""`mmself report`: what a run has reached so far, and how models compare."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any


_EPILOG = """
examples:
  mmself report runs/toy
  mmself report --compare runs/base-eval runs/trained-eval --out comparison
  mmself report --compare base=runs/toy/iter0 "round 2=runs/toy/iter2"
  mmself report --compare runs/base-eval runs/trained-eval --reference runs/ovip-eval     (for the index HRI)
"""


def add(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    report = commands.add_parser(
        "report",
        help="table, plots and a page of a run, also while it is at work, or a comparison of models",
        description="Prints accuracy, training data and times of a run, and writes RUN/report: index.html (a page "
        "that carries all it needs), plots as PNG and SVG, table.csv and report.json. With --compare, the folders are "
        "models: output folders of `mmself eval`, runs of `mmself loop` (their last tested round) or RUN/iter2; "
        "differences to the first one come with paired intervals, and index.html, comparison.md, comparison.json and "
        "plots are written.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    report.add_argument(
        "folders",
        metavar="RUN",
        nargs="+",
        help="the run's folder: output_dir of its recipe; to compare: [NAME=]FOLDER",
    )
    report.add_argument("--text", action="store_true", help="print the table and write nothing")
    report.add_argument("--compare", action="store_true", help="compare the models of two folders or more")
    report.add_argument("--out", type=Path, help="folder of the comparison (default: comparison)")
    report.add_argument(
        "--reference",
        metavar="FOLDER",
        help="results that have 10 on OViP's hallucination index (HRI), where the first model has 0; [NAME=]FOLDER",
    )
    report.add_argument("--draws", type=int, help="bootstrap samples of the comparison (default: 1000)")
    report.add_argument("--seed", type=int, help="seed of the bootstrap (default: 0)")
    report.set_defaults(run=_run, resumes=False)


def _run(options: argparse.Namespace) -> int:
    if options.compare:
        return _compare(options)
    from ..loop.report import text, write_report
    from ..loop.view import read_run

    if given := [f"--{name}" for name in ("out", "reference", "draws", "seed") if vars(options)[name] is not None]:
        raise ValueError(f"{', '.join(given)} would do nothing without --compare.")
    if len(options.folders) > 1:
        raise ValueError(f"{len(options.folders)} folders are given: a report is of one run. To compare: --compare.")
    folder = Path(options.folders[0])
    print(text(read_run(folder)) if options.text else write_report(folder))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from ..evaluate.compare import compare_models
    from ..evaluate.compare_pages import write_comparison
    from ..evaluate.compare_text import text
    from ..loop.compared import read_contender

    contenders = [read_contender(name, folder) for name, folder in named(options.folders)]
    draws, seed = (1000 if options.draws is None else options.draws), options.seed or 0
    if draws < 0:
        raise ValueError(f"--draws {draws}: at least 0 is expected; with 0 there are no intervals.")
    reference = None
    if options.reference is not None:
        ((name, folder),) = named([options.reference])
        reference = read_contender(name, folder)
    found = compare_models(contenders, draws, seed, reference)
    print(text(found) if options.text else write_comparison(found, options.out or Path("comparison")))
    return 0


def named(folders: Sequence[str]) -> list[tuple[str, Path]]:
    """Names and folders from `[NAME=]FOLDER`; without a name, as much of the path's end as tells them apart."""
    split = [(None, Path(text)) if Path(text).exists() else _name_and_folder(text) for text in folders]
    bare = [folder.resolve().parts for name, folder in split if name is None]
    names = []
    for name, folder in split:
        parts = folder.resolve().parts
        length = next(
            (n for n in range(1, len(parts)) if sum(other[-n:] == parts[-n:] for other in bare) == 1), len(parts)
        )
        names.append(name if name is not None else "/".join(parts[-length:]))
    return [(name, folder) for name, (_, folder) in zip(names, split, strict=True)]


def _name_and_folder(text: str) -> tuple[str | None, Path]:
    name, equals, folder = text.partition("=")
    return (name, Path(folder)) if equals and name else (None, Path(text))
