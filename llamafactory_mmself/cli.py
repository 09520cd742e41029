# SPDX-License-Identifier: Apache-2.0
"""The `mmself` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from . import __version__
from .commands import add_commands, train
from .files import told
from .stopping import Stops


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["train"]:
        return train.run(arguments[1:])
    resumes = True
    with Stops() as stops:
        try:
            options = make_parser().parse_args(arguments)
            resumes = options.resumes
            status: int = options.run(options)
        except (ValueError, OSError) as error:
            print(f"mmself: error: {told(error)}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            kept = " What is finished is kept: run the same command again to go on." if resumes else ""
            print(f"mmself: stopped by {stops.number.name}.{kept}", file=sys.stderr)
            return 128 + stops.number
    return status


class Parser(argparse.ArgumentParser):
    """Flags are written with underscores, as LLaMA-Factory's are; hyphens in their place are taken as well."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parses arguments whose flags may have hyphens."""
        return super().parse_known_args(_underscored(sys.argv[1:] if args is None else args), namespace)


def _underscored(arguments: Sequence[str]) -> list[str]:
    """`--max-tokens=9` as `--max_tokens=9`; values are left alone, and all that follows a bare `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags = []
    for text in arguments[:end]:
        name, equals, value = text.partition("=")
        flags.append("--" + name[2:].replace("-", "_") + equals + value if text.startswith("--") else text)
    return [*flags, *arguments[end:]]


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(
        prog="mmself", description="Multimodal self-improvement stages for LLaMA-Factory: commands around training."
    )
    parser.set_defaults(resumes=True)  # whether a stopped command is told to be run again
    parser.add_argument("--version", action="version", version=f"llamafactory-mmself {__version__}")
    add_commands(parser.add_subparsers(title="commands", required=True, metavar="COMMAND"))
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
