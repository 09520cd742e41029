# SPDX-License-Identifier: Apache-2.0
"""`mmself toy`: a small world with known truth, small models, a weak start."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any


# What can be set for each phase of the start.
_PER_PHASE = (
    ("rows", int, "rows, one scene each"),
    ("epochs", float, "passes over the rows; more make a stronger start"),
    ("learning_rate", float, "its peak"),
    ("batch_size", int, "rows a step"),
)


def add(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    toy = commands.add_parser("toy", help="a small world with known truth: data, models, a weak start")
    toys = toy.add_subparsers(required=True, metavar="WHAT")
    _add_data(toys)
    _add_model(toys)
    _add_start(toys)
    _add_sheet(toys)


def _add_data(toys: Any) -> None:
    data = toys.add_parser("data", help="write training, held-out and caption rows with their pictures")
    data.add_argument("--out", required=True, type=Path, help="folder to write")
    data.add_argument("--train", type=int, default=1000, help="training questions (default: 1000)")
    data.add_argument("--test", type=int, default=600, help="held-out questions (default: 600)")
    data.add_argument("--captions", type=int, default=300, help="captioned scenes (default: 300)")
    data.add_argument("--grid", default="2x2", help="rows x columns of a scene, 2 or 3 each (default: 2x2)")
    data.add_argument("--size", type=int, default=56, help="sides of a picture in pixels (default: 56)")
    data.add_argument("--seed", type=int, default=0, help="seed of scenes and questions (default: 0)")
    data.set_defaults(run=_data)


def _add_model(toys: Any) -> None:
    model = toys.add_parser("model", help="build a vision-language model of under 5 M parameters, random weights")
    model.add_argument("--family", required=True, help="qwen2_vl, qwen2_5_vl, qwen3_vl, llava or mllama")
    model.add_argument("--out", required=True, type=Path, help="folder to write")
    model.add_argument("--seed", type=int, default=0, help="seed of the weights (default: 0)")
    model.set_defaults(run=_model)


def _add_start(toys: Any) -> None:
    from ..toyworld.training import PHASES, StartOptions

    default = StartOptions()
    names = ", ".join(phase.name for phase in PHASES)
    start = toys.add_parser(
        "start",
        help="train a weak model with LLaMA-Factory that follows every method's prompts",
        description=f"Trains the starting model in phases: {names}. Options with several values take one for each.",
    )
    start.add_argument("--out", required=True, type=Path, help="folder to write the model to")
    start.add_argument("--family", default=default.family, help="of the tiny model (default: %(default)s)")
    start.add_argument("--model", type=Path, help="start from this model of `mmself toy model`; --family as its own")
    start.add_argument("--data", type=Path, help="folder of `mmself toy data`: take its grid and picture size")
    for name, kind, about in _PER_PHASE:
        values = [getattr(phase, name) for phase in PHASES]
        shown = " ".join(f"{value:g}" for value in values)
        start.add_argument(
            f"--{name}", type=kind, nargs=len(PHASES), default=values, help=f"{about} (default: {shown})"
        )
    start.add_argument("--seed", type=int, default=0, help="seed of weights, rows and training (default: 0)")
    start.set_defaults(run=_start)


def _add_sheet(toys: Any) -> None:
    sheet = toys.add_parser("sheet", help="draw sample scenes with their questions and answers on one picture")
    sheet.add_argument("--out", required=True, type=Path, help="PNG file to write")
    sheet.add_argument("--seed", type=int, default=0, help="seed of scenes and questions (default: 0)")
    sheet.set_defaults(run=_sheet)


def _data(options: argparse.Namespace) -> int:
    from ..toyworld.errors import ToyWorldError
    from ..toyworld.world import WorldOptions, write_world

    rows, cross, columns = options.grid.partition("x")
    if not cross or not (rows + columns).isdigit():
        raise ToyWorldError(f"--grid {options.grid!r}: rows x columns are expected, for example 2x2.")
    world = WorldOptions(
        options.train, options.test, options.captions, int(rows), int(columns), options.size, options.seed
    )
    for path in write_world(options.out, world).values():
        print(path)
    return 0


def _model(options: argparse.Namespace) -> int:
    from ..toyworld.models import build_tiny_model

    print(build_tiny_model(options.family, options.out, seed=options.seed))
    return 0


def _start(options: argparse.Namespace) -> int:
    from ..toyworld.training import PHASES, StartOptions, train_start
    from ..toyworld.world import WorldOptions, world_of

    changes = {name: getattr(options, name) for name, _, _ in _PER_PHASE}
    phases = [
        replace(phase, **{name: values[number] for name, values in changes.items()})
        for number, phase in enumerate(PHASES)
    ]
    start = StartOptions(
        family=options.family,
        model=options.model,
        phases=tuple(phases),
        world=world_of(options.data) if options.data else WorldOptions(),
        seed=options.seed,
    )
    print(train_start(options.out, start))
    return 0


def _sheet(options: argparse.Namespace) -> int:
    from ..toyworld.sheet import write_sheet

    print(write_sheet(options.out, options.seed))
    return 0
