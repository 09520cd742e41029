# SPDX-License-Identifier: Apache-2.0
"""`mmself data`: benchmarks as questions that the other commands read."""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from ..data.questions import Question
    from ..data.sources import Source

NAMES = {
    "geoqa": ("GeoQA as R3V publishes it", "train, test"),
    "tabmwp": ("TabMWP", "train, dev, test, dev1k, test1k"),
    "chartqa": ("ChartQA, human questions", "train, val, test"),
    "clevr": ("CLEVR-Math", "train, val, test"),
    "m3cot": ("M3CoT: the official files, or those of STL", "train, dev, test"),
    "llava_cot": ("LLaVA-CoT-100k, with its responses in sections", "train"),
    "scienceqa": ("ScienceQA, with and without pictures", "train, val, test, trainval, minitrain, minival, minitest"),
    "aokvqa": ("A-OKVQA, multiple choice; dev is carved from train", "train, dev, val"),
}


def add(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    data = commands.add_parser("data", help="turn benchmarks into questions with id, choices and answer")
    sources = data.add_subparsers(required=True, metavar="BENCHMARK")
    profiles = sources.add_parser("profiles", help="list the rules that answers can be checked by")
    profiles.set_defaults(run=_profiles)
    for name, (title, splits) in NAMES.items():
        source = sources.add_parser(name, help=title, description=f"Reads {title}; writes OUT/{name}_<split>.json.")
        source.add_argument("--src", required=True, type=Path, help="folder where the benchmark was unpacked")
        source.add_argument("--out", required=True, type=Path, help="folder to write")
        source.add_argument("--split", nargs="+", help=f"which of {splits} (default: all that are there)")
        source.add_argument("--max", type=int, help="at most this many questions of each split")
        source.add_argument("--images", type=Path, help="folder of the pictures, if the benchmark has them elsewhere")
        source.add_argument("--copy_images", action="store_true", help="copy the pictures to OUT/images")
        source.add_argument(
            "--drop_invalid", action="store_true", help="leave out rows that cannot be used, and tell how many and why"
        )
        if name == "chartqa":
            source.add_argument("--augmented", action="store_true", help="machine-written questions too")
        if name == "m3cot":
            source.add_argument(
                "--domain",
                help="commonsense, science_natural, science_social, science_language, science or mathematics",
            )
        source.set_defaults(run=_run, source=name, augmented=False, domain=None)


def _profiles(options: argparse.Namespace) -> int:
    from ..verify import describe

    print(describe())
    return 0


def _run(options: argparse.Namespace) -> int:
    from ..data.questions import QUESTION_COLUMNS, write_questions
    from ..data.sources import SOURCES, MissingFile, Options, SourceError, read_source
    from ..recipes.datasets import register_dataset

    name, out = options.source, options.out
    _, known = SOURCES[name]
    wrong = sorted(set(options.split or ()) - set(known))
    if wrong:
        raise SourceError(f"{name} has no split {', '.join(wrong)}, only {', '.join(known)}.")
    if options.max is not None and options.max < 1:
        raise SourceError(f"--max {options.max}: at least one question must be read.")
    settings = Options(
        options.images, options.max, options.drop_invalid, options.domain, options.augmented, out / "images" / name
    )
    missing: MissingFile | None = None
    written = 0
    for split in options.split or known:
        try:
            source = read_source(name, options.src, split, settings)
        except MissingFile as error:
            if options.split:
                raise
            missing = missing or error
            continue
        title = "_".join(part for part in (name, split, options.domain) if part)
        questions = _copied(source.questions, out, title) if options.copy_images else source.questions
        write_questions(out / f"{title}.json", questions)
        register_dataset(
            out / "dataset_info.json",
            title,
            {"file_name": f"{title}.json", "formatting": "sharegpt", "columns": QUESTION_COLUMNS},
        )
        _tell(out / f"{title}.json", source)
        written += 1
    if not written and missing is not None:
        raise missing
    return 0


def _tell(file: Path, source: Source) -> None:
    print(f"{file}: {len(source.questions):,} questions")
    for reason, count in source.dropped.items():
        print(f"  left out: {count:,} ({reason}); the first: {source.examples[reason]}", file=sys.stderr)


def _copied(questions: list[Question], out: Path, title: str) -> list[Question]:
    """The questions with copies of their pictures, in a folder of the table's own: splits may use the same names."""
    from tqdm import tqdm

    folder = out / "images" / title
    folder.mkdir(parents=True, exist_ok=True)
    copies: dict[str, str] = {}
    taken: set[str] = set()
    for question in tqdm(questions, desc="pictures", unit="question", disable=None):
        for image in question.images:
            if image in copies:
                continue
            path = Path(image)
            number, target = 1, path.name
            while target in taken:
                number, target = number + 1, f"{path.stem}-{number + 1}{path.suffix}"
            taken.add(target)
            if path != (folder / target).resolve():
                shutil.copyfile(path, folder / target)
            copies[image] = str(folder / target)
    return [replace(question, images=tuple(copies[image] for image in question.images)) for question in questions]
