# SPDX-License-Identifier: Apache-2.0
"""STL's builder against what the published one built; the cases name options in lower case."""

import json
import re

import pytest

from llamafactory_mmself.data.questions import Question
from llamafactory_mmself.generate.types import Completion, Sample
from llamafactory_mmself.recipes import stl
from llamafactory_mmself.recipes.records import verify_samples
from llamafactory_mmself.recipes.stl_options import STLOptions


QUIRKS = ("fixed", "published")


@pytest.fixture(scope="module")
def cases(shared_golden) -> dict[str, list]:
    groups: dict[str, list] = {}
    for case in json.loads((shared_golden / "stl.json").read_text(encoding="utf-8"))["vectors"]:
        groups.setdefault(case["group"], []).append(case)
    return groups


def question_of(id: str, text: str, answer: str, image: str = "x.png") -> Question:
    stem, *lines = text.split("\n")
    choices = [match[1] for line in lines if (match := re.match(r"\([a-z]\)\s*(.*)", line))]
    return Question(str(id), stem, answer.strip("()").upper(), (image,), tuple(choices))


def sample_of(request: str, text: str) -> Sample:
    return Sample(f"{request}#0", request, 0, "policy", Completion(text, (), "stop"))


def options(quirks: str) -> STLOptions:
    return STLOptions(quirks=quirks, letters="lower")


def profile(quirks: str) -> str:
    return "stl" if quirks == "fixed" else "stl-published"


def answer_text(caption: str, rationale: str, choice: str) -> str:
    return f"CAPTION: {caption}\n\nREASONING: {rationale}\n\nCONCLUSION: {choice}"


@pytest.mark.parametrize("quirks", QUIRKS)
def test_one_refutation_for_each_wrong_option(cases, prompts, quirks):
    assert cases["negative_prompts"]
    for case in cases["negative_prompts"]:
        correct, texts = dict(case["input"]["correct"]), case["input"]["questions"]
        questions = [question_of(id, text, correct.get(id, "(b)")) for id, text in texts.items()]
        answered = [
            sample_of(id, answer_text("Some things.", "They tell it.", option))
            for id, option in correct.items()
            if id in texts
        ]
        checked = verify_samples(questions, answered, profile(quirks), 0)
        requests = stl.refute_requests(questions, checked, prompts, options(quirks))
        items = case["seed_result"]["items"]
        found = [(id, f"({letter.lower()})") for id, _, letter in (item.id.rpartition("!") for item in requests)]
        assert sorted(found) == sorted((item["question_id"], item["wrong_option"]) for item in items)
        for request in requests:
            (message,) = request.messages
            assert f"The right option is {correct[request.id.rpartition('!')[0]]}" in message.content


@pytest.mark.parametrize("quirks", QUIRKS)
def test_answers_to_learn(cases, prompts, quirks):
    for case in cases["build_positive"]:
        extractions = case["input"]["extractions"]
        keys = {item["question_id"]: item["generated_choice"] for item in extractions if item["caption"]}
        questions = [
            question_of(item["question_id"], item["text"], keys[item["question_id"]], item["image"])
            for item in case["input"]["questions"]
        ]
        known = {question.id for question in questions}
        samples = [
            Sample(f"{item['question_id']}#{k}", item["question_id"], k, "p", Completion(text, (), "stop"))
            for k, item in enumerate(extractions)
            if item["question_id"] in known
            for text in [answer_text(item["caption"], item["rationale"], item["generated_choice"])]
        ]
        checked = verify_samples(questions, samples, profile(quirks), 1)
        built = stl.build(questions, checked, [], options(quirks), prompts, seed=0)
        wanted = {str(item["id"]): item for item in case["seed_result"]["items"]}
        assert {example.question for example in built.examples} == set(wanted)
        for example in built.examples:
            item = wanted[example.question]
            assert example.target == item["assistant"]
            assert example.prompt.startswith("<image>\n") == item["user_starts_with_image_line"]
            (question,) = (question for question in questions if question.id == example.question)
            assert (question.block in example.prompt) == item["user_contains_question_block"]
            assert "The right option is" not in example.prompt
            assert example.kind == "answer"


