# SPDX-License-Identifier: Apache-2.0
"""`mmself serve`: a judge or a painter for those who have none."""

from __future__ import annotations

import argparse
import contextlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .sample import add_model, engine_config


if TYPE_CHECKING:
    from fastapi import FastAPI

PAINTER_MODEL = "black-forest-labs/FLUX.1-dev"
JUDGE_MODEL = "Qwen/Qwen2.5-7B-Instruct"

_EPILOG = """
examples:
  mmself serve judge --port 8002 --model Qwen/Qwen2.5-7B-Instruct --template qwen
  mmself serve painter --port 8001 --model black-forest-labs/FLUX.1-dev --size 384 --steps 40 --guidance 7.5
  mmself serve judge --engine toy --port 8002             (the toy world's, for trying things)

Both speak the OpenAI API (chat completions, images) at http://127.0.0.1:PORT/v1 and tell their state at /health.
"""


def add(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    serve = commands.add_parser(
        "serve",
        help="serve a judge or a painter over HTTP",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = serve.add_subparsers(required=True, metavar="SERVICE")
    _add_judge(parts.add_parser("judge", help="a chat model that scores and describes"))
    _add_painter(parts.add_parser("painter", help="a diffusion model that paints descriptions"))


def _add_common(parser: argparse.ArgumentParser, port: int, queue: int) -> None:
    group = parser.add_argument_group("where and for whom")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    group.add_argument("--port", type=int, default=port, help=f"default: {port}; 0 takes a free one")
    group.add_argument("--api_key_env", metavar="NAME", help="environment variable with a key that clients must send")
    group.add_argument("--name", help="of the model, as clients call it (default: what --model says)")
    group.add_argument("--queue", type=int, default=queue, help=f"requests that may wait (default: {queue})")
    group.add_argument("--max_prompt", type=int, metavar="N", help="characters of a prompt")
    group.add_argument("--max_n", type=int, metavar="N", help="answers to one request")


def _add_judge(parser: argparse.ArgumentParser) -> None:
    _add_common(parser, 8002, 256)
    add_model(parser.add_argument_group("who answers"), ("hf", "vllm", "toy"))
    parser.add_argument("--max_tokens", type=int, default=1024, help="of an answer (default: 1024)")
    parser.set_defaults(run=_judge, resumes=False)


def _add_painter(parser: argparse.ArgumentParser) -> None:
    _add_common(parser, 8001, 64)
    group = parser.add_argument_group("who paints")
    group.add_argument("--engine", choices=("diffusers", "toy"), default="diffusers", help="default: diffusers")
    group.add_argument(
        "--model", default=PAINTER_MODEL, help=f"pipeline: folder or hub name (default: {PAINTER_MODEL})"
    )
    group.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one"
    )
    group.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto")
    group.add_argument("--batch_size", type=int, default=4, help="pictures painted together (default: 4)")
    group.add_argument("--size", help="of a picture, 384 or 512x384 (default: 384; 56 for toy)")
    group.add_argument("--steps", type=int, default=40, help="of the diffusion (default: 40)")
    group.add_argument("--guidance", type=float, default=7.5, help="its scale (default: 7.5)")
    parser.set_defaults(run=_painter, resumes=False)


def _judge(arguments: argparse.Namespace) -> int:
    from ..serve.judge import JudgeOptions, judge_app
    from ..serve.run import read_key, serve

    toy = arguments.engine == "toy"
    if not toy and arguments.model is None and arguments.config is None:
        arguments.model = JUDGE_MODEL
        arguments.template = arguments.template or "qwen"
    config = None if toy else engine_config(arguments)
    name = arguments.name or (JUDGE_MODEL if config is None else str(config.model))
    options = JudgeOptions(name, max_tokens=arguments.max_tokens)
    if config is not None:
        options = replace(options, batch_size=config.batch_size)
    options = replace(options, limits=_limits(options.limits, arguments))
    key = read_key(arguments.api_key_env, arguments.host)

    def make() -> FastAPI:
        if config is None:
            from ..toyworld.chat import ToyChat

            return judge_app(ToyChat(), options, key)
        from ..generate.engines import build_engine

        with contextlib.redirect_stdout(sys.stderr):  # LLaMA-Factory logs to standard output
            return judge_app(build_engine(config), options, key)

    serve(arguments.host, arguments.port, make, f"judge {name}")
    return 0


def _painter(arguments: argparse.Namespace) -> int:
    from ..serve.artists import DiffusersArtist, ToyArtist
    from ..serve.painter import PainterOptions, painter_app, read_size
    from ..serve.run import read_key, serve

    toy = arguments.engine == "toy"
    name = arguments.name or arguments.model
    options = PainterOptions(
        name,
        size=read_size(arguments.size or ("56" if toy else "384")),
        steps=arguments.steps,
        guidance=arguments.guidance,
        batch_size=arguments.batch_size,
    )
    options = replace(options, limits=_limits(options.limits, arguments))
    key = read_key(arguments.api_key_env, arguments.host)

    def make() -> FastAPI:
        artist = ToyArtist() if toy else DiffusersArtist(arguments.model, arguments.device, arguments.dtype)
        return painter_app(artist, options, key)

    serve(arguments.host, arguments.port, make, f"painter {name}")
    return 0


def _limits(limits: Any, arguments: argparse.Namespace) -> Any:
    changes = {"prompt": arguments.max_prompt, "n": arguments.max_n, "queue": arguments.queue}
    for name, value in changes.items():
        if value is not None and value < 1:
            raise ValueError(f"The limit of {name} has to be 1 or more, not {value}.")
    return replace(limits, **{name: value for name, value in changes.items() if value is not None})
