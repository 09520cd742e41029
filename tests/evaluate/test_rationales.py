# SPDX-License-Identifier: Apache-2.0
"""Rationales against references, accuracy by kind of question, and win rates."""

import json
from string import ascii_uppercase

import pytest

from llamafactory_mmself.data.questions import Question
from llamafactory_mmself.evaluate.metrics import metric
from llamafactory_mmself.evaluate.metrics.base import Answer, Item
from llamafactory_mmself.evaluate.metrics.judged import joined
from llamafactory_mmself.evaluate.metrics.rationale import bleu, rouge_l
from llamafactory_mmself.evaluate.rationales import by_kind, overlap, win_rate
from llamafactory_mmself.generate.judge import Judge
from llamafactory_mmself.generate.types import Completion


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
    found = overlap(references, {"a": "The cat sat on the mat.", "b": "x", "c": ""}, lambda t: [[1.0]] * len(t))
    assert (found.pairs, found.empty, found.bleu4, found.rouge_l, found.similarity) == (2, 1, 0.5, 0.5, 0.5)
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
            first, second = (
                text.split("Explanation A:\n")[1].split("\nWhich explanation")[0].split("\nExplanation B:\n")
            )
            better = "A" if len(first) > len(second) else "B" if len(second) > len(first) else "tie"
            found.append([Completion(f"Because.\nChoice: {self.always or better}", (), "stop")])
        return found


def win_rates(ours, theirs, always=None):
    """The figures of the metric for the rationales of two models, and how many of them could be judged."""
    scorer = metric("win_rate")
    items = {name: Item(name, "Why?", (), {"baseline": theirs[name]}) for name in ours}
    judge = Judge(Prefers(always), scorer.rubric(), scorer.form)
    answers = [
        Answer(item, ours[name], joined([reply.text for reply in judge.ask(list(scorer.questions(item, ours[name])))]))
        for name, item in items.items()
    ]
    columns = scorer.columns(answers)
    return scorer.figures(columns), columns["parsed"].sum()


def test_win_rates():
    ours = {"a": "long text", "b": "same", "c": "x", "d": "longer text"}
    theirs = {"a": "x", "b": "same", "c": "long text", "d": "x"}
    figures, parsed = win_rates(ours, theirs)
    assert (figures["win"], figures["tie"], figures["lose"], parsed) == (50, 25, 25, 4)
    assert figures["win_rate"] == 62.5


def test_a_judge_of_places_wins_nothing():
    texts = dict.fromkeys("abcd", "x")
    figures, _ = win_rates(texts, texts, always="A")
    assert (figures["win"], figures["tie"]) == (0, 100)
    _, parsed = win_rates(texts, texts, always="perhaps")
    assert parsed == 0


def test_win_rate_of_two_files_of_rationales(tmp_path):
    questions = [Question(name, "Why?", "B", (), ("x", "y")) for name in "abc"]
    ours, theirs = {"a": "long text", "b": "x", "z": "no question"}, {"a": "x", "b": "x", "c": "alone"}
    found = win_rate(questions, ours, theirs, Prefers(), tmp_path / "cache.jsonl")
    assert found["figures"]["win_rate"]["value"] == 75
    assert (found["pairs"], found["unparsed"], found["unpaired"]) == (2, 0, 1)

    class Silent:
        name, policy = "fake", "fake"

        def generate(self, requests, params, seed):
            raise AssertionError("what was judged before is asked again")

    assert win_rate(questions, ours, theirs, Silent(), tmp_path / "cache.jsonl")["figures"] == found["figures"]
    with pytest.raises(ValueError, match="same questions"):
        win_rate(questions, ours, {"q": "x"}, Prefers(), tmp_path / "cache.jsonl")
