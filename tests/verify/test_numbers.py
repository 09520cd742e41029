# SPDX-License-Identifier: Apache-2.0
"""TabMWP, ChartQA, CLEVR-Math, free numbers and expressions."""

import threading
import time

import pytest

from llamafactory_mmself import verify


MARKET = ["shortage", "surplus"]


@pytest.mark.parametrize(
    ("text", "gold", "unit", "right"),
    [
        ("Answer: 1 cup", "1", "cups", True),
        ("Answer: 12 cups", "12", "cup", True),
        ("Answer: 12 boxes", "12", "box", True),
        ("Answer: 12 g", "12", "g", True),
        ("Answer: $6.50", "6.5", "$", True),
        ("Answer: 45 %", "45", None, True),
        ("Answer: 45 percent", "45", None, True),
        ("Answer: 12 because 5 + 7 = 12", "12", None, True),
        ("Answer: 12\nThat is all 3 of them.", "12", None, True),
        ("Answer: 12. I added 2 rows.", "12", None, True),
        ("Answer: $4.10 + $2.40 = $6.50", "6.5", "$", True),
        ("Answer: 5/0", "0", None, False),
        ("Answer: 5/0", "5/0", None, False),
        ("Answer: 1 1/2", "3/2", None, True),
        ("Answer: 1\\frac{1}{2}", "1.5", None, True),
        ("Answer: $\\frac{3}{8}$", "0.375", None, True),
        ("Answer: 0.333", "1/3", None, True),
        ("Answer: −4", "-4", None, True),
        ("Answer: 1,234.50", "1234.5", None, True),
        ("Answer: 3 and 4", "3", None, False),
        ("Answer: 2\n\nAnswer: 3", "3", None, True),
        ("The bus leaves at 7:25 P.M.", "7:25 P.M.", None, True),
        ("Answer: 7:25 PM", "7:25 P.M.", None, True),
        ("Answer: 7:25", "7:25 P.M.", None, False),
        ("There were 9 on Monday and 14 on Tuesday", "14", None, True),
        ("9 + 5 = 14 apples in 2 baskets", "14", None, True),
        ("The table shows that 14 students chose 2 sports", "14", None, True),
        ("I cannot tell", "0", None, False),
    ],
)
def test_tabmwp_numbers(text, gold, unit, right):
    question = f"How many are there? (Unit: {unit})" if unit else "How many are there?"
    assert verify.check("tabmwp", text, gold, question=question).correct is right


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Answer: (B)", "B"),
        ("Answer: b", "B"),
        ("Answer: surplus", "B"),
        ("Answer: a surplus", "B"),
        ("Answer: A", "A"),
        ("the answer is (B).", "B"),
        ("Comparing both rows, the answer is B.", "B"),
        ("There is a surplus.", "B"),
        ("Answer: C", None),
    ],
)
def test_tabmwp_options(text, letter):
    verdict = verify.check("tabmwp", text, "surplus", choices=MARKET)
    assert (verdict.answer, verdict.correct) == (letter, letter == "B")
    assert verify.check("tabmwp", text, "B", choices=MARKET).correct == (letter == "B")


def test_a_label_beyond_the_options_is_drawn_at_random_only_in_the_published_code():
    for name in ("tabmwp", "tabmwp-published"):
        verdict = verify.check(name, "Answer: C", "surplus", choices=MARKET)
        assert not verdict.parsed and not verdict.correct
    assert verdict.rule == "random"


