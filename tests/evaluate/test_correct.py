# SPDX-License-Identifier: Apache-2.0
"""Self-correction with a made-up model and a made-up verifier."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from llamafactory_mmself.data.questions import Question
from llamafactory_mmself.evaluate.answers import EvaluateError
from llamafactory_mmself.evaluate.correct import CorrectOptions, Point, correct
from llamafactory_mmself.evaluate.turns import write_turns
from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.jobs import run_job
from llamafactory_mmself.generate.types import Completion, Request, SamplingParams
from llamafactory_mmself.recipes.prompts import SherlockPrompts


PROMPTS = SherlockPrompts.load()
# Right answers are A, B, C, D.
QUESTIONS = [Question(f"q{at}", f"Question {at}?", "ABCD"[at], (), ("1", "2", "3", "4")) for at in range(4)]
# What the model answers at each turn: mended, spoilt, mended late, never right.
TURNS = {"q0": "BAAA", "q1": "BBCC", "q2": "AABC", "q3": "AAAA"}


class Model:
    """Answers by script: question -> letters by turn; the k-th parallel chain starts k turns later."""

    name = "openai"

    def __init__(self, policy: str = "made-up") -> None:
        self.policy = policy
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request], params: SamplingParams, seed: int) -> list[list[Completion]]:
        self.asked += requests
        return [[self._answer(request, k) for k in range(params.n)] for request in requests]

    def _answer(self, request: Request, k: int) -> Completion:
        id = request.id.partition("@")[0]
        text = request.messages[-1].content
        turn = int(text.partition("turn ")[2][:1]) + 1 if "turn " in text else k
        letter = TURNS[id][min(turn, 3)]
        return Completion(f"turn {turn} <CONCLUSION> ({letter}) </CONCLUSION>", (1, 2, 3), "stop", None, 10)

    def close(self) -> None:
        """Nothing to free."""


class Judge(Model):
    """Is satisfied with what it is told to be satisfied with."""

    def __init__(self, satisfied: Sequence[str], cut: bool = False) -> None:
        super().__init__("judge")
        self.satisfied, self.cut = satisfied, cut

    def _answer(self, request: Request, k: int) -> Completion:
        text = request.messages[-1].content
        verdict = "yes" if any(mark in text for mark in self.satisfied) else "no"
        reason = "length" if self.cut else "stop"
        return Completion(f"The second step is odd.\nVerdict: {verdict}", (1, 2), reason, None, 20)


def runner(model: Model):
    config = EngineConfig(name="openai", api_base="http://localhost:1/v1", api_model=model.policy, batch_size=2)
    return lambda job: run_job(job, config, engine=model, progress=False)


def measure(out: Path, model: Model | None = None, judge: Judge | None = None, **options) -> dict[tuple, Point]:
    chosen = CorrectOptions(**options)
    run = None if judge is None else runner(judge)
    points = correct(QUESTIONS, runner(model or Model()), chosen, PROMPTS, out, judge=run)
    return {(point.method, point.turn): point for point in points}


def test_a_fixed_number_of_turns(tmp_path) -> None:
    found = measure(tmp_path)
    single = [found["turn", turn] for turn in range(4)]
    assert [point.score.right for point in single] == [
        (False, True, False, False),
        (True, True, False, False),
        (True, False, False, False),
        (True, False, True, False),
    ]
    assert [(point.fixed.count, point.broken.count) for point in single] == [(0, 0), (1, 0), (1, 1), (2, 1)]
    assert [point.corrected for point in single] == [4, 4, 4, 4]
    assert [(point.cost.prompt, point.cost.generated) for point in single] == [(10, 3), (20, 6), (30, 9), (40, 12)]
    assert found["turn-vote", 3].score.right == (True, True, False, False)
    assert ("turn-vote", 0) not in found and not any(method == "parallel-vote" for method, _ in found)


def test_each_turn_sees_the_question_and_the_last_response_alone(tmp_path) -> None:
    model = Model()
    measure(tmp_path, model)
    last = [request for request in model.asked if request.id == "q0@0"][-1]
    assert len(last.messages) == 1 and "Question 0?" in last.messages[0].content
    assert "turn 2 " in last.messages[0].content and "turn 1 " not in last.messages[0].content


def test_an_unchanged_answer_ends_a_chain(tmp_path) -> None:
    found = measure(tmp_path, stop="unchanged")
    assert [found["turn", turn].corrected for turn in range(4)] == [4, 4, 1, 0]
    assert found["turn", 3].score.right == (True, True, False, False)  # q1 is not spoilt, q2 not mended
    assert found["turn", 3].cost.generated == (3 * 4 + 3 * 4 + 3) / 4


def test_a_satisfied_judge_ends_a_chain(tmp_path) -> None:
    judge = Judge(["<CONCLUSION> (B)"])
    found = measure(tmp_path, judge=judge, stop="judge")
    assert [found["turn", turn].corrected for turn in range(4)] == [4, 2, 2, 1]
    assert found["turn", 3].score.right == (False, True, False, False)
    assert "Question 0?" in judge.asked[0].messages[0].content
    assert len(judge.asked) == 4 + 2 + 2
    responses, verdicts = 4 + 2 + 2 + 1, 4 + 2 + 2
    assert found["turn", 3].cost.generated == (3 * responses + 2 * verdicts) / 4


def test_a_verdict_that_is_cut_satisfies_nobody(tmp_path) -> None:
    found = measure(tmp_path, judge=Judge(["turn"], cut=True), stop="judge")
    assert [found["turn", turn].corrected for turn in range(4)] == [4, 4, 4, 4]


def test_a_critique_enters_the_next_prompt(tmp_path) -> None:
    model = Model()
    measure(tmp_path, model, Judge([]), critique=True, turns=1)
    corrections = [request.messages[0].content for request in model.asked if "@" in request.id]
    assert len(corrections) == 4 and all("The second step is odd." in text for text in corrections)
    assert not any("Verdict" in text for text in corrections)


def test_parallel_responses_vote_before_and_after(tmp_path) -> None:
    found = measure(tmp_path, parallel=3, first=SamplingParams(temperature=1.0), turns=1)
    assert found["parallel-vote", 0].score.right == (True, True, False, False)
    assert found["parallel-vote", 1].score.right == (True, False, False, False)
    assert found["parallel-vote", 1].broken.count == 1 and found["parallel-vote", 1].corrected == 12
    assert found["turn", 1].corrected == 4
    assert (found["turn", 1].cost.prompt, found["turn", 1].cost.generated) == (20, 6)
    assert (found["parallel-vote", 1].cost.prompt, found["parallel-vote", 1].cost.generated) == (40, 18)


def test_a_second_call_asks_nothing(tmp_path) -> None:
    once, again = measure(tmp_path), Model()
    assert measure(tmp_path, again) == once and again.asked == []


def test_settings_that_cannot_work_are_told(tmp_path) -> None:
    with pytest.raises(EvaluateError, match="Several greedy responses"):
        CorrectOptions(parallel=2)
    with pytest.raises(EvaluateError, match="no stop rule 'sometime'"):
        CorrectOptions(stop="sometime")  # type: ignore[arg-type]
    with pytest.raises(EvaluateError, match="need a verifier"):
        measure(tmp_path, stop="judge")
    with pytest.raises(EvaluateError, match="no questions"):
        correct([], runner(Model()), CorrectOptions(), PROMPTS, tmp_path)


def test_tables_and_plots(tmp_path) -> None:
    shown = write_turns(list(measure(tmp_path).values()), tmp_path, {"model": "m"})
    assert "wrong→right" in shown and "seed 0, verifier tagged v2" in shown
    for name in ("correct.png", "correct.svg", "flips.png", "cost.svg", "correct.csv"):
        assert (tmp_path / name).stat().st_size > 0
    values = json.loads((tmp_path / "correct.json").read_text())
    last = [point for point in values["points"] if point["method"] == "turn"][-1]
    assert values["model"] == "m" and last["wrong_to_right"]["count"] == 2 and last["right_to_wrong"]["count"] == 1
