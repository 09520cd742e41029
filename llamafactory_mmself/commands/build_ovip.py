# SPDX-License-Identifier: Apache-2.0
"""`mmself build ovip`: OViP's offline set, pairs of sampled responses with negative pictures."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import Any

from .sample import add_engine, engine_config


_EPILOG = """
examples:
  mmself build ovip --ds_path ovip.json --services services.yaml --model llava-hf/llava-1.5-7b-hf --template llava \\
      --out data --name ovip_offline
  mmself build ovip --ds_path data/captions.json --services toy --model models/start --template qwen2_vl ...
  mmself build ovip ... --requests asked.jsonl      (writes the prompts for `mmself sample --requests` and stops)
  mmself build ovip ... --samples samples.jsonl     (takes their answers instead of sampling)

A file of services names judge, describer, painter and checks; see docs/services.md. Start a stopped command again:
what is finished stays. Rows train with stage mdpo.
"""


def add(recipes: Any) -> None:
    """Adds the recipe to the recipes of `mmself build`."""
    parser = recipes.add_parser(
        "ovip",
        help="pairs of sampled responses, each with a painted negative picture",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ds_path", required=True, type=Path, help="prompts with reference answers, JSON or JSONL")
    parser.add_argument("--media_dir", type=Path, help="folder that picture paths start from (default: the file's)")
    parser.add_argument("--services", help="YAML file of judge, describer, painter and checks, or toy")
    parser.add_argument("--out", required=True, type=Path, help="folder of the data set")
    parser.add_argument("--name", required=True, help="name of the data set")
    parser.add_argument("--register", type=Path, metavar="JSON", help="dataset_info.json that gets the entry")
    parser.add_argument("--seed", type=int, default=0, help="of samples and pictures (default: 0)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--samples", type=Path, metavar="JSONL", help="responses that were sampled before")
    source.add_argument("--requests", type=Path, metavar="JSONL", help="write the prompts here, and nothing else")
    pairs = parser.add_argument_group("which pairs")
    pairs.add_argument(
        "--pair_rule", choices=("robust", "paper", "published"), default="robust", help="default: robust"
    )
    pairs.add_argument("--online_only", action="store_true", help="never take the reference for the chosen response")
    pairs.add_argument(
        "--online_only_strategy", default="", help="additional: else the best and the worst, if 2 points apart"
    )
    pairs.add_argument("--pairs", type=int, metavar="N", help="of a prompt at most (default: all)")
    pairs.add_argument("--chunk", type=int, default=16, metavar="N", help="prompts worked on together (default: 16)")
    add_engine(parser.add_argument_group("who answers"))
    sampling = parser.add_argument_group("how to sample")
    sampling.add_argument("--n", type=int, default=16, help="responses to a prompt (default: 16)")
    sampling.add_argument("--temperature", type=float, default=1.2, help="default: 1.2")
    sampling.add_argument("--top_p", type=float, default=0.8, help="nucleus (default: 0.8)")
    sampling.add_argument("--max_new_tokens", type=int, default=256, help="default: 256")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARN")
    from ..files import write_jsonl
    from ..generate.jobs import SampleJob, read_samples, run_job
    from ..generate.service_config import load_services
    from ..generate.types import SamplingParams
    from ..recipes.ovip import OvipOptions, build, prompt_requests, write_rows
    from ..recipes.ovip_prompts import read_prompts
    from ..recipes.records import RecipeError

    names = ("pair_rule", "online_only", "online_only_strategy", "pairs", "chunk")
    options = OvipOptions.from_dict({name: vars(arguments)[name] for name in names})
    prompts = read_prompts(arguments.ds_path, arguments.media_dir)
    requests = prompt_requests(prompts)
    if arguments.requests is not None:
        write_jsonl(arguments.requests, (request.to_row() for request in requests))
        print(f"{arguments.requests}: {len(requests)} prompts to be answered")
        return 0
    if arguments.services is None:
        raise RecipeError("Give --services: a YAML file of judge, describer and painter, or toy.")
    with load_services(arguments.services) as services, contextlib.redirect_stdout(sys.stderr):
        path = arguments.samples
        if path is None:
            params = SamplingParams(
                n=arguments.n,
                temperature=arguments.temperature,
                top_p=arguments.top_p,
                max_new_tokens=arguments.max_new_tokens,
            )
            out = arguments.out / f"{arguments.name}_samples.jsonl"
            path = run_job(SampleJob(requests, params, arguments.seed, out), engine_config(arguments))
        samples = read_samples(path)
        built = build(
            prompts, samples, services, options, arguments.out, arguments.name, arguments.seed, progress=True
        )
        counts = services.counts()
    for name, count in built.counts.items():
        print(f"{name}: {count}")
    for service, figures in counts.items():
        print(f"{service}: {', '.join(f'{name} {count}' for name, count in figures.items())}")
    path = write_rows(arguments.out, arguments.name, built.rows, register=arguments.register)
    print(f"{path}: {len(built.rows)} rows")
    return 0
