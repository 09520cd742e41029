# SPDX-License-Identifier: Apache-2.0
"""ARES's data: published prompt formats, scores, corrections, and rows of the answer adapter."""

import json

import pytest

from llamafactory_mmself.data.questions import Question
from llamafactory_mmself.generate.requests import question_prompt
from llamafactory_mmself.generate.teacher import Corrected, ReadyScores
from llamafactory_mmself.generate.types import Completion, Sample
from llamafactory_mmself.prompts import load_prompt
from llamafactory_mmself.recipes import ares
from llamafactory_mmself.recipes.ares_formats import published_pair
from llamafactory_mmself.toyworld.teacher import exact


@pytest.fixture(scope="module")
def golden(shared_golden):
    return json.loads((shared_golden / "ares.json").read_text())


QUESTIONS = [
    Question("q1", "Which sinks?", "B", (), ("cork", "stone"), {"hint": "In water.", "caption": "A bowl."}),
    Question("q2", "Is ice solid?", "A", (), ("yes", "no")),
]
ANSWER = load_prompt(None, "ares_answer.txt", ("question", "context", "options", "rationale"))


def sample(request, text, k=0, reason="stop"):
    return Sample(f"{request}#{k}", request, k, "policy", Completion(text, (1,), reason))


def test_published_formats(golden):
    cases = golden["prompt_formats"]
    for case in cases["cases"]:
        problem = cases["problems"][case["problem"]]
        found = published_pair(
            problem, case["format"], use_caption=case["use_caption"], rationale=case["generated_rationale"]
        )
        assert (found.source, found.target) == (case["source"], case["target"]), case["format"]


def test_a_generated_rationale_is_shown_as_it_is(golden):
    problem = golden["prompt_formats"]["problems"]["q2"]
    found = published_pair(problem, "QCMG-A", rationale="Solution: It is.")
    assert found.source == "Question: Is ice solid? Context: N/A Options: (A) yes (B) no Solution: It is. Answer:"
    with pytest.raises(ValueError, match="no format"):
        published_pair(problem, "XY-A")


def test_prompts_show_context_and_options():
    prompt = question_prompt("ares_rationale")
    built = ares.correction_rows(
        ares.lessons_to_correct(QUESTIONS, [sample("q1", "x.")], ares.AresOptions()),
        [Corrected("A stone is dense. Answer: B")],
        prompt,
        ares.AresOptions(),
    )
    (example,) = built.examples
    for part in ("Question: Which sinks?", "Context: In water. A bowl.", "Options: (A) cork (B) stone", "Solution:"):
        assert part in example.prompt
    assert example.target == "A stone is dense. Answer: B"
    assert example.provenance["source"] == "teacher"


def test_what_is_corrected_has_no_repeats():
    samples = [
        sample("q1", "It sinks. It sinks. It is a"),
        sample("q1", "other", 1),
        sample("q2", "Yes.", 0, "length"),
    ]
    pairs = ares.lessons_to_correct(QUESTIONS, samples, ares.AresOptions())
    assert [lesson.text for lesson, _ in pairs] == ["It sinks. It is a", "Yes."]


@pytest.mark.parametrize(
    ("corrected", "reason"),
    [
        (Corrected(None, "format"), "not corrected: format"),
        (Corrected(None, "http: 500 at 12:00"), "not corrected: http"),
        (Corrected("Answer: B"), "too short"),
        (Corrected("It sinks. It sinks. Answer: B"), "repeats itself"),
        (Corrected("It floats. Answer: A"), "wrong answer"),
    ],
)
def test_corrections_that_are_left_out_are_counted(corrected, reason):
    pairs = ares.lessons_to_correct(QUESTIONS, [sample("q1", "It sinks.")], ares.AresOptions())
    built = ares.correction_rows(pairs, [corrected], question_prompt("ares_rationale"), ares.AresOptions())
    assert built.examples == []
    assert built.skipped == {reason: 1}


def test_answers_are_learnt_from_generated_rationales():
    built = ares.answer_rows(QUESTIONS, [sample("q1", "A stone is dense.")], ANSWER)
    (example,) = built.examples
    assert "Solution: A stone is dense.\nAnswer:" in example.prompt
    assert example.target == "The answer is (B)."
    assert built.skipped == {"no rationale": 1}
    (request,) = ares.answer_requests(QUESTIONS, [sample("q1", "A stone is dense.")], ANSWER)
    assert (request.id, request.messages[0].content) == ("q1", example.prompt)


def test_scores_are_written_and_read(tmp_path):
    from random import Random

    from llamafactory_mmself.toyworld.choices import random_question, scene_of
    from llamafactory_mmself.toyworld.forms import solution
    from llamafactory_mmself.toyworld.scenes import random_scene

    rng = Random(1)
    rows = [random_question(rng, random_scene(rng, 2, 2), f"q{number}") for number in range(3)]
    samples = [sample(row.id, solution(row, scene_of(row))) for row in rows]
    samples += [sample("q0", "Bananas.", 1), sample("q1", "Answer: A", 1)]
    options = ares.AresOptions(score_answer=False)
    facts = ares.score_samples(rows, samples, exact(), options, tmp_path / "scores.jsonl")
    assert (facts["scored"], facts["empty"], facts["failed"]) == (4, 1, 0)
    assert 0.5 < facts["mean_score"] < 1
    ready = ReadyScores(tmp_path / "scores.jsonl")
    lessons = [lesson for lesson in ares.lessons_to_score(rows, samples, options) if lesson.sentences]
    assert [item.scores for item in ready.score(lessons)] == [item.scores for item in exact().score(lessons)]


def test_captions_become_context():
    (first, second) = ares.captioned(QUESTIONS, [sample("q2", "Some\nice.")])
    assert first == QUESTIONS[0]
    assert second.context == "Some ice."
