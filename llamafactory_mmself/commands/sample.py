# SPDX-License-Identifier: Apache-2.0
"""`mmself sample`: answers to many prompts, into a JSONL file."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .pictures import add_picture_limits, picture_limits


if TYPE_CHECKING:
    from ..generate.config import EngineConfig
    from ..recipes.lengths import TokenLimit

ENGINE_FLAGS = ("model", "adapter", "template", "dtype", "device", "batch_size", "workers", "api_base", "api_model")

DESCRIPTION = """\
Samples answers to questions or to prompts of your own, and writes them as JSONL: one sample a line, with text, token
ids, finish reason, the request's id and the policy that answered.

  mmself sample --questions data/train.json --prompt r3v_cot --model models/tiny --template qwen2_vl --n 3 \\
      --temperature 0.7 --out samples.jsonl

Batches are fixed before the first one runs and are kept as soon as they are done: start a stopped command again, and
it goes on; the file is the one that it would have been anyway."""


def add(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    sample = commands.add_parser(
        "sample",
        help="sample answers to questions or prompts, in batches that survive being stopped",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sample.set_defaults(run=_run)
    what = sample.add_argument_group("what to ask")
    source = what.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--questions", type=Path, help="JSON or JSONL file of questions (id, question, choices, images)"
    )
    source.add_argument("--requests", type=Path, help="JSONL file of prompts: id, prompt or messages, images")
    what.add_argument(
        "--prompt", default="direct", help="with --questions: a prompt file, or direct, r3v_cot, ... (default: direct)"
    )
    what.add_argument("--out", required=True, type=Path, help="the JSONL file to write")
    add_engine(sample.add_argument_group("who answers"))
    _add_sampling(sample.add_argument_group("how to sample"))


def add_engine(group: Any) -> None:
    """Adds the flags that `engine_config` reads."""
    add_model(group, ("hf", "vllm", "openai"))
    group.add_argument(
        "--workers", type=int, help="processes, each with a GPU of its own if there are any (default: 1)"
    )
    group.add_argument("--ray", action="store_true", default=None, help="run the workers on a Ray cluster")
    group.add_argument("--api_base", help="openai: address such as http://localhost:8000/v1")
    group.add_argument("--api_model", help="openai: the model's name there")


def add_model(group: Any, engines: tuple[str, ...]) -> None:
    """Adds those of an engine in this process; `engines` are the ones to choose from."""
    group.add_argument("--config", type=Path, help="YAML with the engine's settings; flags here override it")
    group.add_argument("--engine", choices=engines, help="default: hf, which runs everywhere")
    group.add_argument("--model", help="model folder or hub name")
    group.add_argument("--adapter", action="append", help="folder of a LoRA adapter; may be given several times (hf)")
    group.add_argument("--template", help="LLaMA-Factory's chat template")
    group.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), help="default: auto")
    group.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: auto, GPUs if there are any")
    group.add_argument("--batch_size", type=int, help="prompts sampled together (default: 16)")
    add_picture_limits(group)


def _add_sampling(group: Any) -> None:
    group.add_argument("--n", type=int, default=1, help="samples for each prompt (default: 1)")
    group.add_argument("--temperature", type=float, default=1.0, help="0 is greedy (default: 1.0)")
    group.add_argument("--top_p", type=float, default=1.0, help="nucleus; 1 is off (default: 1.0)")
    group.add_argument("--top_k", type=int, default=0, help="0 is off (default: 0)")
    group.add_argument("--repetition_penalty", type=float, default=1.0, help="1 is off (default: 1.0)")
    group.add_argument("--max_new_tokens", type=int, default=512, help="where a sample is cut (default: 512)")
    group.add_argument(
        "--stop", action="append", default=[], help="a text that ends a sample; may be given several times"
    )
    group.add_argument("--logprobs", action="store_true", help="keep the log-prob of each sampled token")
    group.add_argument("--seed", type=int, default=0, help="decides everything left to chance (default: 0)")


def _run(options: argparse.Namespace) -> int:
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARN")
    from ..data.questions import read_questions
    from ..generate.jobs import SampleJob, read_samples, run_job
    from ..generate.requests import question_prompt, question_requests, read_requests
    from ..generate.types import SamplingParams

    if options.questions is not None:
        requests = question_requests(read_questions(options.questions), question_prompt(options.prompt))
    else:
        requests = read_requests(options.requests)
    names = ("n", "temperature", "top_p", "top_k", "repetition_penalty", "max_new_tokens", "logprobs")
    params = SamplingParams(**{name: vars(options)[name] for name in names}, stop=tuple(options.stop))
    job = SampleJob(requests, params, options.seed, options.out)
    start = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):  # LLaMA-Factory logs to standard output
        path = run_job(job, engine_config(options))
    print(summary(path, read_samples(path), params.max_new_tokens, time.monotonic() - start))
    return 0


def engine_config(options: argparse.Namespace) -> EngineConfig:
    """The engine's settings from `--config` and the flags that override it.

    Raises:
        EngineError, FileError: naming file and key.
    """
    flags = {name: vars(options).get(name) for name in (*ENGINE_FLAGS, "ray")} | {"name": options.engine}
    config = engine_file(options.config, {name: value for name, value in flags.items() if value is not None})
    return replace(config, llamafactory={**config.llamafactory, **picture_limits(options)})


def engine_file(path: Path | None, changes: Mapping[str, Any] | None = None) -> EngineConfig:
    """The engine's settings from a YAML file, if there is one, and values that override it.

    Raises:
        EngineError, FileError: naming file and key.
    """
    from ..generate.config import read_engine

    return read_engine(path, changes)


def token_limit(options: argparse.Namespace) -> TokenLimit | None:
    """What `--max_tokens` allows, counted as training will; None without it.

    Raises:
        ValueError: it is not said whose tokenizer counts.
    """
    from ..generate.config import EngineConfig
    from ..generate.encoding import load_encoder
    from ..recipes.lengths import TokenLimit, token_count

    if options.max_tokens is None:
        return None
    if not options.model or not options.template:
        raise ValueError("--max_tokens needs --model and --template: their tokenizer and processor count.")
    with contextlib.redirect_stdout(sys.stderr):  # LLaMA-Factory logs to standard output
        encoder = load_encoder(
            EngineConfig(model=options.model, template=options.template, llamafactory=picture_limits(options))
        )
    return TokenLimit(token_count(encoder.rows), options.max_tokens)


def prompt_files(pairs: Iterable[str]) -> dict[str, str]:
    """The user's own prompt files from `NAME=FILE`.

    Raises:
        ValueError: a text of another form.
    """
    own = {}
    for pair in pairs:
        name, equals, file = pair.partition("=")
        if not equals:
            raise ValueError(f"--prompt: NAME=FILE is expected, found {pair!r}.")
        own[name] = file
    return own


def summary(path: Path, samples: list[Any], limit: int, seconds: float) -> str:
    """What was sampled, in a line or two."""
    tokens = sum(len(sample.completion.token_ids) for sample in samples)
    cut = sum(sample.completion.finish_reason == "length" for sample in samples)
    speed = f"{tokens} tokens, {tokens / seconds:.0f} a second with loading" if tokens else f"{seconds:.0f} seconds"
    return (
        f"{path}: {len(samples)} samples of {len({sample.request for sample in samples})} prompts, {speed}\n"
        f"{cut} samples ({100 * cut / len(samples):.1f} %) were cut at {limit} tokens"
    )
