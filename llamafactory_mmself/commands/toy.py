# SPDX-License-Identifier: Apache-2.0
"""`mmself toy`: small models and data to try things on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    toy = commands.add_parser("toy", help="small models and data to try things on")
    toys = toy.add_subparsers(required=True, metavar="WHAT")
    model = toys.add_parser("model", help="build a vision-language model of under 5 M parameters, random weights")
    model.add_argument("--family", required=True, help="qwen2_vl, qwen2_5_vl, qwen3_vl, llava or mllama")
    model.add_argument("--out", required=True, type=Path, help="folder to write")
    model.add_argument("--seed", type=int, default=0, help="seed of the weights (default: 0)")
    model.set_defaults(run=_model)


def _model(options: argparse.Namespace) -> int:
    from ..toyworld.models import build_tiny_model

    print(build_tiny_model(options.family, options.out, seed=options.seed))
    return 0
