# SPDX-License-Identifier: Apache-2.0
"""The commands of `mmself`, one module each.

A module has `add(commands)`, which adds its parser to argparse's subparsers and sets `run` to a function from the
parsed options to an exit status. Modules import nothing heavy before that function is called; `--help` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


# In the order of `mmself --help`.
COMMANDS = (
    *("train", "loop", "report", "sample", "build", "select", "correct", "eval"),
    *("serve", "data", "imports", "toy", "validate", "doctor"),
)


def add_commands(subparsers: Any) -> None:
    """Adds every command to argparse's subparsers."""
    for name in COMMANDS:
        import_module(f".{name}", __name__).add(subparsers)
