# SPDX-License-Identifier: Apache-2.0
"""`mmself validate`."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    validate = commands.add_parser("validate", help="check every row and picture of data sets before training")
    validate.add_argument("target", help="a training YAML, a dataset_info.json, or the name of a set in it")
    validate.add_argument("--dataset_dir", default="data", help="folder where a name is looked up (default: data)")
    validate.add_argument("--media_dir", default=None, help="folder that picture paths start from (default: the same)")
    validate.add_argument("--no_media", action="store_true", help="do not open the pictures")
    validate.add_argument("--json", action="store_true", help="print JSON")
    validate.set_defaults(run=_run, resumes=False)


def _run(options: argparse.Namespace) -> int:
    from ..data.schema import DATASET_INFO
    from ..data.validate import format_report
    from ..validation import validate_config, validate_sets

    target, checks = Path(options.target), {"media": not options.no_media, "progress": not options.json}
    with contextlib.redirect_stdout(sys.stderr):  # LLaMA-Factory logs to standard output
        if target.suffix in (".yaml", ".yml"):
            reports = validate_config(target, **checks)
        elif target.suffix == ".json":
            if target.name != DATASET_INFO:
                raise ValueError(f"{target}: a training YAML, a {DATASET_INFO} or the name of a data set is expected.")
            reports = validate_sets(None, target.parent, Path(options.media_dir or target.parent), **checks)
        else:
            folder = Path(options.dataset_dir)
            reports = validate_sets([options.target], folder, Path(options.media_dir or folder), **checks)
    print(json.dumps([report.to_dict() for report in reports], indent=2) if options.json else format_report(reports))
    return 0 if all(report.ok for report in reports) else 1
