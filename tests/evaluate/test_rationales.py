# SPDX-License-Identifier: Apache-2.0
"""Rationales against references, accuracy by kind of question, and win rates."""

import json
from string import ascii_uppercase

import pytest

from llamafactory_mmself.data.questions import Question
from llamafactory_mmself.evaluate.rationales import bleu, by_kind, overlap, rouge_l
from llamafactory_mmself.evaluate.stats import StatsError, bootstrap_mean
from llamafactory_mmself.evaluate.win_rate import FORM, PLACEHOLDERS, win_rate
from llamafactory_mmself.generate.judge import Judge
from llamafactory_mmself.generate.types import Completion
from llamafactory_mmself.prompts import load_prompt


@pytest.fixture(scope="module")
def golden(shared_golden):
    return json.loads((shared_golden / "ares.json").read_text())


def test_published_overlap(golden):
    for case in golden["text_overlap"]:
        pair = (case["reference"], case["prediction"])
        assert bleu(*pair, 1) == pytest.approx(case["bleu1"], abs=1e-6)
        assert bleu(*pair, 4) == pytest.approx(case["bleu4"], abs=1e-6)
        assert rouge_l(*pair) == pytest.approx(case["rouge_l_f"], abs=1e-6)


def test_overlap_of_a_set():
    references = {"a": "The cat sat on the mat.", "b": "", "c": "A dog."}
    found = overlap(references, {"a": "The cat sat on the mat.", "b": "x", "c": ""}, embed=lambda t: [[1.0]] * len(t))
    assert (found.pairs, found.empty, found.bleu4, found.rouge_l, found.similarity) == (2, 1, 0.5, 0.5, 1.0)
    with pytest.raises(ValueError, match="reference"):
        overlap({}, {"a": "x"})


def test_published_accuracies(golden):
    case = golden["accuracy_breakdown"]
    questions, correct = [], {}
    for name, row in case["problems"].items():
        images = ("x.png",) if row["image"] else ()
        answer = ascii_uppercase[row["answer"]]
        questions.append(Question(name, "?", answer, images, tuple("abcde"), row))
        if name in case["predictions"]:
            correct[name] = case["predictions"][name] == row["answer"]
    found = by_kind(questions, correct)
    for name, text in case["answer_scores"].items():
        assert f"{100 * found[name.removeprefix('acc_')].accuracy:.2f}" == text


def test_a_kind_without_questions_has_no_accuracy():
    found = by_kind([Question("1", "?", "A")], {"1": True})
    assert found["natural"].accuracy is None
    assert found["no_context"].accuracy == 1


class Prefers:
    """A judge's engine that prefers the text with most letters, or always the same place."""

    name, policy = "fake", "fake"

    def __init__(self, always=None):
        self.always = always

    def generate(self, requests, params, seed):
        found = []
        for request in requests:
            text = request.messages[0].content
            first, second = text.split("Reasoning A:\n")[1].split("\nWhich reasoning")[0].split("\nReasoning B:\n")
            better = "A" if len(first) > len(second) else "B" if len(second) > len(first) else "tie"
            found.append([Completion(f"Because.\nChoice: {self.always or better}", (), "stop")])
        return found


def judge(**options):
    return Judge(Prefers(**options), load_prompt(None, "judge_pair.txt", PLACEHOLDERS), FORM)


QUESTIONS = [Question(name, "Why?", "A", (), ("x", "y")) for name in "abcd"]


def test_win_rates():
    ours = {"a": "long text", "b": "same", "c": "x", "d": "longer text"}
    theirs = {"a": "x", "b": "same", "c": "long text", "d": "x"}
    found = win_rate(QUESTIONS, ours, theirs, judge())
    assert (found.wins, found.ties, found.losses, found.unparsed, found.swapped) == (2, 1, 1, 0, 0)
    assert found.rate.value == 0.625
    assert found.rate.value in found.rate.interval


def test_a_judge_of_places_wins_nothing():
    texts = dict.fromkeys("abcd", "x")
    found = win_rate(QUESTIONS, texts, texts, judge(always="A"))
    assert (found.wins, found.ties, found.swapped) == (0, 4, 4)
    with pytest.raises(StatsError):
        win_rate(QUESTIONS, texts, texts, judge(always="perhaps"))


def test_bootstrap_of_a_mean():
    found = bootstrap_mean([0.0, 1.0] * 50)
    assert found.value == 0.5
    assert found.interval.low < 0.5 < found.interval.high
    with pytest.raises(StatsError):
        bootstrap_mean([])
