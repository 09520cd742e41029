# SPDX-License-Identifier: Apache-2.0
"""What STL's builder promises."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamafactory_mmself.data.questions import Question
from llamafactory_mmself.generate.types import Completion, Sample
from llamafactory_mmself.recipes import stl
from llamafactory_mmself.recipes.checks import loops, mentions_hint
from llamafactory_mmself.recipes.lengths import TokenLimit
from llamafactory_mmself.recipes.prompts import Prompts
from llamafactory_mmself.recipes.records import Checked, RecipeError, verify_samples
from llamafactory_mmself.recipes.stl import STLOptions


PROMPTS = Prompts.load()
SETTINGS = settings(max_examples=60, deadline=None, database=None)
DEFAULT = STLOptions()
QUESTIONS = [
    Question(f"q{n}", f"What is in picture {n}?", "BCA"[n], (), ("a walrus", "a flamingo", "a lizard")[: 3 - n // 2])
    for n in range(3)
]
CHOICES = "ABC"


def answer(letter: str, tail: str = "") -> str:
    return f"CAPTION: Some animals stand{tail}.\n\nREASONING: It has the shape of one.\n\nCONCLUSION: ({letter})"


def refutation(explanation: str = "Its shape is another one.") -> str:
    return f"CAPTION: Some animals stand.\n\nEXPLANATION: {explanation}"


def sampled(request: str, text: str, k: int = 0, finish: str = "stop") -> Sample:
    return Sample(f"{request}#{k}", request, k, "policy", Completion(text, (), finish))


def solved(iteration: int = 0, questions: Sequence[Question] = QUESTIONS) -> list[Checked]:
    samples = [sampled(question.id, answer(question.answer)) for question in questions]
    return verify_samples(questions, samples, "stl", iteration)


def refutations(options: STLOptions = DEFAULT, **texts: str) -> list[Sample]:
    """A good refutation for every request; `q0B="..."` replaces one."""
    ids = [item.id for item in stl.refute_requests(QUESTIONS, solved(), PROMPTS, options)]
    return [sampled(id, refutation(texts.get(id.replace("!", ""), "Its shape is another one."))) for id in ids]


def build(answers, refuted, seed=0, limit=None, **options) -> stl.STLBuild:
    return stl.build(QUESTIONS, answers, refuted, STLOptions(**options), PROMPTS, seed, limit=limit)


def kinds(built: stl.STLBuild) -> dict[str, int]:
    return dict(Counter(example.kind for example in built.examples))


@SETTINGS
@given(
    st.lists(st.tuples(st.sampled_from(["q0", "q1", "q2"]), st.sampled_from([*CHOICES, "?"])), max_size=8),
    st.sampled_from(["newest", "all"]),
    st.integers(1, 3),
    st.randoms(),
)
def test_same_rows_in_any_order_build_the_same_and_learn_no_wrong_ones(given_answers, pool, most, random):
    answers: list[Checked] = []
    for k, (id, letter) in enumerate(given_answers):
        text = "I cannot tell." if letter == "?" else answer(letter, f" {k}")
        answers += verify_samples(QUESTIONS, [sampled(id, text, k)], "stl", k % 2)
    newest = max((item.iteration for item in answers), default=0)
    refuted = {newest: refutations()}
    built = build(answers, refuted, pool=pool, answers_per_question=most)
    shuffled, mixed = list(answers), list(refuted[newest])
    random.shuffle(shuffled)
    random.shuffle(mixed)
    again = stl.build(
        QUESTIONS[::-1], shuffled, {newest: mixed}, STLOptions(pool=pool, answers_per_question=most), PROMPTS, 0
    )
    assert again == built
    keys = {question.id: question.answer for question in QUESTIONS}
    known = {(item.iteration, item.sample.id) for item in answers} | {(newest, item.id) for item in refuted[newest]}
    right = {item.question for item in answers if item.verdict.correct}
    for example in built.examples:
        target = example.provenance["target"]
        assert (target["iteration"], target["id"]) in known
        assert example.question in right and example.pair == example.question
        if example.kind == "answer":
            assert example.target.endswith(f"\n\nCONCLUSION: ({keys[example.question]})")
        else:
            assert f"({keys[example.question]}) is" not in example.prompt
            assert "The right option is" not in example.prompt
    assert all(count <= most for count in Counter(e.question for e in built.examples if e.kind == "answer").values())
    assert len({example.id for example in built.examples}) == len(built.examples)


def test_targets_and_prompts():
    built = build(solved(), refutations())
    assert kinds(built) == {"answer": 3, "refute": 5}
    rows = {example.id: example for example in built.examples}
    assert rows["q0/iter0/answer-0"].target == (
        "CAPTION: Some animals stand.\n\nREASONING: It has the shape of one.\n\nCONCLUSION: (B)"
    )
    (request,) = (item for item in stl.answer_requests(QUESTIONS, PROMPTS, STLOptions()) if item.id == "q0")
    assert rows["q0/iter0/answer-0"].prompt == request.messages[0].content
    negative = rows["q0/iter0/refute-A"]
    assert negative.target == "CAPTION: Some animals stand.\n\nEXPLANATION: Its shape is another one."
    asked = _prompts(STLOptions())
    assert "The right option is (B)" in asked["q0!A"] and "option (A)" in asked["q0!A"]
    assert negative.prompt == _prompts(STLOptions(hint=False))["q0!A"]
    lower = build(solved(), [], letters="lower", negatives=False)
    assert {example.target[-3:] for example in lower.examples} == {"(a)", "(b)", "(c)"}


def _prompts(options: STLOptions) -> dict[str, str]:
    requests = stl.refute_requests(QUESTIONS, solved(), PROMPTS, options)
    return {item.id: item.messages[0].content for item in requests}


def test_switches():
    assert kinds(build(solved(), refutations(), negatives=False)) == {"answer": 3}
    letters = build([], [], letters_only=True)
    assert {example.target for example in letters.examples} == {"Answer: A", "Answer: B", "Answer: C"}
    assert kinds(letters) == {"direct": 3}


def test_without_captions():
    options = STLOptions(caption=False)
    texts = [f"REASONING: So it is.\n\nCONCLUSION: ({question.answer})" for question in QUESTIONS]
    samples = [sampled(question.id, text) for question, text in zip(QUESTIONS, texts, strict=True)]
    answers = verify_samples(QUESTIONS, samples, "stl-nocaption", 0)
    requests = stl.refute_requests(QUESTIONS, answers, PROMPTS, options)
    refuted = [sampled(item.id, "EXPLANATION: It has no legs.") for item in requests]
    built = stl.build(QUESTIONS, answers, refuted, options, PROMPTS, 0)
    assert kinds(built) == {"answer": 3, "refute": 5}
    assert not any("CAPTION" in example.prompt + example.target for example in built.examples)


@pytest.mark.parametrize(
    ("explanation", "check", "reason"),
    [
        ("Actually (A) is the right answer because of its shape.", "asserts", "asserts the wrong option"),
        ("It is wrong because the right answer is (B).", "cites", "only cites the right option"),
        ("The hint says that it is another one, and so it is.", "cites", "speaks of the hint"),
        ("it has long legs and " * 12, "loops", "runs in circles"),
    ],
)
def test_quality_checks_can_be_turned_off(explanation, check, reason):
    refuted = refutations(q0A=explanation)
    strict = build(solved(), refuted)
    assert strict.skipped == {f"refutation: {reason}": 1}
    assert kinds(strict) == {"answer": 3, "refute": 4}
    others = tuple(name for name in STLOptions().checks if name != check)
    assert kinds(build(solved(), refuted, checks=others)) == {"answer": 3, "refute": 5}
    assert kinds(build(solved(), refuted, checks=())) == {"answer": 3, "refute": 5}
    lower = [sampled(question.id, answer(question.answer.lower())) for question in QUESTIONS]
    answers = verify_samples(QUESTIONS, lower, "stl-published", 0)
    published = build(answers, refuted, quirks="published", letters="lower")
    assert kinds(published) == {"answer": 3, "refute": 5} and not published.skipped


def test_cut_texts_are_not_learnt():
    cut = [sampled("q0", answer("B"), finish="length")]
    answers = verify_samples(QUESTIONS, cut, "stl", 0)
    assert build(answers, []).skipped == {"answer: cut by the token limit": 1}
    assert kinds(build(answers, [], checks=())) == {"answer": 1}


def test_caps():
    assert kinds(build(solved(), refutations(), negatives_per_question=1)) == {"answer": 3, "refute": 3}
    assert len(refutations(STLOptions(negatives_per_question=1))) == 3
    once = refutations(STLOptions(negatives_per_question=1))
    assert kinds(build(solved(), once, negatives_per_question=1)) == {"answer": 3, "refute": 3}
    capped = build(solved(), refutations(), negative_ratio=0.5)
    assert kinds(capped) == {"answer": 3, "refute": 1}
    assert capped.skipped == {"refutation: over the ratio": 4}


def test_word_and_token_limits():
    assert build(solved(), refutations(q0A="No."), min_words=3).skipped == {"refutation: too few words": 1}
    assert build(solved(), [], max_words=5, negatives=False).skipped == {"answer: too many words": 3}
    limit = TokenLimit(lambda prompt, target, images: len(target), 75)
    built = build(solved(), refutations(), limit=limit)
    assert built.skipped == {
        "answer: over the token limit of training": 3,
        "refutation: the question is not solved": 5,
    }


def test_refutations_of_unsolved_questions_are_left_out():
    samples = [sampled("q0", answer("B")), sampled("q1", answer("A")), sampled("q2", "The first one, (a).")]
    built = build(verify_samples(QUESTIONS, samples, "stl", 0), refutations())
    assert kinds(built) == {"answer": 1, "refute": 2}
    assert built.skipped == {
        "answer: no caption": 1,
        "answer: wrong": 1,
        "refutation: the question is not solved": 3,
    }


def test_several_samples_and_iterations():
    texts = [answer("B", f" {k}") for k in range(3)]
    first = verify_samples(QUESTIONS, [sampled("q0", text, k) for k, text in enumerate(texts)], "stl", 0)
    second = verify_samples(QUESTIONS, [sampled("q0", answer("A")), sampled("q1", answer("C"))], "stl", 1)
    refuted = {0: [sampled("q0!A", refutation())], 1: [sampled("q1!A", refutation())]}
    newest = build([*first, *second], refuted)
    assert {example.id for example in newest.examples} == {"q1/iter1/answer-0", "q1/iter1/refute-A"}
    everything = build([*first, *second], refuted, pool="all")
    assert {example.id for example in everything.examples} == {
        "q0/iter0/answer-2",
        "q0/iter0/refute-A",
        "q1/iter1/answer-0",
        "q1/iter1/refute-A",
    }
    assert kinds(build(first, [], answers_per_question=2)) == {"answer": 2}


def test_an_option_that_says_the_same_as_the_right_one_is_not_refuted():
    twice = Question("q", "What is it?", "A", (), ("a walrus", "a horse", "A walrus"))
    answers = verify_samples([twice], [sampled("q", answer("A"))], "stl", 0)
    assert [item.id for item in stl.refute_requests([twice], answers, PROMPTS, STLOptions())] == ["q!B"]


def test_errors_name_the_sample_or_the_question():
    with pytest.raises(RecipeError, match="'zzz!A'; `<question id>!<letter>` with one of the 3"):
        build(solved(), [sampled("zzz!A", refutation())])
    with pytest.raises(RecipeError, match="refutes 'B', which is no wrong option of question 'q0'"):
        build(solved(), [sampled("q0!B", refutation())])
    with pytest.raises(RecipeError, match=r"Refutation 'q0!A#0' of iteration 0 comes twice"):
        build(solved(), [sampled("q0!A", refutation())] * 2)
    with pytest.raises(RecipeError, match="Question 'open' has no options"):
        stl.answer_requests([Question("open", "How many?", "3")], PROMPTS, STLOptions())
    with pytest.raises(RecipeError, match=r"Option `checks`: \('asserts', 'sense'\) is not a list"):
        STLOptions.from_dict({"checks": ["asserts", "sense"]})


def test_loops_are_long_repetitions():
    assert loops("yes " * 40) and loops("and then it goes on " * 8)
    assert not loops("A red circle, a red circle, a red circle, a red circle. That makes 4.")
    assert not loops(" ".join(str(number) for number in range(200)))
    assert mentions_hint("As the hint says.", "What is it?") and not mentions_hint("A hint of red.", "Is it a hint?")
