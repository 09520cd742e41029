# SPDX-License-Identifier: Apache-2.0
"""The `mmself` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import __version__
from .commands import add_commands, train


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["train"]:
        return train.run(arguments[1:])
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except (ValueError, OSError) as error:
        print(f"mmself: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mmself: stopped.", file=sys.stderr)
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mmself", description="Multimodal self-improvement stages for LLaMA-Factory: commands around training."
    )
    parser.add_argument("--version", action="version", version=f"llamafactory-mmself {__version__}")
    add_commands(parser.add_subparsers(title="commands", required=True, metavar="COMMAND"))
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