def test_the_unit_comes_from_the_question():
    assert verify.check("tabmwp", "Answer: 12 g", "12", question="Mass? (Unit: g)\nLook.").answer == "12"
    assert verify.check("tabmwp-published", "Answer: 12 g", "12", question="Mass? (Unit: g)").correct
    assert not verify.check("tabmwp-published", "Answer: 12 g", "12").correct


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        ("Answer: 105", "100", True),
        ("Answer: 95", "100", True),
        ("Answer: 21.525", "20.5", True),
        ("Answer: 105.1", "100", False),
        ("Answer: 0.0", "0", True),
        ("Answer: 0.01", "0", False),
        ("Answer: 2012", "2010", False),
        ("Answer: 2010", "2010", True),
        ("Answer: 45%", "45", True),
        ("Answer: 45", "45%", True),
        ("Answer: 0.45", "45%", True),
        ("Answer: 0.45", "45", False),
        ("Answer: $12.5", "12.5", True),
        ("Answer: 1,200,000", "1200000", True),
        ("Answer: 12.", "12", True),
        ("Answer: 15 because it is the tallest of 3", "15", True),
        ("Answer: 15\n\nThe bar ends there.", "15", True),
        ("Answer: 15 and 20", "15", False),
        ("Answer: 2010, 2012", "2010", False),
        ("Answer: 2:1", "2", False),
        ("Answer: 12\nNo.\nAnswer: 15", "15", True),
        ("Answer: -3", "3", False),
        ("Answer: Yes.", "yes", True),
        ("Answer: Yes, because it grows", "Yes", True),
        ("Answer: U.S.", "U.S.", True),
        ("Answer: four", "4", False),
        ("Answer: [Red, Blue]", "[Blue, Red]", False),
        ("21", "20.5", True),
        ("So the highest bar stands at 15.", "15", False),
    ],
)
def test_chartqa(text, gold, right):
    assert verify.check("chartqa", text, gold).correct is right


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("12", "12"),
        ("Answer: 03", "3"),
        ("Answer: 3.0", "3"),
        ("Answer: 3.5", "3.5"),
        ("Answer: -1", "-1"),
        ("Answer: **4**", "4"),
        ("Answer: There are 3 left", "3"),
        ("Answer: 3. There were 6 before.", "3"),
        ("Answer: 6 - 2 = 4", "4"),
        ("Answer: 3\nAnswer: 4", "4"),
        ("Answer: There are 3 cubes and 4 spheres", None),
        ("Answer: three", None),
        ("Answer: 3,5", None),
        ("Answer:", None),
        ("So 4 objects remain.", None),
    ],
)
def test_clevr(text, answer):
    verdict = verify.check("clevr", text, "3")
    assert (verdict.answer, verdict.correct) == (answer, answer == "3")


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        ("Answer: 1,200", "1200", True),
        ("x = 5", "5", True),
        ("5/2", "2.5", True),
        ("so 2+3=5", "5", True),
        ("\\boxed{42}", "42", True),
        ("I counted 7 apples", "7", True),
        ("there are 3 and 4", "3", False),
        ("Answer: 5/0", "0", False),
    ],
)
def test_free_numbers(text, gold, right):
    assert verify.check("number", text, gold).correct is right


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        ("\\boxed{\\frac{1}{2}}", "0.5", True),
        ("Answer: x^2+2x+1", "(x+1)^2", True),
        ("Answer: $2\\sqrt{3}$", "\\sqrt{12}", True),
        ("Answer: {1,2}", "{2,1}", True),
        ("Answer: x = 3", "3", True),
        ("Answer: 2\\pi", "6.283", False),
        ("Answer: \\frac{", "1", False),
        ("9^{9^{9^9}}", "1", False),
        ("Answer: 99999!", "1", False),
    ],
)
def test_expressions(text, gold, right):
    started = time.monotonic()
    assert verify.check("expression", text, gold).correct is right
    assert time.monotonic() - started < 10


def test_expressions_in_a_thread():
    verdicts = []
    worker = threading.Thread(target=lambda: verdicts.append(verify.check("expression", "\\boxed{x+x}", "2x")))
    worker.start()
    worker.join()
    assert verdicts[0].correct


@pytest.mark.parametrize("name", ["chartqa", "clevr", "expression", "number", "tabmwp", "toy"])
def test_a_number_that_is_taken_back_counts_as_what_replaces_it(name):
    for text in ("Answer: 3. Wait, it's 4.", "Answer: 3\nNo, it should be 4.", "Answer: 4. Wait, yes.", "Answer: 4"):
        assert verify.check(name, text, "4").correct, text
        assert not verify.check(name, text, "3").correct, text
    for text in ("Answer: 3. No, that is wrong.", "Answer: 3. Wait, let me count again."):
        assert not verify.check(name, text, "3").parsed, text


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("2010", "2010", True),
        ("2010", "2011", False),
        ("1800", "1801", False),
        ("2100", "2099", False),
        ("1799", "1800", True),
        ("2101", "2100", True),
        ("2,010", "2011", True),
        ("2010.5", "2011", True),
        ("210", "211", True),
    ],
)
def test_a_year_has_to_be_met_exactly(gold, answer, right):
    assert verify.check("chartqa", f"Answer: {answer}", gold).correct is right
    assert verify.check("chartqa-published", f"Answer: {answer}", gold).correct is (gold != "2,010")
