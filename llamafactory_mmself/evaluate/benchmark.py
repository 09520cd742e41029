# SPDX-License-Identifier: Apache-2.0
"""Runs benchmarks: reads a task's items, lets a model answer them, asks a judge where one is needed, and scores.

Each task has a folder `OUT/<task>`: `samples.jsonl` with its manifest (see `generate.jobs`), `predictions.jsonl`,
`verdicts.jsonl` and `judge_cache.jsonl` where there is a judge, `columns.json` and `scores.json`. Where predictions
come with turns of correction, `OUT/turn<k>` has such folders of each turn.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from ..files import read_json
from ..generate.jobs import PACKAGES, SampleJob, read_samples
from ..generate.requests import question_prompt
from ..generate.seeds import derived_seed
from ..generate.types import Engine, Request, SamplingParams
from ..prompts import Prompt
from . import metrics
from .metrics.base import Item, Metric
from .predictions import (
    PREDICTIONS,
    Prediction,
    find_turns,
    from_samples,
    read_predictions,
    read_turns,
    write_predictions,
)
from .results import SCORES
from .scoring import Scored, score
from .tasks.task import Task
from .verdicts import CACHE, Judging


Run = Callable[[SampleJob], Path]  # samples a job, or finds it done; returns its file
SAMPLES = "samples.jsonl"
PICTURES = "pictures"  # in the output folder: pictures from inside of tables
TURN = "turn"


class BenchmarkError(ValueError):
    """A benchmark that cannot be run as it was asked for, with the reason and what to do."""


@dataclass(frozen=True)
class Settings:
    """How to run benchmarks.

    Attributes:
        data: folder of all benchmarks, or of the one that is run.
        out: folder to write.
        seed: of sampling and of the bootstrap.
        temperature: of sampling; 0 is greedy.
        top_p: nucleus; 1 is off.
        max_new_tokens: where answers are cut, instead of the tasks' own limits.
        limit: so many items of each task, spread over it.
        quirks: `published` scores as the published code does, where a metric knows how.
        draws: of the bootstrap behind the intervals.
        prompts: the user's prompts, by the name of a task or of a packaged prompt.
        engine: what is told about the model beside its policy.
        command: what is told about how this was run.
    """

    data: Path
    out: Path
    seed: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    limit: int | None = None
    quirks: Literal["fixed", "published"] | None = None
    draws: int = 1000
    prompts: Mapping[str, str] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""

    def params(self, task: Task) -> SamplingParams:
        """How a task's answers are sampled."""
        return SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p if self.temperature else 1.0,
            max_new_tokens=self.max_new_tokens or task.max_new_tokens,
        )

    def prompt(self, task: Task) -> Prompt:
        """The prompt that a task's questions are put into."""
        return question_prompt(self.prompts.get(task.name) or self.prompts.get(task.prompt) or task.prompt)


@dataclass(frozen=True)
class Answered:
    """A task whose questions have answers.

    Attributes:
        task: the task.
        metric: scores it; None where answers are scored elsewhere.
        items: as the benchmark has them.
        asked: with the texts that the model was shown.
        turns: the predictions after each turn of correction; one entry where nothing was corrected.
        prompt: what the questions were put into.
        params: how answers were sampled; None if they were there already.
        foreign: whether answers were made elsewhere.
    """

    task: Task
    metric: Metric | None
    items: Sequence[Item]
    asked: Sequence[Item]
    turns: Sequence[Sequence[Prediction]]
    prompt: Prompt
    params: SamplingParams | None
    foreign: bool = False

    def folder(self, out: Path, turn: int) -> Path:
        """Where a turn's results are."""
        return (out / f"{TURN}{turn}" if len(self.turns) > 1 else out) / self.task.name


@dataclass(frozen=True)
class Outcome:
    """What came of running tasks.

    Attributes:
        scored: results, by task and turn.
        not_run: task -> why.
    """

    scored: Sequence[Scored]
    not_run: Mapping[str, str]


