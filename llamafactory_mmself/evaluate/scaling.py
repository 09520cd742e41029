# SPDX-License-Identifier: Apache-2.0
"""R3V's scaling run: a selector for several sizes, trained from the base model on all rounds of a finished run."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.questions import Question, read_questions
from ..files import digest, read_json, read_jsonl, write_json
from ..generate.jobs import read_samples
from ..generate.types import Request
from ..recipes import r3v
from ..recipes.examples import write_dataset
from ..recipes.lengths import TokenLimit, fitting
from ..recipes.prompts import Prompts
from ..recipes.records import Checked, verify_samples
from .answers import EvaluateError
from .select import Point, Run, SelectOptions, scale


DATASET = "select_scaling"
SAMPLES = 10  # samples of each test question

Train = Callable[[Path, str, str, Path], Path]
"""(folder of the data set, its name, base model, output folder) -> the trained model or adapter."""

Sampler = Callable[[str, Path], Run]
"""(base model, what training returned) -> runs jobs with it."""

LastRound = Callable[[int, Sequence[Request], Path], Path]
"""(number of a round, requests, samples file) -> asks that round's model as the run asked the earlier ones'."""


@dataclass(frozen=True)
class Source:
    """What a scaling run takes from a finished run of the loop.

    Attributes:
        settings: the recipe.
        train_questions: the questions that it learnt from.
        test_questions: the held-out ones.
        pool: checked solutions of its rounds.
        last: the last round that has a model.
    """

    settings: Mapping[str, Any]
    train_questions: Sequence[Question]
    test_questions: Sequence[Question]
    pool: Sequence[Checked]
    last: int

    @property
    def last_is_missing(self) -> bool:
        """Whether the last round's solutions are not in the pool: the loop ends before anything learns from them."""
        first_only = self.settings.get("build", {}).get("pool") == "first"
        return not first_only and all(item.iteration != self.last for item in self.pool)


def read_source(run: Path) -> Source:
    """Reads a finished run of R3V.

    Raises:
        EvaluateError: the folder is no such run, or it has no checked samples or test questions.
        FileError: a file is damaged.
    """
    if not (run / "run.json").is_file():
        raise EvaluateError(f"{run} is no run of `mmself loop`: it has no run.json. Give the recipe's output_dir.")
    settings = read_json(run / "run.json")
    if settings["method"] != "r3v":
        raise EvaluateError(f"{run} is a run of {settings['method']}; a selector is trained from a run of r3v.")
    if not settings.get("test_data"):
        raise EvaluateError(f"{run}: its recipe has no `test_data` to select for.")
    rounds = range(settings["iterations"] + 1)
    steps = read_json(run / "manifest.json")["steps"]
    last = max((number for number in rounds if f"iter{number}/train" in steps), default=0)
    files = [run / f"iter{number}" / "checked_samples_train.jsonl" for number in rounds[: last + 1]]
    pool = [Checked.from_row(row) for path in files if path.is_file() for row in read_jsonl(path)]
    if not pool:
        raise EvaluateError(f"{run} has no iter*/checked_samples_train.jsonl: finish at least one round first.")
    train, test = (read_questions(Path(settings[name])) for name in ("train_data", "test_data"))
    return Source(settings, train, test, pool, last)


def scaling_run(
    source: Source,
    most: int,
    out: Path,
    *,
    train: Train,
    sampler: Sampler,
    last_round: LastRound,
    options: SelectOptions,
    limit: TokenLimit | None = None,
) -> list[Point]:
    """Trains the selector on all rounds, the last one too, and measures it for 2 to `most` candidates.

    Args:
        source: the finished run.
        most: largest number of candidates.
        out: folder for data set, model and samples; a call that was stopped goes on from them.
        train: trains from a base model.
        sampler: samples with what was trained.
        last_round: samples the training questions with the last round's model, where the run has not.
        options: how to sample and check; its sizes are replaced by 2 to `most`.
        limit: what fits into training rows and prompts.

    Raises:
        EvaluateError: `most` is not between 2 and 10.
        RecipeError: no examples can be built.
    """
    if not 2 <= most <= SAMPLES:
        raise EvaluateError(f"The largest number of candidates lies between 2 and {SAMPLES}, found {most}.")
    settings, sizes = source.settings, tuple(range(2, most + 1))
    prompts = Prompts.load(settings.get("prompts"))
    built = replace(r3v.R3VOptions.from_dict(settings.get("build") or {}), select=True, select_candidates=sizes)
    pool = [*source.pool, *_last_solutions(source, prompts, out, last_round)]
    examples = r3v.build(source.train_questions, pool, built, prompts, int(settings["seed"]), limit=limit)
    warmup = r3v.warmup_examples(Path(settings["warmup"])) if settings.get("warmup") else []
    dataset = write_dataset(out / "train", DATASET, [*fitting(warmup, limit), *examples])
    base = str(settings["base_model"])
    model = _trained(dataset, base, settings.get("train") or {}, out / "model", train)
    # Ten samples whatever `most` is, as published; selections see the newest of them.
    measured = replace(options, sizes=sizes, drawn=SAMPLES)
    return scale(source.test_questions, sampler(base, model), measured, prompts, out, limit=limit)


def _last_solutions(source: Source, prompts: Prompts, out: Path, last_round: LastRound) -> list[Checked]:
    """Checked solutions of the last round, if the run has none."""
    if not source.last_is_missing:
        return []
    ask = r3v.cot_requests(source.train_questions, prompts)
    samples = read_samples(last_round(source.last, ask, out / "samples_train.jsonl"))
    return verify_samples(source.train_questions, samples, source.settings.get("verifier", "letters"), source.last)


def _trained(dataset: Path, base: str, arguments: Mapping[str, Any], out: Path, train: Train) -> Path:
    """Trains unless that was done before with the same data and settings; goes on with a stopped training."""
    text = json.dumps([digest(dataset), base, arguments], sort_keys=True)
    key, mark = hashlib.sha256(text.encode()).hexdigest(), out.with_name("trained.json")
    before = read_json(mark) if mark.exists() else {}
    if before.get("key") == key and before.get("model"):
        return Path(before["model"])
    if before.get("key") != key and out.exists():
        shutil.rmtree(out)
    write_json(mark, {"key": key, "model": None})
    model = train(dataset.parent, dataset.stem, base, out)
    write_json(mark, {"key": key, "model": str(model)})
    return model
