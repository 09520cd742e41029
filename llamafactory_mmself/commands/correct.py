# SPDX-License-Identifier: Apache-2.0
"""`mmself correct`: a model looks at its own responses again."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from .sample import add_engine, engine_config, engine_file, prompt_files


_EPILOG = """
examples:
  mmself correct --questions test.json --model saves/sherlock --template mllama --turns 3 --out runs/correct
  mmself correct ... --stop unchanged                      (end where a correction changes nothing)
  mmself correct ... --stop judge --judge judge.yaml       (end where a verifier is satisfied)
  mmself correct ... --stop judge --judge judge.yaml --critique      (its critique goes into the next prompt)
  mmself correct ... --parallel 8 --temperature 0.7        (eight responses vote, before and after correcting)
  mmself correct ... --engine openai --api_base http://localhost:8000/v1

A judge's YAML has the keys of an engine: name, model, template, or name: openai, api_base, api_model.
Stopped, the same command goes on with the samples that it has.
"""


def add(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    correct = commands.add_parser(
        "correct",
        help="let the model correct its own responses: accuracy, flips and cost of each turn",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = correct.add_argument_group("what to measure")
    what.add_argument("--questions", required=True, type=Path, help="test questions")
    what.add_argument("--out", required=True, type=Path, help="folder for samples, tables and plots")
    what.add_argument("--profile", default="tagged", help="verifier profile that scores answers (default: tagged)")
    what.add_argument("--category", default="category", help="field to report accuracy by (default: category)")
    what.add_argument("--prompt", nargs="+", default=[], metavar="NAME=FILE", help="your own prompt files")
    how = correct.add_argument_group("how to correct")
    how.add_argument("--turns", type=int, default=3, metavar="T", help="corrections, at most (default: 3)")
    how.add_argument("--parallel", type=int, default=1, metavar="N", help="responses that vote (default: 1)")
    how.add_argument(
        "--stop",
        choices=("fixed", "unchanged", "judge"),
        default="fixed",
        help="when a response is final: after all turns, when its answer stays the same, or when the judge says so",
    )
    how.add_argument("--judge", type=Path, metavar="YAML", help="engine of the verifier")
    how.add_argument("--critique", action="store_true", help="show the verifier's critique in the next prompt")
    how.add_argument("--blind_judge", action="store_true", help="the verifier does not get the pictures")
    add_engine(correct.add_argument_group("who answers"))
    sampling = correct.add_argument_group("how to sample")
    sampling.add_argument(
        "--temperature", type=float, default=0.0, help="of first responses; 0 is greedy (default: 0)"
    )
    sampling.add_argument("--correction_temperature", type=float, default=0.0, help="of corrections (default: 0)")
    sampling.add_argument("--top_p", type=float, default=1.0, help="nucleus; 1 is off (default: 1.0)")
    sampling.add_argument("--max_new_tokens", type=int, default=2048, help="where a response is cut (default: 2048)")
    sampling.add_argument("--seed", type=int, default=0, help="of all samples (default: 0)")
    correct.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARN")
    with contextlib.redirect_stdout(sys.stderr):  # LLaMA-Factory logs to standard output
        shown = _measure(options)
    print(shown)
    print(options.out / "correct.png")
    return 0


def _measure(options: argparse.Namespace) -> str:
    from ..data.questions import read_questions
    from ..evaluate.correct import CorrectOptions, correct
    from ..evaluate.turns import write_turns
    from ..generate.types import SamplingParams
    from ..loop.sampler import Sampler
    from ..recipes.prompts import SherlockPrompts

    config = engine_config(options)
    judge = None if options.judge is None else engine_file(options.judge)

    def params(temperature: float) -> SamplingParams:
        return SamplingParams(
            temperature=temperature, top_p=options.top_p if temperature else 1.0, max_new_tokens=options.max_new_tokens
        )

    chosen = CorrectOptions(
        turns=options.turns,
        parallel=options.parallel,
        stop=options.stop,
        critique=options.critique,
        sees=not options.blind_judge,
        first=params(options.temperature),
        then=params(options.correction_temperature),
        profile=options.profile,
        seed=options.seed,
        category=options.category,
    )
    prompts = SherlockPrompts.load(prompt_files(options.prompt))
    questions = read_questions(options.questions)
    with Sampler() as sampler:
        points = correct(
            questions,
            partial(sampler.run, config=config),
            chosen,
            prompts,
            options.out,
            judge=None if judge is None else partial(sampler.run, config=judge),
        )
    facts = {
        "questions": str(options.questions),
        "engine": config.to_dict(),
        "judge": None if judge is None else judge.to_dict(),
        "stop": options.stop,
        "critique": options.critique,
        "parallel": options.parallel,
        "first": chosen.first.to_dict(),
        "then": chosen.then.to_dict(),
        "prompts": prompts.digest,
    }
    return write_turns(points, options.out, facts)