def evaluate(
    tasks: Sequence[Task],
    settings: Settings,
    *,
    run: Run | None = None,
    predictions: Path | None = None,
    judge: Engine | None = None,
    scorers: Mapping[str, Metric] | None = None,
    release: Callable[[], None] = lambda: None,
    tell: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Runs tasks: all answers first, then the model can go, then judge and scores.

    A task that fails does not stop the others; a task alone raises.

    Args:
        tasks: what to run.
        settings: how.
        run: samples jobs with the model. Without it, and without predictions, those of an earlier run are scored.
        predictions: file or folder of predictions that were made elsewhere; see `predictions.find_turns`.
        judge: judges answers.
        scorers: metrics to use instead of the tasks' own, by task.
        release: called when the last answer is there; frees the model.
        tell: called with a line when a task starts, ends or fails.

    Raises:
        ValueError, OSError: of a task that is run alone.
    """
    alone, own = len(tasks) == 1, scorers or {}
    answered: list[Answered] = []
    not_run: dict[str, str] = {}
    scored: list[Scored] = []
    for task in tasks:
        tell(f"{task.name}: reading and answering")
        try:
            answered.append(answer(task, settings, run, predictions, judge, own.get(task.name), alone))
        except (ValueError, OSError) as error:
            if alone:
                raise
            not_run[task.name] = str(error)
            tell(f"{task.name}: not run: {error}")
    release()
    for item in answered:
        tell(f"{item.task.name}: scoring")
        try:
            scored += [finish(item, settings, turn, judge) for turn in range(len(item.turns))]
        except (ValueError, OSError) as error:
            if alone:
                raise
            not_run[item.task.name] = str(error)
            tell(f"{item.task.name}: not scored: {error}")
    return Outcome(scored, not_run)


def answer(
    task: Task,
    settings: Settings,
    run: Run | None = None,
    predictions: Path | None = None,
    judge: Engine | None = None,
    metric: Metric | None = None,
    alone: bool = True,
) -> Answered:
    """Reads a task's items and gets their answers: from the model, from elsewhere, or from an earlier run.

    Args:
        task: the task.
        settings: how to run it.
        run, predictions, judge: see `evaluate`.
        metric: to use instead of the task's own.
        alone: whether no other task is run.

    Raises:
        ValueError, OSError: what the task needs is not there; nothing was sampled then. Or sampling failed; finished
            batches are kept.
    """
    generates = run is not None and predictions is None
    if metric is None:
        check_needs(task, judge is not None or not generates)
        task.check_scorer_files(settings.data)
        metric = metric_of(task, settings)
    prompt = settings.prompt(task)
    items = task.items(settings.data, settings.out / PICTURES, settings.limit)
    asked = task.asked(items, prompt)
    params = settings.params(task) if generates else None
    limited = settings.limit is not None
    if predictions is not None:
        turns = read_turns(find_turns(predictions, task.name, alone), items, limited)
    elif run is not None:
        turns = [_sampled(task, asked, settings, run)]
    else:
        turns = _earlier(task, items, settings, limited)
    found = Answered(task, metric, items, asked, turns, prompt, params, predictions is not None)
    if generates or found.foreign:
        for turn, answers in enumerate(turns):
            path = found.folder(settings.out, turn) / PREDICTIONS
            write_predictions(path, asked, answers, prompted=generates)
    return found


def finish(found: Answered, settings: Settings, turn: int = 0, judge: Engine | None = None) -> Scored:
    """Judges and scores the answers after a turn; writes `columns.json` and `scores.json`.

    Raises:
        ValueError: a judge is needed, or the metric cannot score the answers.
    """
    folder = found.folder(settings.out, turn)
    facts = {
        "title": found.task.title,
        "turn": turn if len(found.turns) > 1 else None,
        "limit": settings.limit,
        "seed": settings.seed,
        "draws": settings.draws,
        "items": _digest_of(found.items),
        "policy": ", ".join(sorted({prediction.policy for prediction in found.turns[turn]} - {""})),
        **_generation(found, folder, settings),
        "versions": versions(),
        "command": settings.command,
    }
    return score(
        found.task,
        found.metric,
        metric_options(found.task, settings),
        found.items,
        found.turns[turn],
        folder,
        facts,
        Judging(folder, settings.prompts, judge, settings.out / found.task.name / CACHE),
    )


def metric_of(task: Task, settings: Settings) -> Metric | None:
    """The task's metric; None where answers are scored elsewhere."""
    if task.metric is None:
        return None
    return metrics.metric(task.metric, **task.scorer_options(settings.data), **_quirks(task, settings))


def metric_options(task: Task, settings: Settings) -> dict[str, Any]:
    """The metric's options as `scores.json` tells them: those of the task's file, and quirks."""
    return {**task.metric_options, **_quirks(task, settings)}


def check_needs(task: Task, judge: bool) -> None:
    """Sees, before anything is sampled, that all is there that scoring needs.

    Raises:
        BenchmarkError: naming what is missing and how to get it.
    """
    if task.judged and not judge:
        raise BenchmarkError(
            f"{task.title} is scored by a judge: give --judge judge.yaml, with an engine's settings (name, model "
            "and template, or api_base and api_model)."
        )
    for need in task.needs:
        kind, _, name = need.partition(":")
        if kind in ("nltk", "spacy") and find_spec(kind) is None:
            raise BenchmarkError(
                f"{task.title} is scored with {kind}: pip install 'llamafactory-mmself[eval]' brings it."
            )
        if kind == "spacy" and name and find_spec(name) is None:
            raise BenchmarkError(
                f"{task.title} is scored with spaCy's model {name}: python -m spacy download {name} brings it."
            )


def knows_quirks(task: Task) -> bool:
    """Whether a task's metric can score as the published scorer does."""
    return task.metric is not None and "quirks" in metrics.options(task.metric)


def _quirks(task: Task, settings: Settings) -> dict[str, str]:
    """The published scorers' ways, where they are asked for and the metric knows them."""
    return {"quirks": settings.quirks} if settings.quirks is not None and knows_quirks(task) else {}


def versions() -> dict[str, str]:
    """The packages that answers and scores may depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _sampled(task: Task, items: Sequence[Item], settings: Settings, run: Run) -> list[Prediction]:
    requests = [Request.ask(item.id, "<image>\n" * len(item.images) + item.prompt, item.images) for item in items]
    out = settings.out / task.name / SAMPLES
    job = SampleJob(requests, settings.params(task), derived_seed(settings.seed, task.name), out)
    return from_samples(read_samples(run(job)))


def _earlier(task: Task, items: Sequence[Item], settings: Settings, limited: bool) -> list[list[Prediction]]:
    """The predictions that an earlier run left; those with turns or those without, whichever are newer."""
    turns: list[Path] = []
    while (file := settings.out / f"{TURN}{len(turns)}" / task.name / PREDICTIONS).is_file():
        turns.append(file)
    whole = settings.out / task.name / PREDICTIONS
    if not turns and not whole.is_file():
        raise BenchmarkError(f"There is nothing to score again: no {whole}. Run the task without --rescore first.")
    if not turns or (whole.is_file() and whole.stat().st_mtime_ns > turns[0].stat().st_mtime_ns):
        turns = [whole]
    return [read_predictions(file, items, limited) for file in turns]


def _generation(found: Answered, folder: Path, settings: Settings) -> dict[str, Any]:
    """How answers came about: as they were sampled just now, or as the scores of an earlier run tell."""
    if found.params is not None:
        sampling = found.params.to_dict()
        return {"prompt": found.prompt.digest, "sampling": sampling, "engine": dict(settings.engine)}
    file = folder / SCORES
    old = read_json(file) if file.is_file() and not found.foreign else {}
    return {name: old.get(name) for name in ("prompt", "sampling", "engine")}


def _digest_of(items: Sequence[Item]) -> str:
    """What makes two results comparable item by item: all that answers are held against, not how questions were put.

    Of pictures the names count, not the folders: a copy of the data elsewhere is the same.
    """
    facts = [
        [item.id, [Path(image).name for image in item.images], _without_folders(dict(item.truth), item.images)]
        for item in items
    ]
    return hashlib.sha256(json.dumps(facts, default=str, sort_keys=True).encode()).hexdigest()[:16]


def _without_folders(value: Any, images: Sequence[str]) -> Any:
    """A truth with names in the place of the item's pictures' paths."""
    if isinstance(value, Mapping):
        return {str(key): _without_folders(one, images) for key, one in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [_without_folders(one, images) for one in value]
    return Path(value).name if isinstance(value, str) and value in images else value
