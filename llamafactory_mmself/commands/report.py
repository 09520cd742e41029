# SPDX-License-Identifier: Apache-2.0
"""`mmself report`: what a run has reached so far."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    report = commands.add_parser(
        "report",
        help="table, plots and a page of a run, also while it is at work",
        description="Prints accuracy, training data and times of a run, and writes RUN/report: index.html (a page "
        "that carries all it needs), plots as PNG and SVG, table.csv and report.json.",
    )
    report.add_argument("folder", metavar="RUN", type=Path, help="the run's folder: output_dir of its recipe")
    report.add_argument("--text", action="store_true", help="print the table and write nothing")
    report.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..loop.report import text, write_report
    from ..loop.view import read_run

    print(text(read_run(options.folder)) if options.text else write_report(options.folder))
    return 0
