# SPDX-License-Identifier: Apache-2.0
"""Scores and test-time selection with a made-up model."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llamafactory_mmself.data.questions import Question, write_questions
from llamafactory_mmself.evaluate.answers import EvaluateError, disputed, score
from llamafactory_mmself.evaluate.curves import write_curve
from llamafactory_mmself.evaluate.scaling import read_source, scaling_run
from llamafactory_mmself.evaluate.select import SelectOptions, scale
from llamafactory_mmself.files import write_json, write_jsonl
from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.jobs import SampleJob, run_job
from llamafactory_mmself.generate.types import Completion, Request, Sample, SamplingParams
from llamafactory_mmself.recipes.lengths import TokenLimit
from llamafactory_mmself.recipes.prompts import Prompts
from llamafactory_mmself.recipes.records import Checked, verify_samples


QUESTIONS = [
    Question(f"q{number}", f"Question {number}?", "ABCD"[number % 4], (), ("1", "2", "3", "4"), {"category": group})
    for number, group in enumerate(["count", "count", "where"])
]


def checked(answers: Sequence[Sequence[str]]) -> list[Checked]:
    """Answers of each question, "?" for one that cannot be read."""
    samples = [
        Sample(f"q{at}#{k}", f"q{at}", k, "p", Completion("..." if text == "?" else f"Answer: {text}", (1,), "stop"))
        for at, group in enumerate(answers)
        for k, text in enumerate(group)
    ]
    return verify_samples(QUESTIONS, samples, "letters", 0)


class Model:
    """Right answers are A, B, C. Solves q0 always, q1 in every third sample, q2 never; selects any right candidate."""

    name = "openai"
    policy = "made-up"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def generate(self, requests: Sequence[Request], params: SamplingParams, seed: int) -> list[list[Completion]]:
        return [[self._answer(item, k) for k in range(params.n)] for item in requests]

    def _answer(self, request: Request, k: int) -> Completion:
        self.asked.append(request.id)
        question, _, n = request.id.partition("@")
        right = {"q0": "A", "q1": "B", "q2": "C"}[question]
        prompt = request.messages[-1].content
        if n:
            letter = right if f"I say {right}" in prompt else "D"
        else:
            letter = right if question == "q0" or (question == "q1" and k % 3 == 2) else "D"
        return Completion(f"I say {letter} {'x' * k}\nAnswer: {letter}", (1, 2, 3), "stop", None, 10)

    def close(self) -> None:
        """Nothing to free."""


def runner(model: Model):
    config = EngineConfig(name="openai", api_base="http://localhost:1/v1", api_model="m", batch_size=2)
    return lambda job: run_job(job, config, engine=model, progress=False)


def test_scores_of_known_answers() -> None:
    scores = score(
        QUESTIONS,
        greedy=checked(["A", "D", "?"]),
        samples=checked(["ADA", "?BD", "DD?"]),
        select=checked(["A", "C", "D"]),
        profile="letters",
        seed=5,
    )
    named = scores.named()
    assert {name: item.right for name, item in named.items()} == {
        "test@1": (True, False, False),
        "vote@3": (True, True, False),
        "select@3": (True, False, False),
        "oracle@3": (True, True, False),
    }
    assert scores.greedy.unparsed == 1 and named["vote@3"].unparsed == 0
    assert scores.out_of_candidates is not None and scores.out_of_candidates.count == 1
    assert scores.unparsed_samples is not None and (scores.unparsed_samples.count, scores.unparsed_samples.n) == (2, 9)
    assert {name: rate.count for name, rate in named["oracle@3"].categories.items()} == {"count": 2, "where": 0}
    values = json.loads(json.dumps(scores.to_dict()))["scores"]["vote@3"]
    assert values["n"] == 3 and values["seed"] == 5 and values["profile"] == "letters" and values["version"] >= 1
    assert values["interval"]["low"] < values["accuracy"] < values["interval"]["high"]


def test_missing_answers_are_named() -> None:
    with pytest.raises(EvaluateError, match="question 'q2' has 0 answers, others have 1"):
        score(QUESTIONS, greedy=checked(["A", "B"]), profile="letters", seed=0)
    with pytest.raises(EvaluateError, match="samples that they chose from"):
        score(QUESTIONS, greedy=checked("ABC"), select=checked("ABC"), profile="letters", seed=0)


def test_selections_are_spared_where_samples_agree() -> None:
    samples = checked(["AAA", "BDB", "DDD"])
    asked = [item for item in checked(["A", "C", "D"]) if item.question == "q1"]
    assert {item.question for item in disputed(samples)} == {"q1"}
    scores = score(QUESTIONS, greedy=checked("ABC"), samples=samples, select=asked, profile="letters", seed=0)
    assert scores.named()["select@3"].right == (True, False, False)
    with pytest.raises(EvaluateError, match="selections: question 'q1' has 0 answers"):
        score(QUESTIONS, greedy=checked("ABC"), samples=samples, select=[], profile="letters", seed=0)
    unread = checked(["AAA", "BBB", "?DD"])
    assert {item.question for item in disputed(unread)} == {"q2"}, "an unparsed sample agrees with nothing"


def test_agreeing_candidates_cost_no_selection(tmp_path: Path) -> None:
    model = Model()
    options = SelectOptions(sizes=(2, 3), votes=2, spare_agreeing=True)
    points = scale(QUESTIONS, runner(model), options, Prompts.load(), tmp_path)
    found = {(point.method, point.n): point for point in points}
    assert {id for id in model.asked if "@" in id} == {"q1@2", "q1@3"}
    assert found["select", 3].score.correct == found["select-vote", 3].score.correct == 2
    assert (found["select", 3].cost.prompt, found["select", 3].cost.generated) == (10 + 10 / 3, 9 + 3 / 3)
    nothing = Model()
    (point,) = (
        point
        for point in scale(QUESTIONS[:1], runner(nothing), options, Prompts.load(), tmp_path / "one")
        if (point.method, point.n) == ("select", 3)
    )
    assert point.score.correct == 1 and point.cost.generated == 9 and "q0@3" not in nothing.asked


def test_selection_finds_what_voting_does_not(tmp_path: Path) -> None:
    model = Model()
    options = SelectOptions(sizes=(1, 2, 3, 4), votes=3, seed=1)
    points = scale(QUESTIONS, runner(model), options, Prompts.load(), tmp_path)
    right = {(point.method, point.n): point.score.correct for point in points}
    assert right["test@1", 1] == 1 and right["vote", 3] == 1
    assert right["select", 3] == right["select-vote", 3] == right["oracle", 3] == 2
    assert ("select", 1) not in right and right["oracle", 1] == 1
    cost = {(point.method, point.n): point.cost for point in points}
    assert (cost["vote", 4].prompt, cost["vote", 4].generated) == (10, 12)
    assert (cost["select", 4].prompt, cost["select", 4].generated) == (20, 15)
    assert (cost["select-vote", 4].prompt, cost["select-vote", 4].generated) == (20, 21)


def test_a_second_call_asks_nothing(tmp_path: Path) -> None:
    options, prompts = SelectOptions(sizes=(2, 3)), Prompts.load()
    once = scale(QUESTIONS, runner(Model()), options, prompts, tmp_path)
    again = Model()
    assert scale(QUESTIONS, runner(again), options, prompts, tmp_path) == once and again.asked == []


def test_candidates_are_dropped_before_prompts_are_cut(tmp_path: Path) -> None:
    def fits(prompt: str, target: str, images: Sequence[str]) -> int:
        return len(re.findall("I say", prompt))

    limit = TokenLimit(fits, 2)
    points = scale(QUESTIONS, runner(Model()), SelectOptions(sizes=(2, 4)), Prompts.load(), tmp_path, limit=limit)
    assert {point.n: point.dropped for point in points if point.method == "select"} == {2: 0, 4: 6}


def test_samples_that_were_drawn_before(tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    write_jsonl(file, (item.sample.to_row() for item in checked(["AA", "BD", "DC"])))
    points = scale(QUESTIONS, runner(Model()), SelectOptions((2,)), Prompts.load(), tmp_path / "out", samples=file)
    assert {point.method: point.score.correct for point in points}["oracle"] == 3
    with pytest.raises(EvaluateError, match=r"samples.jsonl: question 'q0' has 2 samples, 3 are needed"):
        scale(QUESTIONS, runner(Model()), SelectOptions((3,)), Prompts.load(), tmp_path / "out", samples=file)


def test_the_curve_as_table_and_files(tmp_path: Path) -> None:
    points = scale(QUESTIONS, runner(Model()), SelectOptions((1, 2, 3)), Prompts.load(), tmp_path)
    shown = write_curve(points, tmp_path, {"model": "made-up"})
    assert "n = 3, seed 0, verifier letters v" in shown and "generated" in shown and "unparsed" in shown
    stored = json.loads((tmp_path / "scaling.json").read_text())
    assert stored["model"] == "made-up" and len(stored["points"]) == len(points)
    assert len((tmp_path / "scaling.csv").read_text().splitlines()) == len(points) + 1
    for name in ("scaling.png", "scaling.svg", "cost.png", "cost.svg"):
        assert (tmp_path / name).stat().st_size > 1000


@dataclass
class ScalingRun:
    """A finished run of two rounds with made-up models, and what a scaling run of it asks for."""

    folder: Path
    trained: list[tuple[str, set[int]]] = field(default_factory=list)
    pooled: set[int] = field(default_factory=set)
    jobs: list[SampleJob] = field(default_factory=list)
    last_rounds: list[int] = field(default_factory=list)

    def train(self, folder: Path, name: str, base: str, out: Path) -> Path:
        rows = json.loads((folder / f"{name}.json").read_text())
        provenance = [json.loads(row["provenance"]) for row in rows]
        self.pooled = {item["iteration"] for row in provenance for item in row.get("shown", ())}
        sizes = (len(found["shown"]) for found, row in zip(provenance, rows, strict=True) if row["kind"] == "select")
        self.trained.append((base, set(sizes)))
        out.mkdir(parents=True)
        return out

    def sampler(self, base: str, model: Path):
        inner = runner(Model())
        return lambda job: (self.jobs.append(job), inner(job))[1]

    def last_round(self, number: int, requests: Sequence[Request], out: Path) -> Path:
        self.last_rounds.append(number)
        assert [request.id for request in requests] == [question.id for question in QUESTIONS]
        write_jsonl(out, (item.sample.to_row() for item in checked(["DAD", "DBB", "CDD"])))
        return out

    def measure(self, most: int = 4) -> dict[tuple[str, int], int]:
        points = scaling_run(
            read_source(self.folder),
            most,
            self.folder.parent / "out",
            train=self.train,
            sampler=self.sampler,
            last_round=self.last_round,
            options=SelectOptions(),
        )
        return {(point.method, point.n): point.score.n for point in points}


@pytest.fixture
def finished(tmp_path: Path):
    """Writes a run of one round of training, sampled in the given rounds."""

    def make(*sampled: int, **build: Any) -> ScalingRun:
        run = tmp_path / "run"
        write_questions(tmp_path / "questions.json", QUESTIONS)
        for number in sampled:
            rows = [item.to_row() | {"iteration": number} for item in checked(["AAD", "BDC", "DDC"])]
            write_jsonl(run / f"iter{number}" / "checked_samples_train.jsonl", rows)
        places = dict.fromkeys(("train_data", "test_data"), str(tmp_path / "questions.json"))
        settings = {"method": "r3v", "seed": 3, "iterations": 1, "base_model": "base", "train": {}}
        write_json(run / "run.json", {**settings, "build": {"bare_answers": True, **build}, **places})
        write_json(run / "manifest.json", {"steps": {"iter1/train": {}}})
        return ScalingRun(run)

    return make


def test_the_scaling_run_trains_a_selector_once_and_measures_it(finished) -> None:
    run = finished(0)
    found = run.measure()
    assert {n for method, n in found if method == "select"} == {2, 3, 4}
    assert run.trained == [("base", {2, 3, 4})]
    assert {job.out.name: job.params.n for job in run.jobs} == {
        "greedy.jsonl": 1,
        "samples.jsonl": 10,
        "selections.jsonl": 1,
    }
    run.measure()
    assert len(run.trained) == 1
    with pytest.raises(EvaluateError, match="between 2 and 10"):
        run.measure(11)


@pytest.mark.parametrize(
    ("sampled", "build", "asked", "pooled"),
    [((0,), {}, [1], {0, 1}), ((0, 1), {}, [], {0, 1}), ((0,), {"pool": "first"}, [], {0})],
    ids=["not sampled by the run", "sampled by the run", "first round only"],
)
def test_the_scaling_run_learns_from_the_last_round_as_well(finished, sampled, build, asked, pooled) -> None:
    run = finished(*sampled, **build)
    run.measure()
    assert (run.last_rounds, run.pooled) == (asked, pooled)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(EvaluateError, match=r"no run\.json"):
        read_source(tmp_path)
