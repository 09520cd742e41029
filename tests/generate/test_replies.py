# SPDX-License-Identifier: Apache-2.0
"""Teachers' replies: the published cases, and replies that are broken in other ways."""

import json

import pytest

from llamafactory_mmself.generate.replies import ReplyError, parse_correction, parse_scores


@pytest.fixture(scope="module")
def golden(shared_golden):
    return json.loads((shared_golden / "ares.json").read_text())


def read(parse, *args, **options):
    try:
        return parse(*args, **options)
    except ReplyError as error:
        return error.reason


def test_published_scores(golden):
    for case in golden["teacher_score_parsing"]:
        found = read(parse_scores, case["teacher_output"], len(case["sentences"]), quirks="published")
        wanted = case["seed_result"]
        if wanted["ok"]:
            assert list(map(str, found)) == list(map(str, map(float, wanted["scores"]))), case["name"]
        else:
            assert found == wanted["reason"], case["name"]


def test_scores(golden):
    for case in golden["teacher_score_parsing"]:
        if (wanted := case.get("product")) is None:
            continue
        found = read(parse_scores, case["teacher_output"], len(case["sentences"]))
        assert found == wanted["scores"] if wanted["ok"] else isinstance(found, str), case["name"]


@pytest.mark.parametrize(
    "reply",
    [
        '{"scores": [{"index": 1, "score": 0.2}, {"index": 2, "score": 1}]}',
        '{"scores": [{"index": 1, "score": 1}, {"index": 0, "score": 0.2}]}',
        '{"a": 0.2, "b": 1}',
        '{"a": 0.2, "a": 1.0}',
        "Here you are: [0.2, 1.0] as asked.",
        '```json\n{"scores": [0.2, 1]}\n```',
        '{\n"He said "stop".": 0.2,\n"Then: he {left}.": 1.0,\n}',
        '{\n"a": "0.2",\n"b": "1"}',
    ],
)
def test_forms_of_scores(reply):
    assert parse_scores(reply, 2) == [0.2, 1.0]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (None, "missing"),
        ("", "format"),
        ("I cannot help with that.", "format"),
        ("[0.5]", "count"),
        ("[0.5, 0.5, 0.5]", "count"),
        ('[{"index": 1, "score": 0.5}, {"index": 1, "score": 0.5}]', "count"),
        ("[NaN, 0.5]", "invalid"),
        ("[Infinity, 0.5]", "invalid"),
        ("[1.5, 0.5]", "invalid"),
        ("[true, 0.5]", "invalid"),
        ('["good", 0.5]', "invalid"),
        ('["xxx", 0.5]', "placeholder"),
        ("[" * 5000, "format"),
    ],
)
def test_scores_that_cannot_be_used(reply, reason):
    assert read(parse_scores, reply, 2) == reason


WHOLE = '{"scores": [{"index": 1, "score": 0.2}, {"index": 2, "score": 1}]}'


@pytest.mark.parametrize("end", range(12, len(WHOLE) - 1))
def test_no_part_of_a_reply_is_taken_for_all_of_it(end):
    assert read(parse_scores, WHOLE[:end], 2) in ("format", "count")
    assert read(parse_scores, WHOLE[:end], 2, cut=True) == "cut"


def test_a_cut_reply_counts_if_its_json_is_whole():
    assert parse_scores(WHOLE + " And so on and so", 2, cut=True) == [0.2, 1.0]
    whole = json.dumps({"final_rationale": "It floats."})
    assert parse_correction(whole + " Because", cut=True) == "It floats."
    for text in (whole[:-4], "final_rationale:{It floats and"):
        assert read(parse_correction, text, cut=True) == "cut"
    assert read(parse_correction, whole[:-4]) == "format"  # a text that has no end, whatever the server says


def test_published_corrections(golden):
    for case in golden["correction_parsing"]["cases"]:
        found = read(parse_correction, case["teacher_output"], quirks="published")
        if case["solution"].startswith("RL "):
            assert found is None, case["name"]
        elif case["solution"].startswith("GOLD "):
            assert found == "missing", case["name"]
        else:
            assert found == case["solution"], case["name"]


def test_corrections(golden):
    found = {c["name"]: read(parse_correction, c["teacher_output"]) for c in golden["correction_parsing"]["cases"]}
    assert found == {
        "kept_json": "Ice is solid. It floats.",
        "placeholder": "placeholder",
        "empty_final": "empty",
        "no_braces": "format",
        "missing_output": "missing",
    }


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps({"final_rationale": "Ice {solid}.\nIt floats."}),
        '```json\n{"original_rationale": "x", "final_rationale": "Ice {solid}.\\nIt floats."}\n```',
        "{\noriginal_rationale:{x},\nfinal_rationale:{Ice {solid}.\nIt floats.}\n}",
        'final_rationale: "Ice {solid}.\nIt floats."\n}',
        '{"original": "He said "no".", "final_rationale": "Ice {solid}.\\nIt floats."}',
    ],
)
def test_forms_of_corrections(reply):
    assert parse_correction(reply) == "Ice {solid}.\nIt floats."


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ('final_rationale:{"Ice" is solid.}', 'Ice" is solid.'),
        ('final_rationale: "The angle" is big', 'The angle" is big'),
        ('{"a": "He said "no".", "final_rationale": "It is $\\nabla f$.\\nYes."}', "It is $\\nabla f$.\nYes."),
    ],
)
def test_quotes_and_line_ends_of_loose_forms(reply, text):
    assert parse_correction(reply) == text


def test_a_correction_may_speak_of_the_original_rationale():
    assert parse_correction('{"final_rationale": "The original rationale was right."}') is not None
