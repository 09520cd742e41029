# SPDX-License-Identifier: Apache-2.0
"""The profile `tagged`: what a closed CONCLUSION says."""

import pytest

from llamafactory_mmself.verify import check


@pytest.mark.parametrize(
    ("conclusion", "truth", "right"),
    [
        ("B", "B", True),
        ("(B) a dog", "B", True),
        ("B. a dog", "(B)", True),
        ("C", "B", False),
        ("A dog", "a dog.", True),
        ("12.0", "12", True),
        ("1,200", "1200", True),
        ("yes", "no", False),
    ],
)
def test_answers_without_options(conclusion, truth, right) -> None:
    verdict = check("tagged", f"<REASONING> x </REASONING> <CONCLUSION> {conclusion} </CONCLUSION>", truth)
    assert verdict.parsed and verdict.correct == right


def test_answers_with_options() -> None:
    choices = ["a cat", "a dog"]
    assert check("tagged", "<CONCLUSION> a dog </CONCLUSION>", "B", choices=choices).correct
    assert check("tagged", "<CONCLUSION> (B) a dog </CONCLUSION>", "B", choices=choices).answer == "B"


def test_without_a_closed_conclusion_there_is_no_answer() -> None:
    for text in ("Answer: B", "<CONCLUSION> B", "<CONCLUSION></CONCLUSION>"):
        assert not check("tagged", text, "B").parsed
