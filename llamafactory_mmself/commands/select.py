# SPDX-License-Identifier: Apache-2.0
"""`mmself select`: choosing among samples at test time."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .sample import add_engine, engine_config, prompt_files


if TYPE_CHECKING:
    from ..evaluate.scaling import LastRound, Sampler, Train
    from ..generate.config import EngineConfig
    from ..generate.types import Request
    from ..loop.recipe import Recipe
    from ..recipes.lengths import TokenLimit

_CUTOFF_LEN = 2048  # LLaMA-Factory's default
_CANDIDATES = 10
_SELECTED = 6
# Flags that change how fast a scaling run goes, and flags that it takes from the run instead.
_PACE = ("batch_size", "workers", "ray", "device")
_QUESTIONS_ONLY = (
    *("samples", "prompt", "max_candidates", "config", "engine", "model", "adapter", "template", "dtype"),
    *("api_base", "api_model"),
    *("image_max_pixels", "image_min_pixels", "image_do_pan_and_scan", "crop_to_patches"),
)

_EPILOG = """
examples:
  mmself select --questions test.json --profile geoqa --model saves/r3v/iter3/model --template qwen2_vl --out select
  mmself select ... --max_candidates 6 --votes 5        (vote over 5 sampled selections, too)
  mmself select ... --samples samples.jsonl             (candidates that were sampled before)
  mmself select --ckpt_dir saves/r3v --max_select_num 6 --out scaling
      trains a selector for 2 to 6 candidates from the base model, with the samples of all rounds of a finished
      `mmself loop` run, and measures it on the run's test questions; what the last round's model answers to the
      training questions is sampled first, since the run ended before

Writes OUT/scaling.{csv,json,png,svg} and OUT/cost.{png,svg}. Stop it at any time: the same command goes on.
"""


def add(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    select = commands.add_parser(
        "select",
        help="let the model choose among its own samples: accuracy and cost for 1 to N candidates",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = select.add_argument_group("what to measure")
    source = what.add_mutually_exclusive_group(required=True)
    source.add_argument("--questions", type=Path, help="test questions")
    source.add_argument("--ckpt_dir", type=Path, metavar="RUN", help="a finished run: train a selector from it")
    what.add_argument("--out", required=True, type=Path, help="folder for samples, tables and plots")
    what.add_argument("--samples", type=Path, metavar="JSONL", help="solutions that were sampled before")
    what.add_argument("--profile", help="verifier profile (default: letters; with --ckpt_dir: the run's)")
    what.add_argument("--max_candidates", type=int, metavar="N", help=f"measure 1 to N (default: {_CANDIDATES})")
    what.add_argument(
        "--max_select_num", type=int, metavar="N", help=f"with --ckpt_dir: 2 to N (default: {_SELECTED})"
    )
    what.add_argument("--votes", type=int, default=0, metavar="M", help="vote over M sampled selections (default: 0)")
    what.add_argument(
        "--spare_agreeing",
        action="store_true",
        help="where all candidates give one answer, take it instead of asking (the published code asks)",
    )
    what.add_argument("--category", default="category", help="field to report accuracy by (default: category)")
    what.add_argument("--prompt", nargs="+", default=[], metavar="NAME=FILE", help="your own prompt files")
    what.add_argument(
        "--max_prompt_tokens",
        type=int,
        metavar="N",
        help=f"leave candidates out of prompts over this (default: {_CUTOFF_LEN}; with --ckpt_dir: the run's "
        "cutoff_len; openai: no limit)",
    )
    add_engine(select.add_argument_group("who answers (with --ckpt_dir: the run's engine)"))
    how = select.add_argument_group("how candidates are sampled")
    how.add_argument("--temperature", type=float, help="default: 1.0; with --ckpt_dir: as in the run")
    how.add_argument("--top_p", type=float, help="nucleus; 1 is off")
    how.add_argument("--top_k", type=int, help="0 is off")
    how.add_argument("--max_new_tokens", type=int, help="where a sample is cut (default: 512)")
    how.add_argument("--seed", type=int, help="of samples and orders (default: 0; with --ckpt_dir: the run's)")
    select.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARN")
    with contextlib.redirect_stdout(sys.stderr):  # LLaMA-Factory logs to standard output
        table = _scaling(options) if options.ckpt_dir is not None else _select(options)
    print(table)
    print(options.out / "scaling.png")
    return 0


def _select(options: argparse.Namespace) -> str:
    from ..data.questions import read_questions
    from ..evaluate.answers import EvaluateError
    from ..evaluate.curves import write_curve
    from ..evaluate.select import SelectOptions, scale
    from ..loop.sampler import Sampler
    from ..recipes.prompts import Prompts

    if options.max_select_num is not None:
        raise EvaluateError("--max_select_num goes with --ckpt_dir; with --questions it is --max_candidates.")
    config = engine_config(options)
    chosen = SelectOptions(
        tuple(range(1, (options.max_candidates or _CANDIDATES) + 1)),
        options.votes,
        _params(options, {}),
        options.profile or "letters",
        options.seed or 0,
        options.category,
        spare_agreeing=options.spare_agreeing,
    )
    prompts = Prompts.load(prompt_files(options.prompt))
    limit = _limit(config, options.max_prompt_tokens, _CUTOFF_LEN)
    with Sampler() as sampler:
        points = scale(
            read_questions(options.questions),
            partial(sampler.run, config=config),
            chosen,
            prompts,
            options.out,
            limit=limit,
            samples=options.samples,
        )
    facts = {"questions": str(options.questions), "engine": config.to_dict(), "sampling": chosen.params.to_dict()}
    return write_curve(points, options.out, {**facts, "samples": options.samples and str(options.samples)})


def _scaling(options: argparse.Namespace) -> str:
    from ..evaluate.answers import EvaluateError
    from ..evaluate.curves import write_curve
    from ..evaluate.scaling import SAMPLES, read_source, scaling_run
    from ..evaluate.select import SelectOptions
    from ..loop.recipe import make_recipe
    from ..loop.settings import cutoff_len
    from ..loop.settings import engine_config as run_engine

    if given := [f"--{name}" for name in _QUESTIONS_ONLY if vars(options)[name]]:
        raise EvaluateError(f"{', '.join(given)}: with --ckpt_dir, a scaling run uses what the run used.")
    source = read_source(options.ckpt_dir)
    recipe = make_recipe(source.settings, f"{options.ckpt_dir}/run.json")
    pace = {name: vars(options)[name] for name in _PACE if vars(options)[name] is not None}
    config = replace(run_engine(recipe), **pace)
    params = _params(options, recipe.sampling)
    seed = recipe.seed if options.seed is None else options.seed
    profile, spare = options.profile or recipe.verifier, options.spare_agreeing or recipe.evaluate.spare_agreeing
    chosen = SelectOptions((1,), options.votes, params, profile, seed, options.category, spare_agreeing=spare)
    points = scaling_run(
        source,
        options.max_select_num or _SELECTED,
        options.out,
        train=_trainer(recipe),
        sampler=_sampler(config),
        last_round=_last_round(replace(recipe, output_dir=options.ckpt_dir.resolve()), pace),
        options=chosen,
        limit=_limit(config, options.max_prompt_tokens, cutoff_len(recipe)),
    )
    facts = {"run": str(options.ckpt_dir), "engine": config.to_dict(), "sampling": params.to_dict()}
    return write_curve(points, options.out, {**facts, "samples": SAMPLES})


def _trainer(recipe: Recipe) -> Train:
    """Trains with the run's own settings."""
    from ..loop.settings import training_arguments
    from ..loop.training import train

    def run(folder: Path, name: str, base: str, out: Path) -> Path:
        output = out.resolve()
        arguments = training_arguments(recipe, base, folder.resolve() / f"{name}.json", output)
        train(arguments, output.with_name("train.yaml"))
        return output

    return run


