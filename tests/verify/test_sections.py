# SPDX-License-Identifier: Apache-2.0
"""Answers in sections, refutations, and the reasons why some are skipped."""

import pytest

from llamafactory_mmself import verify
from llamafactory_mmself.verify.sections import (
    asserts_option,
    parse_sections,
    parse_tags,
    read_answer,
    read_refutation,
)
from tests.verify.yardsticks import score_key, stl_accuracy


CHOICES = ["the walrus on the ice", "the flamingo", "the small green lizard", "none of them"]
SEEN, THOUGHT = "A walrus lies on an ice floe.", "Thick blubber keeps heat."
FORM = "CAPTION: {}\n\nREASONING: {}\n\nCONCLUSION: {}"


def read(conclusion, choices=CHOICES, form=FORM, seen=SEEN, thought=THOUGHT):
    return read_answer(form.format(seen, thought, conclusion), choices)


@pytest.mark.parametrize(
    "form",
    [
        FORM,
        "caption: {}\n\nreasoning: {}\n\nconclusion: {}",
        "###CAPTION: {}\n\n###REASONING: {}\n\n###CONCLUSION: {}",
        "### Caption: {}\n### Reasoning: {}\n### Conclusion: {}",
        "###CAPTION: {}###\n\n###REASONING: {}\n###\n\n###CONCLUSION: {}",
        "**CAPTION:** {}\n\n**REASONING:** {}\n\n**CONCLUSION:** {}",
        "**CAPTION**: {}\n\n**REASONING**: {}\n\n**CONCLUSION**: {}",
        "1. CAPTION: {}\n2. REASONING: {}\n3. CONCLUSION: {}",
        "CAPTION: {} REASONING: {} CONCLUSION: {}",
        "CAPTION:\n{}\nREASONING:\n{}\nCONCLUSION:\n{}",
    ],
)
def test_template_marks_are_dropped(form):
    found = read("(a)", form=form)
    assert (found.caption, found.reasoning, found.option, found.problem) == (SEEN, THOUGHT, "A", None)


@pytest.mark.parametrize(
    ("conclusion", "letter"),
    [
        ("a", "A"),
        ("B", "B"),
        ("(A)", "A"),
        ("b)", "B"),
        ("**(a)**", "A"),
        ("Option (c)", "C"),
        ("The flamingo.", "B"),
        ("(b) is wrong because it is thin, so the answer is (a).", "A"),
        ("(b) is wrong, (a) is right", "A"),
        ("(b), no wait, (a)", "A"),
        ("(a), because (b) is thin", "A"),
        ("(a)\n\nQuestion: What else is (b)?", "A"),
    ],
)
def test_conclusions(conclusion, letter):
    assert (read(conclusion).option, read(conclusion).ok) == (letter, True)


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (FORM.format("", THOUGHT, "(a)"), "no caption"),
        (f"REASONING: {THOUGHT}\n\nCONCLUSION: (a)", "no caption"),
        (FORM.format(SEEN, "", "(a)"), "no reasoning"),
        (f"CAPTION: {SEEN}\n\nREASONING: {THOUGHT} So (a).", "no conclusion"),
        ("The answer is (a).", "no caption"),
        ("", "no caption"),
        (FORM.format(SEEN, THOUGHT, "I do not know"), "no option"),
        (FORM.format(SEEN, THOUGHT, "(a) or (b)"), "ambiguous option"),
        (FORM.format(SEEN, THOUGHT, "The walrus on the ice or the flamingo."), "ambiguous option"),
        (FORM.format(SEEN, THOUGHT, "The walrus on the ice, not the flamingo."), "ambiguous option"),
        (FORM.format(SEEN, THOUGHT, "(f)"), "option not offered"),
        (FORM.format(SEEN, "1" + "0" * 60 + " kg", "(a)"), "degenerate"),
        (FORM.format(SEEN, "very " * 30, "(a)"), "degenerate"),
        (f"REASONING: {THOUGHT}\n\nCAPTION: {SEEN}\n\nCONCLUSION: (a)", "wrong order"),
        (f"CAPTION: {SEEN}\n\nCONCLUSION: (a)\n\nREASONING: {THOUGHT}", "wrong order"),
    ],
)
def test_the_reason_of_a_skip_is_told(response, problem):
    assert read_answer(response, CHOICES).problem == problem
    assert verify.check("stl", response, "A", choices=CHOICES) == verify.Verdict(False, False, None, problem)


