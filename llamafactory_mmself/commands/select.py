# SPDX-License-Identifier: Apache-2.0
"""`mmself select`: choosing among samples at test time."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .sample import add_engine, engine_config


if TYPE_CHECKING:
    from ..evaluate.scaling import Sampler, Train
    from ..generate.config import EngineConfig
    from ..recipes.lengths import TokenLimit

_CUTOFF_LEN = 2048  # LLaMA-Factory's default

_EPILOG = """
examples:
  mmself select --questions test.json --profile geoqa --model saves/r3v/iter3/model --template qwen2_vl --out select
  mmself select ... --max_candidates 6 --votes 5        (vote over 5 sampled selections, too)
  mmself select ... --samples samples.jsonl             (candidates that were sampled before)
  mmself select --ckpt_dir saves/r3v --max_select_num 6 --out scaling
      trains a selector for 2 to 6 candidates from the base model, with the samples of all rounds of a finished
      `mmself loop` run, and measures it on the run's test questions

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
    what.add_argument("--max_candidates", type=int, default=10, metavar="N", help="measure 1 to N (default: 10)")
    what.add_argument(
        "--max_select_num", type=int, default=6, metavar="N", help="with --ckpt_dir: 2 to N (default: 6)"
    )
    what.add_argument("--votes", type=int, default=0, metavar="M", help="vote over M sampled selections (default: 0)")
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
    from ..evaluate.curves import write_curve
    from ..evaluate.select import SelectOptions, scale
    from ..generate.jobs import run_job
    from ..recipes.prompts import Prompts

    config = engine_config(options)
    chosen = SelectOptions(
        tuple(range(1, options.max_candidates + 1)),
        options.votes,
        _params(options, {}),
        options.profile or "letters",
        options.seed or 0,
        options.category,
    )
    prompts = Prompts.load(dict(_pair(text) for text in options.prompt))
    limit = _limit(config, options.max_prompt_tokens, _CUTOFF_LEN)
    points = scale(
        read_questions(options.questions),
        partial(run_job, config=config),
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
    from ..generate.config import EngineConfig

    if options.samples or options.prompt:
        raise EvaluateError("--samples and --prompt go with --questions; a scaling run uses what the run used.")
    source = read_source(options.ckpt_dir)
    settings = source.settings
    base = {"model": settings["base_model"], "template": settings["template"]}
    config = EngineConfig.from_dict({**settings["engine"], **base}, f"{options.ckpt_dir}/run.json, engine")
    seed = int(settings["seed"]) if options.seed is None else options.seed
    params = _params(options, settings["sampling"])
    profile = options.profile or settings["verifier"]
    chosen = SelectOptions((1,), options.votes, params, profile, seed, options.category)
    cutoff_len = int(settings["train"].get("cutoff_len", _CUTOFF_LEN))
    points = scaling_run(
        source,
        options.max_select_num,
        options.out,
        train=_trainer(settings),
        sampler=_sampler(config),
        options=chosen,
        limit=_limit(config, options.max_prompt_tokens, cutoff_len),
    )
    facts = {"run": str(options.ckpt_dir), "engine": config.to_dict(), "sampling": params.to_dict()}
    return write_curve(points, options.out, {**facts, "samples": SAMPLES})


def _trainer(settings: Mapping[str, Any]) -> Train:
    """Trains with the run's own settings."""
    from ..loop.training import train

    def run(folder: Path, name: str, base: str, out: Path) -> Path:
        fixed = {"stage": "reflection_sft", "seed": settings["seed"], "report_to": "none"}
        places = {
            "model_name_or_path": base,
            "dataset": name,
            "dataset_dir": str(folder.resolve()),
            "output_dir": str(out.resolve()),
            "do_train": True,
        }
        defaults = {**fixed, "overwrite_output_dir": False, "template": settings["template"]}
        train({**defaults, **settings["train"], **places}, out.resolve().with_name("train.yaml"))
        return out.resolve()

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

    flags = {name: vars(options)[name] for name in ("temperature", "top_p", "max_new_tokens")}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return SamplingParams(**{**given, **{name: value for name, value in flags.items() if value is not None}})


def _limit(config: EngineConfig, wanted: int | None, usual: int) -> TokenLimit | None:
    """What fits into a prompt, counted with the model's own tokenizer and processor."""
    from ..generate.encoding import load_encoder
    from ..generate.types import EngineError
    from ..recipes.lengths import TokenLimit, token_count

    if not config.model or not config.template:
        if wanted is not None:
            raise EngineError("--max_prompt_tokens needs --model and --template: their tokenizer counts.")
        return None
    return TokenLimit(token_count(load_encoder(config).rows), usual if wanted is None else wanted)


def _pair(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not equals:
        raise ValueError(f"--prompt: NAME=FILE is expected, found {text!r}.")
    return name, file
