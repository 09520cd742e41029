# SPDX-License-Identifier: Apache-2.0
"""Measures what batches bring to the hf engine, against one prompt at a time, in one run on the same prompts.

The model is a tiny Qwen2-VL with random weights, the prompts show pictures of the toy world, and no answer ends early,
so that every way samples the same number of tokens. All ways take turns; ratios are medians over the rounds. A JSON
goes to ``benchmarks/results``.

    python benchmarks/sampling.py [--prompts N] [--rounds N] [--json]
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from machine import describe_machine


os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARN")
RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("llamafactory-mmself", "llamafactory", "transformers", "torch")
TOKENS = 64
BATCH = 32
COPIES = 8


@dataclass(frozen=True)
class Way:
    """Seconds of one way to sample, round by round, and how much faster it is than the way it is compared with."""

    what: str
    tokens: int
    seconds: list[float]
    against: str
    ratio: float
    wanted: float | None

    @property
    def verdict(self) -> str:
        return "" if self.wanted is None else "ok" if self.ratio >= self.wanted else "TOO SLOW"


def make_requests(folder: Path, count: int) -> list[Any]:
    """Questions about pictures of the toy world, each about one of its own."""
    from llamafactory_mmself.generate.types import Request
    from llamafactory_mmself.toyworld.scenes import draw, random_scene

    rng = random.Random(0)
    requests = []
    for place in range(count):
        path = folder / f"{place}.png"
        draw(random_scene(rng)).save(path)
        text = "<image>\nWhat do you see in this picture?" + " Look at every shape." * rng.randrange(4)
        requests.append(Request.ask(str(place), text, [str(path)]))
    return requests


def make_engine(folder: Path, batch_size: int) -> Any:
    """The tiny model, in batches of some size, with no token that ends an answer."""
    from dataclasses import replace

    from llamafactory_mmself.generate.config import EngineConfig
    from llamafactory_mmself.generate.hf import HFEngine

    engine = HFEngine(
        EngineConfig(model=str(folder), template="qwen2_vl", device="cpu", dtype="float32", batch_size=batch_size)
    )
    engine.encoder = replace(engine.encoder, stop_ids=())
    return engine


def plain_generate(engine: Any) -> Callable[[list[Any], Any], int]:
    """One prompt after the other through the model's own `generate`, as `llamafactory-cli chat` samples."""
    import torch

    from llamafactory_mmself.plugin import lf

    def run(requests: list[Any], params: Any) -> int:
        torch.set_num_threads(1)
        tokens = 0
        for request in requests:
            inputs, length = lf.generation_inputs(
                engine.parts, engine.model, request.messages, list(request.images), params
            )
            inputs["generation_config"].min_new_tokens = TOKENS
            with torch.inference_mode():
                tokens += engine.model.generate(**inputs)[:, length:].numel()
        return tokens

    return run


def through(engine: Any) -> Callable[[list[Any], Any], int]:
    """Through an engine."""

    def run(requests: list[Any], params: Any) -> int:
        return sum(len(one.token_ids) for found in engine.generate(requests, params, 0) for one in found)

    return run


def measure(prompts: int, rounds: int) -> list[Way]:
    """Lets all ways take turns, after one turn to warm up."""
    from llamafactory_mmself.generate.types import SamplingParams
    from llamafactory_mmself.toyworld.models import build_tiny_model

    with tempfile.TemporaryDirectory(prefix="mmself-sampling-") as name:
        folder = Path(name)
        model = build_tiny_model("qwen2_vl", folder / "model", seed=0)
        requests = make_requests(folder, prompts)
        single, batched = make_engine(model, 1), make_engine(model, BATCH)
        once, many = (SamplingParams(n=n, temperature=1.0, max_new_tokens=TOKENS) for n in (1, COPIES))
        some = requests[: max(1, prompts // COPIES)]
        ways: dict[str, Callable[[], int]] = {
            "LLaMA-Factory's chat, one prompt at a time": lambda: plain_generate(single)(requests, once),
            "hf engine, one prompt at a time": lambda: through(single)(requests, once),
            f"hf engine, batches of {BATCH}": lambda: through(batched)(requests, once),
            f"hf engine, {COPIES} samples a prompt, as {COPIES} prompts": lambda: sum(
                through(batched)([request] * COPIES, once) for request in some
            ),
            f"hf engine, {COPIES} samples a prompt, sharing": lambda: sum(
                through(batched)([request], many) for request in some
            ),
        }
        seconds: dict[str, list[float]] = {what: [] for what in ways}
        tokens = {}
        for number in range(rounds + 1):
            for what, way in ways.items():
                start = time.perf_counter()
                tokens[what] = way()
                if number:
                    seconds[what].append(time.perf_counter() - start)
    names = list(ways)
    pairs = [(0, 0, None), (1, 0, None), (2, 1, 5.0), (3, 3, None), (4, 3, None)]
    return [compare(names[place], names[base], tokens[names[place]], seconds, wanted) for place, base, wanted in pairs]


def compare(what: str, against: str, tokens: int, seconds: dict[str, list[float]], wanted: float | None) -> Way:
    """The median ratio over rounds."""
    ratios = [base / own for base, own in zip(seconds[against], seconds[what], strict=True)]
    return Way(
        what,
        tokens,
        [round(value, 3) for value in seconds[what]],
        against,
        round(statistics.median(ratios), 2),
        wanted,
    )


def format_table(ways: list[Way]) -> str:
    """Lays the figures out for reading."""
    head = f"{'':<52}{'tokens':>8}{'seconds':>9}{'tokens/s':>10}{'ratio':>8}"
    rows = []
    for way in ways:
        seconds = statistics.median(way.seconds)
        speed = way.tokens / seconds
        rows.append(f"{way.what:<52}{way.tokens:>8}{seconds:>9.2f}{speed:>10.0f}{way.ratio:>8.2f}  {way.verdict}")
    ratios = [f"{way.what} against {way.against}: {way.ratio:.1f}×" for way in ways if way.what != way.against]
    return "\n".join([head, *rows, *ratios])


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what batches bring to the hf engine.")
    parser.add_argument("--prompts", type=int, default=64, help="prompts with a picture each (default: 64)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is timed (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()

    machine = describe_machine()
    with redirect_stdout(sys.stderr):  # LLaMA-Factory logs to standard output
        ways = measure(options.prompts, options.rounds)
    report = {
        "benchmark": "sampling",
        "command": f"python benchmarks/sampling.py --prompts {options.prompts} --rounds {options.rounds}",
        "date": date.today().isoformat(),
        "machine": machine,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "setting": f"tiny Qwen2-VL, float32, one CPU thread, {TOKENS} tokens a sample",
        "ways": [asdict(way) for way in ways],
    }
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"sampling-{report['date']}.json"
    target.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2) if options.json else f"{format_table(ways)}\nWritten to {target}")
    return 0 if all(way.verdict != "TOO SLOW" for way in ways) else 1


if __name__ == "__main__":
    sys.exit(main())