@pytest.mark.parametrize("line", ["In conclusion: the walrus, not (b).", "Thus.\nConclusion: not (b).\nGo on."])
def test_the_word_conclusion_in_a_reasoning_is_prose(line):
    found = read("(a)", thought=f"It is cold. {line}")
    assert (found.option, found.reasoning) == ("A", f"It is cold. {line}")


def test_options_that_contain_others():
    for index, choice in enumerate(panels := ["Figure 1", "Figure 10", "Figure 12"]):
        assert read(choice, panels).option == "ABC"[index]


def test_without_a_caption():
    text = f"REASONING: {THOUGHT}\n\nCONCLUSION: (a)"
    assert read_answer(text, CHOICES, caption=False).ok
    assert verify.check("stl-nocaption", text, "(a)", choices=CHOICES).correct
    assert read_refutation("EXPLANATION: thin", caption=False).ok


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("A flamingo has thin legs.", None),
        ("(b) is not the right answer because it is thin.", None),
        ("The correct answer is not (b), as it has thin legs", None),
        ("It isn't true that (b) is correct.", None),
        ("(b) would be correct if the bird had blubber, but it has none.", None),
        ("(b) is wrong. It stands on sand, where heat is lost. The right answer is (a).", None),
        ("Actually (b) is the right answer because flamingos like cold water.", "asserts the wrong option"),
        ("The answer is (b).", "asserts the wrong option"),
        ("The flamingo is correct.", "asserts the wrong option"),
        ("(b) is wrong because the right answer is (a).", "only cites the right option"),
    ],
)
def test_refutations_must_refute(text, problem):
    response = f"CAPTION: {SEEN}\n\nEXPLANATION: {text}"
    assert read_refutation(response, wrong="B", right="A", choices=CHOICES).problem == problem
    assert read_refutation(response).ok


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        ("EXPLANATION: thin", "no caption"),
        ("CAPTION: a bird\n\nREASONING: thin", "no explanation"),
        ("CAPTION: a bird\n\nEXPLANATION: " + "0" * 51, "degenerate"),
        ("EXPLANATION: thin\n\nCAPTION: a bird", "wrong order"),
    ],
)
def test_malformed_refutations(response, problem):
    assert read_refutation(response).problem == problem


def test_refutations_lose_their_marks():
    found = read_refutation("###CAPTION: a bird\n\n###EXPLANATION: thin legs\n\n###")
    assert (found.caption, found.explanation) == ("a bird", "thin legs")


def test_tagged_sections():
    text = "<SUMMARY> s </SUMMARY>\n\n<CAPTION> c </CAPTION>\n<REASONING>r</REASONING> <CONCLUSION> 2 </CONCLUSION>"
    assert parse_tags(text) == {"SUMMARY": "s", "CAPTION": "c", "REASONING": "r", "CONCLUSION": "2"}
    assert parse_tags("<SUMMARY> s </SUMMARY><CAPTION> cut") == {"SUMMARY": "s"}
    assert verify.check("toy", text, "2").correct


def test_sections_that_are_not_there_are_left_out():
    assert parse_sections("CAPTION: a", ("CAPTION", "REASONING")) == {"CAPTION": "a"}
    assert parse_sections("nothing", ("CAPTION",)) == {}


def test_skipped_answers_count_in_the_accuracy():
    key = {"a": "(a)", "b": "(b)", "c": "(c)", "7": "(b)"}
    score = score_key([("a", "(a)"), ("b", "(a)"), (7, "B"), ("unknown", "(a)")], key)
    assert (score.right, score.wrong, score.total, score.accuracy) == (("a", "7"), ("b", "unknown"), 4, 50.0)
    assert stl_accuracy([("a", "(a)"), ("b", "(a)"), (7, "(b)")], key) == "Accuracy: 50.00% (1/2)"


def test_right_of_is_a_place_and_no_verdict() -> None:
    choices = ("red circle", "blue square")
    assert not asserts_option("The red circle is right of the blue square.", "A", choices)
    assert asserts_option("The red circle is right.", "A", choices)
    assert asserts_option("Actually (A) is the right answer.", "A", choices)
