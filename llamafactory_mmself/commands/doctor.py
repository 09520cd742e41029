# SPDX-License-Identifier: Apache-2.0
"""`mmself doctor`."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    doctor = commands.add_parser("doctor", help="what is active, which symbols are replaced and why, what is broken")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(run=_run, resumes=False)


def _run(options: argparse.Namespace) -> int:
    from ..plugin.doctor import examine, format_findings

    findings = examine()
    print(json.dumps(findings.to_dict(), indent=2) if options.json else format_findings(findings))
    return 0 if findings.healthy else 1
