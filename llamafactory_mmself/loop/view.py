# SPDX-License-Identifier: Apache-2.0
"""A run as a report sees it: what its folder holds so far."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.questions import Question, read_questions
from ..evaluate.results import SCORES
from ..evaluate.stats import Estimate, Interval, bootstrap_gain
from ..files import FileError, read_json, read_jsonl
from ..recipes.records import Checked, by_question
from .manifest import read_manifest
from .rounds import TASKS
from .sherlock import round_name
from .steps import LoopError


PURPOSES = ("test_greedy", "test_samples", "test_select")
CORRECTIONS = "test_correct"  # and the number of the turn
METHODS = ("test", "correct", "vote", "select", "oracle")


@dataclass(frozen=True)
class Reported:
    """A score of `scores.json`.

    Attributes:
        name: `test@1`, `vote@3` ...
        accuracy: share of right answers.
        interval: 95 % confidence.
        n: questions.
        unparsed: questions without a readable answer.
        seed: of the samples.
        verifier: profile and version.
        categories: the accuracy of each category of questions.
    """

    name: str
    accuracy: float
    interval: Interval
    n: int
    unparsed: int
    seed: int
    verifier: str
    categories: Mapping[str, float]

    @property
    def method(self) -> str:
        """One of `METHODS`."""
        return self.name.partition("@")[0]


@dataclass(frozen=True)
class TaskScore:
    """The headline of a task that a round's model was evaluated on.

    Attributes:
        task: the task's name.
        metric: name of the metric.
        figure: the headline's name.
        value: in the metric's unit; None if there is none, such as of CV-Bench without its 3D part.
        interval: 95 % confidence, or None.
        n: items.
        unparsed: answers that could not be read.
        conditions: versions of task and metric, for the report.
    """

    task: str
    metric: str
    figure: str
    value: float | None
    interval: Interval | None
    n: int
    unparsed: int
    conditions: str


@dataclass(frozen=True)
class IterationView:
    """A round, as far as it came.

    Attributes:
        number: 0 is the start.
        scores: by method; see `METHODS`.
        gain: of greedy accuracy over round 0, with a paired bootstrap; None for round 0 and before it is measured.
        out_of_candidates: share of selections that no candidate had.
        kinds: examples of each kind that the round was trained on.
        examples: a few rows of each kind.
        seconds: step (without the round) -> wall time.
        figures: step -> what it counted.
        tasks: task -> its score, of `evaluate.tasks`.
        answers: purpose -> question id -> checked answers, of the test questions.
    """

    number: int
    scores: Mapping[str, Reported] = field(default_factory=dict)
    gain: Estimate | None = None
    out_of_candidates: float | None = None
    kinds: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tasks: Mapping[str, TaskScore] = field(default_factory=dict)
    answers: Mapping[str, Mapping[str, Sequence[Checked]]] = field(default_factory=dict)


@dataclass(frozen=True)
class RunView:
    """A run.

    Attributes:
        folder: where it lies.
        settings: the recipe.
        iterations: the rounds that have begun.
        questions: the test questions, if their file is still there.
        current: the step at work, or the one that was interrupted; None between steps.
        finished: whether all its steps are done.
    """

    folder: Path
    settings: Mapping[str, Any]
    iterations: Sequence[IterationView]
    questions: Sequence[Question]
    current: str | None
    finished: bool = False

    @property
    def methods(self) -> list[str]:
        """The methods that any round has a score of, in the order of columns."""
        found = {method for view in self.iterations for method in view.scores}
        return [method for method in METHODS if method in found]

    def label(self, number: int) -> str:
        """What a round is besides its number, "" for nothing worth saying."""
        if self.settings.get("method") == "sherlock":
            return round_name(number)
        return "start" if number == 0 else ""

    @property
    def tasks(self) -> list[str]:
        """All tasks that any round has a score of, in order of first sight."""
        return list(dict.fromkeys(task for view in self.iterations for task in view.tasks))

    @property
    def kinds(self) -> list[str]:
        """All kinds of examples, in order of first sight."""
        return list(dict.fromkeys(kind for view in self.iterations for kind in view.kinds))

    @property
    def steps(self) -> list[str]:
        """All steps that took time, in order of first sight."""
        return list(dict.fromkeys(step for view in self.iterations for step in view.seconds))


def read_run(folder: Path, examples: int = 2, answers: bool = True) -> RunView:
    """Reads what a run has written so far; steps that are still missing are left out.

    Args:
        folder: the run's.
        examples: training examples of each kind to keep.
        answers: read answers, questions and training rows as well; without, gains and kinds are missing, and it is
            quick enough to look again every few seconds.

    Raises:
        LoopError: the folder is no run.
        FileError: a file is damaged.
    """
    folder = Path(folder)
    if not (folder / "run.json").is_file():
        raise LoopError(f"{folder} is no run of `mmself loop`: it has no run.json. Give the recipe's output_dir.")
    settings = read_json(folder / "run.json")
    stored = read_manifest(folder / "manifest.json")
    steps, planned = stored.get("steps", {}), stored.get("planned", [])
    current = folder / "current.json"
    numbers = [number for number in range(int(settings["iterations"]) + 1) if (folder / f"iter{number}").is_dir()]
    views: list[IterationView] = []
    start: dict[str, bool] = {}
    for number in numbers:
        given = _answers(folder / f"iter{number}") if answers else {}
        outcomes = {id: group[0].verdict.correct for id, group in given.get("test_greedy", {}).items()}
        start = outcomes if number == 0 else start
        gain = _gain(start, outcomes, int(settings.get("seed", 0))) if number else None
        views.append(_iteration(folder, number, steps, given, gain, examples if answers else None))
    step = read_json(current).get("step") if current.exists() else None
    finished = step is None and bool(planned) and steps.keys() >= set(planned)
    return RunView(folder, settings, views, _questions(settings) if answers else [], step, finished)


def _iteration(
    folder: Path,
    number: int,
    steps: Mapping[str, Any],
    answers: Mapping[str, Mapping[str, Sequence[Checked]]],
    gain: Estimate | None,
    examples: int | None,
) -> IterationView:
    place = folder / f"iter{number}"
    own = {name.partition("/")[2]: step for name, step in steps.items() if name.partition("/")[0] == f"iter{number}"}
    stored = read_json(place / "scores.json") if (place / "scores.json").exists() else {"scores": {}}
    scores = [_reported(item) for item in stored["scores"].values()]
    rate = stored.get("out_of_candidates")
    kinds, shown = ({}, {}) if examples is None else _training(place / "train", examples)
    return IterationView(
        number=number,
        scores={item.method: item for item in scores},
        gain=gain,
        out_of_candidates=None if rate is None else rate["share"],
        kinds=kinds,
        examples=shown,
        seconds={name: float(step["seconds"]) for name, step in own.items()},
        figures={name: step.get("figures", {}) for name, step in own.items()},
        tasks=_tasks(place / TASKS),
        answers=answers,
    )


def _tasks(place: Path) -> dict[str, TaskScore]:
    found = {}
    for path in sorted(place.glob(f"*/{SCORES}")):
        scores = read_json(path)
        headline = scores["figures"][scores["headline"]]
        ends = [headline["low"], headline["high"]]
        spec = scores["metric"]
        found[scores["task"]] = TaskScore(
            scores["task"],
            spec["name"],
            scores["headline"],
            headline["value"],
            None if None in ends else Interval(*ends),
            scores["n"],
            scores["unparsed"],
            f"{scores['task']} v{scores['version']}, metric {spec['name']} v{spec['version']}, n = {scores['n']}",
        )
    return found


def _reported(item: Mapping[str, Any]) -> Reported:
    return Reported(
        name=item["name"],
        accuracy=item["accuracy"],
        interval=Interval(**item["interval"]),
        n=item["n"],
        unparsed=item["unparsed"],
        seed=item["seed"],
        verifier=f"{item['profile']} v{item['version']}",
        categories={name: rate["share"] for name, rate in item["categories"].items()},
    )


def _answers(place: Path) -> dict[str, dict[str, list[Checked]]]:
    found: dict[str, dict[str, list[Checked]]] = {}
    turns = sorted(place.glob(f"checked_{CORRECTIONS}*.jsonl"), key=lambda path: (len(path.name), path.name))
    corrections = [path.stem.removeprefix("checked_") for path in turns]
    for purpose in (*PURPOSES, *corrections):
        path = place / f"checked_{purpose}.jsonl"
        if not path.exists():
            continue
        groups = by_question(Checked.from_row(row) for row in read_jsonl(path))
        found[purpose] = {id: sorted(group, key=lambda item: item.sample.k) for id, group in groups.items()}
    return found


def _gain(before: Mapping[str, bool], after: Mapping[str, bool], seed: int) -> Estimate | None:
    both = [id for id in before if id in after]
    if not both:
        return None
    old, new = [before[id] for id in both], [after[id] for id in both]
    return Estimate((sum(new) - sum(old)) / len(both), bootstrap_gain(old, new, seed=seed))


def _training(place: Path, examples: int) -> tuple[dict[str, int], dict[str, list[dict[str, Any]]]]:
    """Counts and first rows of each kind; pictures with their full path."""
    kinds: dict[str, int] = {}
    shown: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(place.glob("*.json")):
        if path.name == "dataset_info.json" or path.name.startswith("."):
            continue
        for row in read_json(path):
            kind = row.get("kind", "question" if row.get("answer") is not None else "")
            kinds[kind] = kinds.get(kind, 0) + 1
            if kinds[kind] <= examples:
                images = [str(place / image) for image in row.get("images") or ()]
                source = json.loads(row.get("provenance") or "{}")
                shown.setdefault(kind, []).append({**row, "images": images, "provenance": source})
    return dict(sorted(kinds.items())), shown


def _questions(settings: Mapping[str, Any]) -> list[Question]:
    path = settings.get("test_data")
    if not path or not Path(path).is_file():
        return []
    try:
        return read_questions(Path(path))
    except FileError:  # a picture has gone: the numbers are still worth a report
        return []
