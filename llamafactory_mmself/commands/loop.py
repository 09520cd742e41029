# SPDX-License-Identifier: Apache-2.0
"""`mmself loop`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any


_PRESET_FLAGS = (
    *("base_model", "template", "iterations", "batch_size", "engine"),
    *("geoqa_dir", "m3cot_dir", "domain", "drop_invalid"),
)

_EPILOG = """
examples:
  mmself loop examples/r3v/toy.yaml
  mmself loop examples/r3v/toy.yaml --set iterations=3 sampling.n=5 --dry_run
  mmself loop r3v-geoqa --base_model Qwen/Qwen2-VL-7B-Instruct --geoqa_dir GeoQA --total_iters 3 --batch_size 4
  mmself loop stl --domain commonsense --m3cot_dir M3CoT --iterations 5

Stop it at any time: the same command goes on where it was. `mmself report RUN` shows how far it came.
"""


def add(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    loop = commands.add_parser(
        "loop",
        help="sample, verify, build, train, evaluate, again: a whole self-training run that survives being killed",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    loop.add_argument("recipe", help="a recipe's YAML, or a preset: r3v-geoqa, stl")
    loop.add_argument("--dry_run", action="store_true", help="show what would be done; nothing is sampled or trained")
    loop.add_argument("--from", dest="restart_from", metavar="STEP", help="do this step again, and all after it")
    loop.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="change values of the recipe")
    loop.add_argument("--output_dir", help="folder of the run")
    loop.add_argument("--seed", type=int, help="seed of the run")
    presets = loop.add_argument_group("presets only")
    presets.add_argument("--base_model", help="model folder or hub name")
    presets.add_argument("--template", help="LLaMA-Factory's chat template")
    presets.add_argument("--iterations", "--total_iters", type=int, help="rounds of training")
    presets.add_argument("--batch_size", type=int, help="prompts sampled together")
    presets.add_argument("--engine", choices=("hf", "vllm"), help="sampling engine")
    presets.add_argument("--geoqa_dir", help="folder of GeoQA (train.jsonl, test.jsonl, images)")
    presets.add_argument("--m3cot_dir", help="folder of M3CoT")
    presets.add_argument(
        "--drop_invalid", action="store_true", default=None, help="leave out rows that cannot be used, and count them"
    )
    presets.add_argument("--domain", help="commonsense, science_natural, science_social, science_language or all")
    loop.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARN")
    from ..loop.run import run_loop

    for recipe in recipes(options):
        run_loop(recipe, dry_run=options.dry_run, restart_from=options.restart_from)
    return 0


def recipes(options: argparse.Namespace) -> list[Any]:
    """The recipes that parsed options stand for.

    Raises:
        LoopError: for a recipe or an option that cannot be used.
    """
    from ..loop.presets import PRESETS, preset_recipes
    from ..loop.recipe import load_recipe
    from ..loop.steps import LoopError

    flags = {name: vars(options)[name] for name in (*_PRESET_FLAGS, "output_dir", "seed")}
    changes = _changes(options.set)
    if options.recipe in PRESETS:
        if changes:
            raise LoopError("--set changes the values of a recipe file; presets have flags of their own.")
        return preset_recipes(options.recipe, flags)
    if not Path(options.recipe).is_file():
        raise LoopError(f"There is no recipe {options.recipe}. Give a YAML file, or a preset: {', '.join(PRESETS)}.")
    if used := [f"--{name}" for name in _PRESET_FLAGS if flags[name] is not None]:
        raise LoopError(f"{', '.join(used)} belong to presets. With a recipe file, use --set KEY=VALUE.")
    changes |= {name: flags[name] for name in ("output_dir", "seed") if flags[name] is not None}
    return [load_recipe(Path(options.recipe), changes)]


def _changes(pairs: list[str]) -> dict[str, Any]:
    import yaml

    from ..loop.steps import LoopError

    changes = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise LoopError(f"--set takes KEY=VALUE, found {pair!r}.")
        changes[name] = yaml.safe_load(value)
    return changes
