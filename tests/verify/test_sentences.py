# SPDX-License-Identifier: Apache-2.0
"""Where sentences end: the published cases, and texts that their rules get wrong."""

import json

import pytest

from llamafactory_mmself.verify.sentences import (
    MARK,
    distinct_sentences,
    published_ends,
    repeated_share,
    sentences,
    token_ends,
    without_answer,
)


PIECES = {
    0: "<pad>",
    1: "</s>",
    5: ".",
    10: ":",
    17942: "Solution",
    287: "com",
    51: "m",
    9: "a",
    25072: MARK,
    1300: "1.",
}


@pytest.fixture(scope="module")
def golden(shared_golden):
    return json.loads((shared_golden / "ares.json").read_text())


def texts(text, **options):
    return [span.text for span in sentences(text, **options)]


def test_published_texts(golden):
    for case in golden["segmentation"]["cases"]:
        finished = case["ended_with_eos"]
        assert texts(case["text"], finished=finished, quirks="published") == case["sentences"], case["text"]
        if case["kind"] == "conform":
            assert texts(case["text"], finished=finished) == case["sentences"], case["text"]


def test_published_pieces(golden):
    for case in golden["segmentation"]["cases"]:
        assert published_ends(case["pieces"]) == case["boundary_flag_per_column"], case["text"]
    for case in golden["check_eos_raw_ids"]:
        found = published_ends([PIECES.get(piece, "word") for piece in case["ids"]])
        assert found == case["flags"], case["name"]


def test_short_sentences_stand_alone():
    assert texts("Yes. No. The cat sat on the mat.") == ["Yes.", "No.", "The cat sat on the mat."]
    assert texts("Birds fly. Birds fly. Fish swim in the sea.")[:2] == ["Birds fly.", "Birds fly."]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Pi is 3.14. It is no integer.", ["Pi is 3.14.", "It is no integer."]),
        ("Dr. Smith met Mr. Jones. They left.", ["Dr. Smith met Mr. Jones.", "They left."]),
        ("Fruits, e.g. apples, grow on trees. Good.", ["Fruits, e.g. apples, grow on trees.", "Good."]),
        ("He lives in the U.S.A. now. Fine.", ["He lives in the U.S.A. now.", "Fine."]),
        ("John F. Kennedy spoke. J. K. Rowling wrote.", ["John F. Kennedy spoke.", "J. K. Rowling wrote."]),
        ("It is option B. The others are wrong.", ["It is option B.", "The others are wrong."]),
        ("1. Look at it.\n2. Count it.", ["1. Look at it.", "2. Count it."]),
        ("- one\n- two\n\n- three", ["- one", "- two", "- three"]),
        ("See Fig. 3 and No. 5. Then go.", ["See Fig. 3 and No. 5.", "Then go."]),
        ('He said "stop." Then he left.', ['He said "stop."', "Then he left."]),
        ("Really?! Yes (of course.) Right", ["Really?!", "Yes (of course.)", "Right"]),
        ("图中有一只猫。它是黑色的！对吗？对", ["图中有一只猫。", "它是黑色的！", "对吗？", "对"]),
        ("「猫です。」犬ではない。", ["「猫です。」", "犬ではない。"]),
        ("Look at example.com for more. Ok.", ["Look at example.com for more.", "Ok."]),
        ("Wait... ... it goes on.", ["Wait... ...", "it goes on."]),
        ("He works for Acme Inc. She does too.", ["He works for Acme Inc.", "She does too."]),
        ("Solution: It is so.", ["It is so."]),
        ("", []),
        ("...", []),
    ],
)
def test_what_ends_a_sentence(text, wanted):
    assert texts(text) == wanted


def test_offsets_lead_back_to_the_text():
    text = "Solution:  Mars is red.\n It is 1.5 times... cold.  End"
    for span in sentences(text):
        assert text[span.start : span.end] == span.text


def test_a_cut_text_ends_in_no_sentence():
    assert texts("It is red. It is", finished=False) == ["It is red."]
    assert texts("It is red. It is") == ["It is red.", "It is"]


def test_answers_are_no_reasoning():
    for answer in ("The answer is (B).", "Answer: B", "So the answer is B.", "Therefore, the correct answer is: (C)"):
        assert [span.text for span in without_answer(sentences(f"It is red. {answer}"))] == ["It is red."]
    kept = without_answer(sentences("The answer depends on the light. It is red."))
    assert len(kept) == 2


def test_tokens_that_complete_characters():
    pieces = [b"It", b" is", b".", b"\n", b"\xe7", b"\x8c", b"\xab", b"\xe3\x80\x82No", b"."]

    def decode(ids):
        return b"".join(pieces[place] for place in ids).decode(errors="replace")

    text = decode(range(len(pieces)))
    spans = sentences(text)
    assert [span.text for span in spans] == ["It is.", "猫。", "No."]
    assert token_ends(range(len(pieces)), [span.end for span in spans], decode) == [2, 7, 8]
    with pytest.raises(ValueError, match="not within"):
        token_ends(range(2), [99], decode)


def test_published_repeats(golden):
    for case in golden["repetition_removal"]:
        assert distinct_sentences(case["input"], quirks="published") == case["output"]


def test_repeats_are_removed():
    assert distinct_sentences("Solution: It is a dog. It is a dog. It barks.") == "It is a dog. It barks."
    assert distinct_sentences("The end is near. the  end is near.") == "The end is near."
    assert distinct_sentences("One.\nTwo.\nOne.\nThree") == "One.\nTwo.\nThree"
    assert distinct_sentences("It is red. Therefore:", finished=False) == "It is red."
    assert distinct_sentences("It is red. It is a b", finished=False) == "It is red. It is a b"


def test_share_of_repeats():
    assert repeated_share(sentences("One. Two. one. Two.")) == 0.5
    assert repeated_share([]) == 0
