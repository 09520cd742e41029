# SPDX-License-Identifier: Apache-2.0
"""`mmself import`: what the five published systems leave behind, taken over."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from ..recipes.published.found import Found

_EPILOG = """
examples:
  mmself import ovip --settings train.sh --out ovip.yaml
  mmself import ovip --pictures online_data/run/data.jsonl --ds_path ovip.json --out data
  mmself import sherlock --settings sherlock.yaml --out offline.yaml
  mmself import sherlock --data offline.json --name sherlock_offline --out data
  mmself import r3v --src MM-Self-Improve --out data
  mmself import stl --src commonsense/ours --out data
  mmself import ares --rollouts RL_models/run --out data
  mmself import ares --corrections correction.json --questions scienceqa_train.json --out data

Questions of the benchmarks come from `mmself data`. docs/migration.md has a section for each system.
"""


def add(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = commands.add_parser(
        "import",
        help="take over data and settings of the published systems",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    systems = parser.add_subparsers(required=True, metavar="SYSTEM")
    _add_ovip(systems.add_parser("ovip", help="OViP: its command, and pictures that it painted"))
    _add_sherlock(systems.add_parser("sherlock", help="Sherlock: its YAML, and preference rows"))
    for name, title in (("r3v", "MM-Self-Improve (R3V)"), ("stl", "STL")):
        _add_folder(systems.add_parser(name, help=f"{title}: samples and training sets of a run's folder"), name)
    _add_ares(systems.add_parser("ares", help="ARES: its command, rollouts with scores, predictions, corrections"))


def _add_common(parser: argparse.ArgumentParser, out: str = "folder to write; with --settings the YAML file") -> None:
    parser.add_argument("--out", required=True, type=Path, help=out)
    parser.add_argument("--images", type=Path, help="folder of pictures that are not where the files say")


def _add_what(parser: argparse.ArgumentParser) -> Any:
    """What to take over, one of several: settings, and what the caller adds."""
    _add_common(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--settings", type=Path, metavar="FILE", help="a script with the command, or a YAML file")
    return what


def _add_ovip(parser: argparse.ArgumentParser) -> None:
    what = _add_what(parser)
    what.add_argument("--pictures", type=Path, metavar="JSONL", help="data.jsonl of a run: rows with two pictures")
    parser.add_argument("--ds_path", type=Path, metavar="JSON", help="the prompts of that run")
    parser.add_argument("--name", default="ovip_pictures", help="name of the data set (default: %(default)s)")
    parser.set_defaults(run=_ovip)


def _add_sherlock(parser: argparse.ArgumentParser) -> None:
    what = _add_what(parser)
    what.add_argument("--data", type=Path, metavar="JSON", help="preference rows, JSON or JSONL")
    parser.add_argument("--name", default="sherlock", help="name of the data set (default: %(default)s)")
    parser.add_argument("--reading", choices=("full", "suffix"), help="of responses (default: found out)")
    parser.set_defaults(run=_sherlock)


def _add_folder(parser: argparse.ArgumentParser, system: str) -> None:
    _add_common(parser, "folder to write")
    parser.add_argument("--src", required=True, type=Path, help="the run's folder")
    parser.set_defaults(run=_folder, system=system)


def _add_ares(parser: argparse.ArgumentParser) -> None:
    what = _add_what(parser)
    what.add_argument("--rollouts", type=Path, metavar="DIR", help="RL_models/<run>: samples and their scores")
    what.add_argument("--predictions", type=Path, metavar="JSON", help="predictions_ans_<split>.json: samples")
    what.add_argument("--corrections", type=Path, metavar="JSON", help="correction.json: rows for reflection_sft")
    parser.add_argument("--questions", type=Path, metavar="JSON", help="the split's questions, of `mmself data`")
    parser.set_defaults(run=_ares)


def _settings(system: str, path: Path, out: Path) -> int:
    from ..files import write_text
    from ..recipes.published.settings import convert

    found = convert(system, path)
    write_text(out, found.to_yaml(f"Made from {path.name} by `mmself import {system}`."))
    for note in found.notes:
        print(f"- {note}")
    print(out)
    return 0


def _ovip(arguments: argparse.Namespace) -> int:
    from ..recipes.ovip import write_rows
    from ..recipes.ovip_prompts import read_prompts
    from ..recipes.published.ovip import read_pictures
    from ..recipes.records import RecipeError

    if arguments.settings:
        return _settings("ovip", arguments.settings, arguments.out)
    if arguments.ds_path is None:
        raise RecipeError("--pictures needs --ds_path, the run's prompts: lines do not tell their real picture.")
    rows, skipped = read_pictures(arguments.pictures, read_prompts(arguments.ds_path), arguments.images)
    path = write_rows(arguments.out, arguments.name, rows)
    _tell({str(path): len(rows)}, skipped)
    return 0


def _sherlock(arguments: argparse.Namespace) -> int:
    from .build_sherlock import import_rows

    if arguments.settings:
        return _settings("sherlock", arguments.settings, arguments.out)
    return import_rows(arguments.data, arguments.out, arguments.name, arguments.images, arguments.reading)


def _folder(arguments: argparse.Namespace) -> int:
    from ..recipes.published import r3v, stl

    read = {"r3v": r3v.read_folder, "stl": stl.read_folder}[arguments.system]
    return _write(read(arguments.src, arguments.images), arguments.out)


def _ares(arguments: argparse.Namespace) -> int:
    from ..data.questions import read_questions
    from ..files import write_jsonl
    from ..generate.requests import question_prompt
    from ..recipes.published import ares
    from ..recipes.records import RecipeError

    if arguments.settings:
        return _settings("ares", arguments.settings, arguments.out)
    if arguments.rollouts:
        found, scored = ares.read_rollouts(arguments.rollouts)
        write_jsonl(arguments.out / "scores.jsonl", scored)
        print(f"{arguments.out / 'scores.jsonl'}: {len(scored):,} scored rationales")
        return _write(found, arguments.out)
    if arguments.questions is None:
        raise RecipeError("--predictions and --corrections need --questions, the split's questions.")
    questions = read_questions(arguments.questions)
    if arguments.predictions:
        found = ares.read_predictions(arguments.predictions, [question.id for question in questions])
    else:
        found = ares.read_corrections(arguments.corrections, questions, question_prompt("ares_rationale"))
    return _write(found, arguments.out)


def _write(found: Found, out: Path) -> int:
    from ..files import write_jsonl
    from ..recipes.examples import write_dataset

    written = {}
    for name, samples in found.samples.items():
        path = out / f"{name}.jsonl"
        write_jsonl(path, (sample.to_row() for sample in samples))
        written[str(path)] = len(samples)
    for name, rows in found.sets.items():
        written[str(write_dataset(out, name, rows))] = len(rows)
    _tell(written, found.skipped)
    return 0


def _tell(written: Mapping[str, int], skipped: Mapping[str, int]) -> None:
    for path, count in written.items():
        print(f"{path}: {count:,}")
    for reason, count in skipped.items():
        print(f"left out, {reason}: {count:,}")
