# SPDX-License-Identifier: Apache-2.0
"""Responses in tagged sections: what is whole, what is broken, and where a whole one is cut."""

import json

import pytest

from llamafactory_mmself.data.tagged import TAGS, read_tagged


WHOLE = (
    "<SUMMARY> I look. </SUMMARY>\n\n<CAPTION> A cat. </CAPTION>\n\n"
    "<REASONING> Cats have four legs. So four. </REASONING>\n\n<CONCLUSION> 4 </CONCLUSION>"
)


def test_a_whole_response() -> None:
    tagged = read_tagged(WHOLE)
    assert tagged.problem is None and [section.name for section in tagged.sections] == list(TAGS)
    assert tagged.inside("CAPTION") == "A cat." and tagged.inside("ANSWER") == ""


def test_blanks_around_sections_do_no_harm() -> None:
    assert read_tagged(f"\n {WHOLE.replace(chr(10), '  ')}\n\n").problem is None


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (WHOLE, "no tags here", "no sections"),
        (WHOLE, "", "no sections"),
        ("<CAPTION> A cat. </CAPTION>\n\n", "", "CAPTION is missing"),
        (" </CONCLUSION>", "", "CONCLUSION is not closed"),
        (" </CAPTION>", "", "CAPTION is not closed"),
        ("<REASONING> ", "", "REASONING is closed but not opened"),
        ("</CAPTION>", "</REASONING>", "CAPTION is not closed"),
        ("<CAPTION> A cat.", "<CAPTION> <CAPTION> A cat.", "CAPTION is not closed"),
        (
            "<CAPTION> A cat. </CAPTION>",
            "<CAPTION> A cat. </CAPTION> <CAPTION> A dog. </CAPTION>",
            "CAPTION comes twice",
        ),
        (
            "<SUMMARY> I look. </SUMMARY>\n\n<CAPTION> A cat. </CAPTION>",
            "<CAPTION> A cat. </CAPTION>\n\n<SUMMARY> I look. </SUMMARY>",
            "wrong order",
        ),
        (" A cat. ", "  \n ", "CAPTION is empty"),
        ("<SUMMARY> I look.", "Well. <SUMMARY> I look.", "text outside the sections"),
        ("</CAPTION>\n\n", "</CAPTION>\n\nHm.\n\n", "text outside the sections"),
        ("4 </CONCLUSION>", "4 </CONCLUSION> That is all.", "text outside the sections"),
        ("<CAPTION>", "<caption>", "a misspelt tag"),
        ("<CAPTION>", "< CAPTION>", "a misspelt tag"),
    ],
)
def test_broken_responses_are_told_and_never_cut(old, new, problem) -> None:
    text = WHOLE.replace(old, new)
    tagged = read_tagged(text)
    assert tagged.problem == problem
    assert all(tagged.cut(place) is None for place in range(1, 5))


def test_the_four_places_of_the_paper() -> None:
    tagged = read_tagged(WHOLE)
    cuts = [tagged.cut(place) for place in range(1, 5)]
    assert all(cut is not None and cut[0] + cut[1] == WHOLE for cut in cuts)
    heads = ["", "<SUMMARY> I look. </SUMMARY>\n\n", WHOLE[: WHOLE.index("<REASONING>")]]
    heads.append(WHOLE[: WHOLE.index(" So four")])  # a clause ends there; the blank belongs to the next word
    assert [cut[0] for cut in cuts if cut] == heads
    for place in (0, 5):
        with pytest.raises(ValueError, match="no place"):
            tagged.cut(place)


@pytest.mark.parametrize(
    ("reasoning", "head"),
    [
        ("one two three four five six", "one two three"),
        ("one two three four five", "one two"),
        ("one two, three four five six seven", "one two,"),
        ("one. two three four five six. seven", "one."),
        ("one. two three four, five six seven", "one. two three four,"),
        ("one two.", "one"),
    ],
)
def test_half_of_a_section_ends_with_a_clause_if_there_is_one(reasoning, head) -> None:
    text = WHOLE.replace("Cats have four legs. So four.", reasoning)
    cut = read_tagged(text).cut(4)
    assert cut is not None and cut[0].rpartition("<REASONING> ")[2] == head


def test_a_single_word_has_no_half() -> None:
    assert read_tagged(WHOLE.replace("Cats have four legs. So four.", "Four.")).cut(4) is None


def test_names_of_ones_own() -> None:
    text = "<LOOK> a b </LOOK> <SAY> c </SAY>"
    tagged = read_tagged(text, ("LOOK", "SAY"))
    assert tagged.problem is None
    assert [tagged.cut(place) for place in (1, 2)] == [("", text), ("<LOOK> a", " b </LOOK> <SAY> c </SAY>")]
    assert read_tagged(WHOLE, ("LOOK", "SAY")).problem == "no sections"


def test_published_cuts(shared_golden) -> None:
    golden = json.loads((shared_golden / "sherlock.json").read_text())["prefix_cut"]
    tagged = read_tagged(golden["response"])
    for case in golden["cuts"]:
        assert tagged.cut(case["paper_i"]) == (case["prefix"], case["suffix"])
    missing = golden["missing_marker"]
    assert missing["seed_prefix"] == missing["response"]  # the published code makes all of it the prefix
    assert read_tagged(missing["response"]).cut(2) is None
