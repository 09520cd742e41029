# SPDX-License-Identifier: Apache-2.0
"""`mmself train`: its arguments are LLaMA-Factory's, so they do not go through argparse."""

from __future__ import annotations

from typing import Any


def add(commands: Any) -> None:
    """Adds the command to argparse's subparsers, for the list in `mmself --help`."""
    commands.add_parser(
        "train",
        help="what `llamafactory-cli train` does, with the plugin switched on by hand (LLAMAFACTORY_MMSELF=manual)",
        add_help=False,
    )


def run(arguments: list[str]) -> int:
    """Trains."""
    from ..plugin.launch import train

    return train(arguments)
