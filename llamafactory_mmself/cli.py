# SPDX-License-Identifier: Apache-2.0
"""The `mmself` command."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["train"]:
        return _train(arguments[1:])
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
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    commands.add_parser(
        "train",
        help="what `llamafactory-cli train` does, with the plugin switched on by hand (LLAMAFACTORY_MMSELF=manual)",
        add_help=False,
    )

    doctor = commands.add_parser("doctor", help="what is active, which symbols are replaced and why, what is broken")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(run=_doctor)

    validate = commands.add_parser("validate", help="check every row and picture of data sets before training")
    validate.add_argument("target", help="a training YAML, or the name of a data set in DATASET_DIR/dataset_info.json")
    validate.add_argument("--dataset_dir", default="data", help="folder of dataset_info.json (default: data)")
    validate.add_argument("--media_dir", default=None, help="folder that picture paths start from (default: the same)")
    validate.add_argument("--no-media", action="store_true", help="do not open the pictures")
    validate.add_argument("--json", action="store_true", help="print JSON")
    validate.set_defaults(run=_validate)

    toy = commands.add_parser("toy", help="small models and data to try things on")
    toys = toy.add_subparsers(required=True, metavar="WHAT")
    model = toys.add_parser("model", help="build a vision-language model of under 5 M parameters, random weights")
    model.add_argument("--family", required=True, help="qwen2_vl, qwen2_5_vl, qwen3_vl, llava or mllama")
    model.add_argument("--out", required=True, type=Path, help="folder to write")
    model.add_argument("--seed", type=int, default=0, help="seed of the weights (default: 0)")
    model.set_defaults(run=_toy_model)
    return parser


def _train(arguments: list[str]) -> int:
    from .plugin.launch import train

    return train(arguments)


def _doctor(options: argparse.Namespace) -> int:
    from .plugin.doctor import examine, format_findings

    findings = examine()
    print(json.dumps(findings.to_dict(), indent=2) if options.json else format_findings(findings))
    return 0 if findings.healthy else 1


def _validate(options: argparse.Namespace) -> int:
    from .data.validate import format_report
    from .validation import validate_config, validate_name

    target, checks = options.target, {"media": not options.no_media, "progress": not options.json}
    with contextlib.redirect_stdout(sys.stderr):  # LLaMA-Factory logs to standard output
        if Path(target).suffix in (".yaml", ".yml", ".json"):
            reports = validate_config(Path(target), **checks)
        else:
            folder = Path(options.dataset_dir)
            reports = [validate_name(target, folder, Path(options.media_dir or folder), **checks)]
    print(json.dumps([report.to_dict() for report in reports], indent=2) if options.json else format_report(reports))
    return 0 if all(report.ok for report in reports) else 1


def _toy_model(options: argparse.Namespace) -> int:
    from .toyworld.models import build_tiny_model

    print(build_tiny_model(options.family, options.out, seed=options.seed))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