@pytest.mark.parametrize("quirks", QUIRKS)
def test_refutations_to_learn(cases, prompts, quirks):
    """A refutation that reads as one case says is learnt without the hint, or skipped."""
    assert cases["extract_negative"]
    for case in cases["extract_negative"]:
        given = case["input"]
        lines = [f"({letter}) {text}" for letter, text in zip("abcdefgh", given["choices"], strict=False)]
        question = question_of("q", "\n".join([given["question"], *lines]), given["correct_option"])
        wrong = given["wrong_option"].strip("()").upper()
        solved = sample_of("q", answer_text("Some things.", "They tell it.", given["correct_option"]))
        checked = verify_samples([question], [solved], profile(quirks), 0)
        refutation = sample_of(f"q!{wrong}", given["response"])
        built = stl.build([question], checked, [refutation], options(quirks), prompts, seed=0)
        learnt = [example for example in built.examples if example.kind == "refute"]
        wanted = case["recommended_result"] if quirks == "fixed" else case["seed_result"]
        assert len(learnt) == (wanted is not None), case["id"]
        for example in learnt:
            assert example.target == f"CAPTION: {wanted['caption']}\n\nEXPLANATION: {wanted['explanation']}"
            assert given["wrong_option"] in example.prompt
            assert "The right option is" not in example.prompt


@pytest.mark.parametrize("quirks", QUIRKS)
def test_everything_is_mixed_without_caps(cases, prompts, quirks):
    for case in cases["mix"]:
        positives, negatives = case["input"]["positives"], case["input"]["negatives"]
        options_of_each = [negatives // positives + (number < negatives % positives) for number in range(positives)]
        questions = [
            Question(f"q{number}", "Which?", "A", (), tuple(f"thing {index}" for index in range(count + 1)))
            for number, count in enumerate(options_of_each)
        ]
        answers = [sample_of(q.id, answer_text("Some things.", "They tell it.", "(a)")) for q in questions]
        refutations = [
            sample_of(f"{q.id}!{letter}", "CAPTION: Some things.\n\nEXPLANATION: Nothing of the kind is there.")
            for q in questions
            for letter in stl.wrong_letters(q)
        ]
        checked = verify_samples(questions, answers, profile(quirks), 0)
        built = stl.build(questions, checked, refutations, options(quirks), prompts, seed=0)
        kinds = [example.kind for example in built.examples]
        wanted = case["seed_result"]
        assert (len(kinds), kinds.count("answer"), kinds.count("refute")) == (
            wanted["total"],
            wanted["positives"],
            wanted["negatives"],
        )


@pytest.mark.parametrize("quirks", QUIRKS)
def test_one_round_on_four_questions(prompts, quirks):
    """The worked example of the rules: two of four answers are learnt, and three of four refutations."""
    choices = ("a walrus", "a flamingo", "a lizard", "a horse")
    questions = [Question(f"e{n}", "Which?", "A", (), choices[:c]) for n, c in ((1, 4), (2, 3), (3, 2), (4, 4))]
    answers = [
        sample_of("e1", answer_text("Ice.", "It lives there.", "(a)")),
        sample_of("e2", answer_text("Sand.", "It lives there.", "(b)")),
        sample_of("e3", answer_text("Snow.", "It lives there.", "(a)")),
        sample_of("e4", "I think that it is the first one."),
    ]
    checked = verify_samples(questions, answers, profile(quirks), 0)
    requests = stl.refute_requests(questions, checked, prompts, options(quirks))
    assert [request.id for request in requests] == ["e1!B", "e1!C", "e1!D", "e3!B"]
    whole = "CAPTION: Ice.\n\nEXPLANATION: Nothing in the picture looks like it."
    texts = [whole, whole, whole, "It is simply not there."]
    refutations = [sample_of(request.id, text) for request, text in zip(requests, texts, strict=True)]
    built = stl.build(questions, checked, refutations, options(quirks), prompts, seed=0)
    kinds = [example.kind for example in built.examples]
    assert kinds.count("answer") == 2 and kinds.count("refute") == 3