def _last_round(recipe: Recipe, pace: Mapping[str, Any]) -> LastRound:
    """Samples the training questions with a round's model, as the loop would for one more round."""
    from ..generate.jobs import SampleJob
    from ..generate.seeds import derived_seed
    from ..loop.rounds import Rounds
    from ..loop.sampler import Sampler

    def run(number: int, requests: Sequence[Request], out: Path) -> Path:
        sampler = Sampler()
        rounds = Rounds(recipe, sampler)
        job = SampleJob(requests, rounds.params, derived_seed(recipe.seed, number, "samples_train"), out)
        try:
            return sampler.run(job, replace(rounds.serving(number), **pace))
        finally:
            sampler.close()  # training comes next and needs the memory

    return run


def _sampler(config: EngineConfig) -> Sampler:
    from ..generate.jobs import run_job

    def start(base: str, model: Path) -> Any:
        adapter = (model / "adapter_config.json").exists()
        weights = (base, (str(model),)) if adapter else (str(model), ())
        return partial(run_job, config=replace(config, model=weights[0], adapter=weights[1]))

    return start


def _params(options: argparse.Namespace, values: Mapping[str, Any]) -> Any:
    """Sampling parameters: the run's, if there is one, and the flags that override them."""
    from ..generate.types import SamplingParams

    flags = {name: vars(options)[name] for name in ("temperature", "top_p", "top_k", "max_new_tokens")}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return SamplingParams(**{**given, **{name: value for name, value in flags.items() if value is not None}})


def _limit(config: EngineConfig, wanted: int | None, usual: int) -> TokenLimit | None:
    """What fits into a prompt, counted with the model's own tokenizer and processor."""
    from ..generate.encoding import load_encoder
    from ..generate.types import EngineError
    from ..recipes.lengths import TokenLimit

    if not config.model or not config.template:
        if wanted is not None:
            raise EngineError("--max_prompt_tokens needs --model and --template: their tokenizer counts.")
        return None
    return TokenLimit.of(load_encoder(config).rows, usual if wanted is None else wanted)
