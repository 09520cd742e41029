# SPDX-License-Identifier: Apache-2.0
"""What R3V's builder promises for any samples."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamafactory_mmself.data.questions import Question
from llamafactory_mmself.generate.types import Completion, Sample
from llamafactory_mmself.recipes import r3v
from llamafactory_mmself.recipes.lengths import TokenLimit, fitting, too_long
from llamafactory_mmself.recipes.prompts import Prompts
from llamafactory_mmself.recipes.r3v import R3VOptions
from llamafactory_mmself.recipes.records import Checked, RecipeError
from llamafactory_mmself.recipes.targets import VARIANTS
from llamafactory_mmself.verify import Verdict


PROMPTS = Prompts.load()
SETTINGS = settings(max_examples=60, deadline=None, database=None)
DEFAULT = R3VOptions()
DRAWN = R3VOptions(select_candidates=(2, 3, 4, 5))
QUESTIONS = [Question(f"q{n}", f"How many shapes has picture {n}?", "ABC"[n], (), ("1", "2", "3")) for n in range(3)]
KINDS = ("right", "wrong", "unparsed", "bare", "cut")


@st.composite
def pools(draw) -> list[Checked]:
    """Samples of three questions over up to three iterations, in any order."""
    pool = []
    for question in QUESTIONS:
        for iteration in range(3):
            for k, kind in enumerate(draw(st.lists(st.sampled_from(KINDS), max_size=4))):
                start = "Answer" if kind == "bare" else "I count"
                text = f"{start} {question.id} {iteration} {k} {'x' * draw(st.integers(0, 40))}"
                finish = "length" if kind == "cut" else "stop"
                sample = Sample(f"{question.id}#{k}", question.id, k, f"p{iteration}", Completion(text, (), finish))
                right = kind not in ("wrong", "unparsed")
                parsed = kind != "unparsed"
                verdict = Verdict(right, parsed, question.answer if right else None, "test")
                pool.append(Checked(sample, question.id, iteration, verdict))
    return draw(st.permutations(pool))


def build(pool, options=DEFAULT, seed=0, questions=QUESTIONS, limit=None):
    return r3v.build(questions, pool, options, PROMPTS, seed, limit=limit)


@SETTINGS
@given(pools(), st.sampled_from([R3VOptions(), DRAWN]), st.integers(0, 5), st.randoms())
def test_same_rows_in_any_order_build_the_same(pool, options, seed, random):
    built = build(pool, options, seed)
    shuffled = list(pool)
    random.shuffle(shuffled)
    assert build(shuffled, options, seed, QUESTIONS[::-1]) == built
    alone = {example.id: example for question in QUESTIONS for example in build(pool, options, seed, [question])}
    assert alone == {example.id: example for example in built}


@SETTINGS
@given(pools(), st.sampled_from([R3VOptions(), DRAWN]))
def test_examples_name_their_samples_and_learn_no_wrong_ones(pool, options):
    known = {(item.iteration, item.sample.id): item for item in pool}
    ids = Counter()
    for example in build(pool, options):
        ids[example.id] += 1
        if example.kind == "direct":
            continue
        refs = [item for item in (*example.provenance["shown"], example.provenance["target"]) if item]
        samples = [known[item["iteration"], item["id"]] for item in refs]
        assert all(item.question == example.question for item in samples)
        assert [item["policy"] for item in refs] == [f"p{item.iteration}" for item in samples]
        assert example.provenance["iteration"] == max(item.iteration for item in samples)
        shown = samples[: len(example.provenance["shown"])]
        assert all(item.text in example.prompt and item.verdict.parsed for item in shown)
        if example.kind in ("cot", "refine"):
            target = samples[-1]
            assert target.verdict.correct and not target.cut and example.target == target.text
            assert not any(item.verdict.correct for item in shown)
            assert len(shown) == (example.kind == "refine")
            assert example.pair == example.question
        else:
            assert {item.verdict.correct for item in shown} == {True, False}
            assert len({item.text for item in shown}) == len(shown) >= 2
            gold = {question.id: question.answer for question in QUESTIONS}[example.question]
            assert example.target == f"Answer: {gold}"
    assert all(count == 1 for count in ids.values())


@SETTINGS
@given(pools())
def test_newest_solutions_teach(pool):
    for question in QUESTIONS:
        right, wrong = r3v.material([item for item in pool if item.question == question.id], R3VOptions())
        rows = {item.kind: item for item in build(pool, R3VOptions(select=False)) if item.question == question.id}
        assert ("cot" in rows) == bool(right)
        assert ("refine" in rows) == bool(right and wrong)
        if right:
            assert rows["cot"].target == max(right, key=lambda item: (item.iteration, item.sample.k)).text


@SETTINGS
@given(pools(), st.integers(0, 3))
def test_drawn_sets_do_not_repeat(pool, seed):
    built = [example for example in build(pool, DRAWN, seed) if example.kind == "select"]
    sets = [(example.question, len(_shown(example)), _shown(example)) for example in built]
    assert len(set(sets)) == len(sets)
    assert all(count <= 3 for count in Counter((question, size) for question, size, _ in sets).values())


@SETTINGS
@given(pools(), st.integers(60, 400))
def test_nothing_is_over_the_limit_and_candidates_go_first(pool, limit):
    limit = TokenLimit(lambda prompt, target, images: len(prompt) + len(target), limit)
    free, built = build(pool, DRAWN), build(pool, DRAWN, limit=limit)
    assert not too_long(built, limit)
    assert {example.id for example in built} <= {example.id for example in free}
    sets = [(example.question, _shown(example)) for example in built if example.kind == "select"]
    assert all(len(shown) >= 2 for _, shown in sets) and len(set(sets)) == len(sets)
    for example in fitting(free, limit):
        assert example in built or (example.question, _shown(example)) in sets


def _shown(example) -> frozenset:
    return frozenset((item["iteration"], item["id"]) for item in example.provenance["shown"])


def test_switches(checked, questions):
    pool = [
        checked("q0", "I see red. Answer: A", False, 0),
        checked("q0", "I see green. Answer: B", True, 0, 1),
        checked("q0", "Green it is. Answer: B", True, 1, 0),
        checked("q0", "It must be grey. Answer: D", False, 1, 1),
    ]

    def kinds(**options) -> dict[str, int]:
        built = r3v.build(questions, pool, R3VOptions(**options), PROMPTS, 0)
        return dict(Counter(example.kind for example in built))

    assert kinds() == {"direct": 3, "cot": 1, "refine": 1, "select": 2}
    assert kinds(direct=False) == {"cot": 1, "refine": 1, "select": 2}
    assert kinds(refine=False, select=False) == {"direct": 3, "cot": 1}  # STaR
    assert kinds(letters_only=True) == {"direct": 3}
    assert kinds(pool="first") == kinds(pool="newest") == {"direct": 3, "cot": 1, "refine": 1}
    assert kinds(min_characters=21) == {"direct": 3, "cot": 1, "refine": 1, "select": 1}

    def target(**options) -> str:
        built = r3v.build(questions, pool, R3VOptions(**options), PROMPTS, 0)
        return next(example.target for example in built if example.kind == "cot")

    assert target(pool="first") == "I see green. Answer: B"
    assert target() == target(pool="newest") == "Green it is. Answer: B"


def test_unparsed_and_cut_samples_teach_under_published_quirks_only(checked, questions):
    pool = [
        checked("q0", "I cannot tell which one it is.", False, parsed=False),
        checked("q0", "I go on and on, answer B", True, k=1, finish="length"),
    ]
    fixed = r3v.build(questions, pool, R3VOptions(direct=False), PROMPTS, 0)
    published = r3v.build(questions, pool, R3VOptions(direct=False, quirks="published"), PROMPTS, 0)
    assert fixed == []
    assert {example.kind for example in published} == {"cot", "refine"}
    counts = r3v.survey(questions, pool, R3VOptions())
    assert counts == {"questions: without a usable sample": 3, "samples: right but cut": 1, "samples: unparsed": 1}


def test_a_model_that_writes_placeholders_shows_no_picture(checked, questions):
    pool = [
        checked("q0", "See <image> there. Answer: B", True),
        checked("q0", "No <image><video> here. Answer: A", False, k=1),
        checked("q0", "It is green. Answer: B", True, k=2),
    ]
    for example in r3v.build(questions, pool, R3VOptions(), PROMPTS, 0):
        assert example.prompt.count("<image>") == 1 and "<video>" not in example.prompt
        assert "<image>" not in example.target


def test_selection_at_test_time(questions):
    candidates = {"q0": ["one", "two", "three"], "q2": ["four"]}
    requests = r3v.select_requests(questions, candidates, PROMPTS, seed=1)
    assert [request.id for request in requests] == ["q0", "q2"]
    assert requests == r3v.select_requests(questions, candidates, PROMPTS, seed=1)
    orders = {
        request.messages[0].content
        for seed in range(20)
        for request in r3v.select_requests(questions[:1], candidates, PROMPTS, seed)
    }
    assert len(orders) == 6
    long = TokenLimit(lambda prompt, target, images: 999 if "three" in prompt else 1, 10)
    (short, _) = r3v.select_requests(questions, candidates, PROMPTS, seed=1, limit=long)
    assert "three" not in short.messages[0].content and "two" in short.messages[0].content
    assert candidates["q0"] == ["one", "two", "three"]


def test_prompts_are_the_same_in_sampling_and_training(checked, questions):
    pool = [checked(question.id, "It is so. Answer: ...", True) for question in questions]
    asked = {request.id: request.messages[0].content for request in r3v.cot_requests(questions, PROMPTS)}
    built = [example for example in r3v.build(questions, pool, R3VOptions(), PROMPTS, 0) if example.kind == "cot"]
    assert {example.question: example.prompt for example in built} == asked
    direct = {request.id: request.messages[0].content for request in r3v.direct_requests(questions, PROMPTS)}
    letters = r3v.build(questions, [], R3VOptions(letters_only=True), PROMPTS, 0)
    assert {example.question: example.prompt for example in letters} == direct
    assert {example.target for example in letters} == {"Answer: A", "Answer: B", "Answer: C"}


def test_a_sample_counts_once(checked, questions):
    pool = [checked("q0", "It is green.", True)] * 2
    with pytest.raises(RecipeError, match=r"'q0#0' of iteration 0 is in the pool twice"):
        r3v.build(questions, pool, R3VOptions(), PROMPTS, 0)
    with pytest.raises(RecipeError, match="Two questions have the id 'q0'"):
        r3v.build([questions[0]] * 2, [], R3VOptions(), PROMPTS, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"refin": False}, "no option `refin` of this builder. Did you mean `refine`"),
        ({"pool": "last"}, "Option `pool`: 'last' is not one of all, newest, first"),
        ({"refine": "no"}, "Option `refine`: 'no' is not true or false"),
        ({"min_characters": -1}, "Option `min_characters`: -1 is not a whole number from 0 on or empty"),
        ({"select_candidates": [1, 3]}, "sizes from 2 on are expected, found \\[1, 3\\]"),
        ({"select_candidates": 3}, "Option `select_candidates`: 3 is not a list, each item a whole number"),
    ],
)
def test_a_wrong_option_is_named(values, message):
    with pytest.raises(RecipeError, match=message):
        R3VOptions.from_dict(values)


def test_options_come_from_yaml_values():
    assert R3VOptions.from_dict({"select_candidates": [2, 3], "variant": "clevr"}) == R3VOptions(
        select_candidates=(2, 3), variant="clevr"
    )


class TestTargets:
    """The published rules, beyond the cases computed with the published code."""

    def right(self, *texts: str) -> list[Checked]:
        verdict = Verdict(True, True, "", "test")
        return [Checked(Sample("", "", 0, "", Completion(text, (), "stop")), "", 0, verdict) for text in texts]

    def target(self, variant: str, gold: str, *texts: str) -> str | None:
        return VARIANTS[variant].target(Question("q", "?", gold), self.right(*texts))

    def test_tabmwp_takes_a_line_of_the_newest_that_has_one(self):
        assert self.target("tabmwp", "12", "Answer: 12\nmore", "Answer: 12.0") == "Answer: 12"
        assert self.target("tabmwp", "12", "It is 12", "Answer: 12.0") == "Answer: 12.0"
        assert self.target("tabmwp", "12", "It is 12", "So 12") is None

    def test_chartqa_takes_the_value_nearest_to_the_label(self):
        assert self.target("chartqa", "100", "Answer: 104", "Answer: 99") == "99"
        assert self.target("chartqa", "100", "Answer: 101", "Answer: 99") == "101"
        assert self.target("chartqa", "100", "Answer: 104 units", "Answer: 99") == "104 units"
        assert self.target("chartqa", "Yes", "Answer:\nyes", "Answer: Yes") == "yes"

    def test_clevr_wants_agreement(self):
        assert self.target("clevr", "4", "Answer: 4", "4") == "4"
        assert self.target("clevr", "4", "Answer: 4", "Answer: 5") is None
        assert self.target("clevr", "4", "four", "four") is None

    def test_a_dropped_pair_of_right_ones_drops_the_next_row_in_clevr_only(self, checked):
        question = Question("q", "How many?", "4", ())
        texts = [("So four.", True), ("Answer: 4", True), ("Answer: 5", False), ("Answer: 6", False)]
        pool = [checked("q", text, right, 0, k) for k, (text, right) in enumerate(texts)]
        for variant, count in (("clevr", 0), ("chartqa", 2), ("unified", 0)):
            options = replace(R3VOptions(), variant=variant)
            rows = [row for row in r3v.build([question], pool, options, PROMPTS, 0) if row.kind == "select"]
            assert len(rows) == count
