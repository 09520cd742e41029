# SPDX-License-Identifier: Apache-2.0
"""`mmself toy`: a small world with known truth, small models, weak starts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from ..toyworld.training import Phase
    from ..toyworld.world import WorldOptions


# What can be set for each phase of a training.
_PER_PHASE = (
    ("rows", int, "rows to train on"),
    ("epochs", float, "passes over the rows"),
    ("learning_rate", float, "its peak"),
    ("batch_size", int, "rows a step"),
    ("careless", float, "share of careless answers among the rows, from 0 to 1; more make a weaker model"),
)


def add(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    toy = commands.add_parser("toy", help="a small world with known truth: data, models, weak starts")
    toys = toy.add_subparsers(required=True, metavar="WHAT")
    _add_data(toys)
    _add_responses(toys)
    _add_model(toys)
    _add_starts(toys)
    _add_base(toys)
    _add_sheet(toys)


def _add_data(toys: Any) -> None:
    data = toys.add_parser("data", help="write training, held-out and caption rows with their pictures")
    data.add_argument("--out", required=True, type=Path, help="folder to write")
    data.add_argument("--train", type=int, default=500, help="training questions (default: 500)")
    data.add_argument("--test", type=int, default=600, help="held-out questions (default: 600)")
    data.add_argument("--captions", type=int, default=300, help="captioned scenes (default: 300)")
    data.add_argument("--prompts", type=int, default=0, help="captioned scenes to train on (default: none)")
    data.add_argument("--grid", default="2x2", help="rows x columns of a scene, 2 or 3 each (default: 2x2)")
    data.add_argument("--size", type=int, default=56, help="sides of a picture in pixels (default: 56)")
    data.add_argument("--seed", type=int, default=0, help="seed of scenes and questions (default: 0)")
    data.set_defaults(run=_data)


def _add_responses(toys: Any) -> None:
    responses = toys.add_parser(
        "responses", help="annotate training questions with whole responses in sections, for Sherlock"
    )
    responses.add_argument("--data", required=True, type=Path, help="folder of `mmself toy data`")
    responses.set_defaults(run=_responses)


def _add_model(toys: Any) -> None:
    model = toys.add_parser("model", help="build a vision-language model of under 5 M parameters, random weights")
    model.add_argument("--family", required=True, help="qwen2_vl, qwen2_5_vl, qwen3_vl, llava or mllama")
    model.add_argument("--out", required=True, type=Path, help="folder to write")
    model.add_argument("--seed", type=int, default=0, help="seed of the weights (default: 0)")
    model.set_defaults(run=_model)


def _add_starts(toys: Any) -> None:
    from ..toyworld.training import CAPTIONER, REASONER, START

    _add_weak(
        toys,
        "start",
        START,
        help="train a weak model with LLaMA-Factory that follows every method's prompts",
        description="Trains a base model on few rows, some of them careless: the weak model that methods start from.",
    )
    _add_weak(
        toys,
        "reasoner",
        REASONER,
        help="train a weak model with LLaMA-Factory that answers in tagged sections, for Sherlock",
        description="Trains a base model on answers in four tagged sections, most of them careless, and on "
        "corrections of wrong ones: the model whose reasoning Sherlock mends.",
    )
    _add_weak(
        toys,
        "captioner",
        CAPTIONER,
        help="train a weak captioner with LLaMA-Factory, for OViP and GRPO",
        description="Trains a base model on captions, most of them naming things that are not there where something "
        "invites to it: the model whose hallucinations OViP mends.",
    )


def _add_weak(toys: Any, name: str, phases: Sequence[Phase], **about: str) -> None:
    """A command that trains from a base model."""
    parser = toys.add_parser(name, **about)
    _add_training(parser, phases)
    _add_base_model(parser)
    parser.set_defaults(run=partial(_train_base, phases=phases))


def _add_base_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", type=Path, help="base model, of `mmself toy base` (default: the one that is shipped)"
    )


def _add_base(toys: Any) -> None:
    from ..toyworld.training import BASE

    base = toys.add_parser(
        "base",
        help="train a base model from random weights; takes most of an hour on a CPU",
        description=f"Trains in phases: {', '.join(phase.name for phase in BASE)}. Options take one value a phase.",
    )
    _add_training(base, BASE)
    base.add_argument("--model", type=Path, help="model of `mmself toy model` to start from (default: random weights)")
    base.set_defaults(run=_base)


def _add_training(parser: argparse.ArgumentParser, phases: Sequence[Phase]) -> None:
    parser.add_argument("--out", required=True, type=Path, help="folder to write the model to")
    parser.add_argument("--family", default="qwen2_vl", help="of the tiny model (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="folder of `mmself toy data`: take its grid and picture size")
    for name, kind, about in _PER_PHASE:
        values = [getattr(phase, name) for phase in phases]
        shown = " ".join(f"{value:g}" for value in values)
        parser.add_argument(
            f"--{name}", type=kind, nargs=len(phases), default=values, help=f"{about} (default: {shown})"
        )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, rows and training (default: 0)")


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
    numbers = (options.train, options.test, options.captions)
    world = WorldOptions(*numbers, int(rows), int(columns), options.size, options.seed, options.prompts)
    for path in write_world(options.out, world).values():
        print(path)
    return 0


def _responses(options: argparse.Namespace) -> int:
    from ..data.questions import read_questions, write_questions
    from ..toyworld.start import annotated

    path = options.data / "annotated.json"
    write_questions(path, [annotated(row) for row in read_questions(options.data / "train.json")])
    print(path)
    return 0


def _model(options: argparse.Namespace) -> int:
    from ..toyworld.models import build_tiny_model

    print(build_tiny_model(options.family, options.out, seed=options.seed))
    return 0


def _train_base(options: argparse.Namespace, phases: Sequence[Phase]) -> int:
    from ..toyworld.training import shipped_base

    return _train(options, phases, options.model or shipped_base(options.family, _world(options)))


def _base(options: argparse.Namespace) -> int:
    from ..toyworld.training import BASE

    return _train(options, BASE, options.model)


def _train(options: argparse.Namespace, phases: Sequence[Phase], model: Path | None) -> int:
    from ..toyworld.training import TrainingOptions, train_model

    changed = [
        replace(phase, **{name: getattr(options, name)[number] for name, _, _ in _PER_PHASE})
        for number, phase in enumerate(phases)
    ]
    training = TrainingOptions(options.family, model, tuple(changed), _world(options), options.seed)
    print(train_model(options.out, training))
    return 0


def _world(options: argparse.Namespace) -> WorldOptions:
    from ..toyworld.world import WorldOptions, world_of

    return world_of(options.data) if options.data else WorldOptions()


def _sheet(options: argparse.Namespace) -> int:
    from ..toyworld.sheet import write_sheet

    print(write_sheet(options.out, options.seed))
    return 0
