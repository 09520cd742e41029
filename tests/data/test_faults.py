# SPDX-License-Identifier: Apache-2.0
import json
import pickle

import pytest

from llamafactory_mmself.data.faults import DataError, Fault, format_table
from llamafactory_mmself.data.terminal import display_width, number_ranges, quote, wrap


def fault(row=1, code="bad-weight", **changes):
    values = {
        "file": "rows.json",
        "row": row,
        "field": "weights",
        "code": code,
        "message": "The weight is negative.",
        "fix": "Give a finite number of at least 0.",
    }
    return Fault(**(values | changes))


def test_a_fault_survives_json():
    original = fault(level="warning")
    assert Fault.from_dict(json.loads(json.dumps(original.to_dict()))) == original


def test_a_fault_reads_as_one_sentence_with_its_place():
    assert str(fault(3)) == (
        "rows.json, row 3, field `weights`: The weight is negative. Fix: Give a finite number of at least 0."
    )
    assert str(fault(0, field="")).startswith("rows.json: The weight")


def test_the_error_shows_ten_faults_the_number_of_others_and_the_hint():
    lines = str(DataError([fault(row) for row in range(1, 14)], hint="Run `mmself validate`.")).splitlines()
    assert lines[:10] == [str(fault(row)) for row in range(1, 11)]
    assert lines[10:] == ["... and 3 more faults.", "Run `mmself validate`."]


def test_the_error_is_a_value_error_that_survives_pickling():
    error = DataError([fault()], hint="Look.")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, ValueError)
    assert (again.faults, again.hint, str(again)) == (error.faults, error.hint, str(error))


def test_the_table_of_no_faults_is_empty():
    assert format_table([]) == ""


def test_the_table_puts_errors_first_and_states_a_shared_fix_once():
    text = format_table([fault(1, "same-image", level="warning"), fault(2), fault(3, message="The weight is NaN.")])
    assert text.index("ERROR  bad-weight") < text.index("WARNING  same-image")
    assert text.count("Fix: Give a finite number") == 2
    assert "  row 2  weights  The weight is negative.\n  row 3  weights  The weight is NaN.\n" in text


def test_rows_with_one_message_share_a_line_and_counts_follow():
    text = format_table([fault(row) for row in (1, 2, 3, 9)])
    assert "  rows 1-3, 9  weights  The weight is negative.\n" in text
    assert text.endswith("In all\n  error   bad-weight   4   rows 1-3, 9")


def test_a_table_of_different_kinds_needs_no_counts():
    assert "In all" not in format_table([fault(), fault(code="empty-answer")])


def test_the_table_names_files_where_rows_are_in_several():
    text = format_table([fault(1, file="data/a.json"), fault(1, file="data/b.json")])
    assert "a.json row 1" in text
    assert "b.json row 1" in text
    assert "in 2 files" in text


@pytest.mark.parametrize("width", [60, 100])
def test_no_line_is_wider_than_the_terminal(width):
    faults = [
        fault(
            row, message="数字" * 60 + " " + "x" * 150, field="conversations[12].a_very_long_name", file=f"{row}" * 60
        )
        for row in (1, 200000)
    ]
    lines = format_table(faults + [fault(row) for row in range(1, 900, 2)], width).splitlines()
    assert max(display_width(line) for line in lines) <= width


def test_quoted_text_is_one_short_printable_line():
    assert quote("a\nb\t\ud800é你\x00") == "a\\nb\\t\\ud800é你\\x00"
    assert quote("x" * 100, 10) == "xxxxxxx..."
    assert quote("\n" * 100, 10) == "\\n\\n\\n\\..."
    assert quote("x" * 10, 10) == "x" * 10


def test_wide_characters_count_twice_when_wrapping():
    assert wrap("你好你好 ok", 6) == ["你好你", "好 ok"]
    assert wrap("", 6) == [""]


def test_number_ranges():
    assert number_ranges([5, 1, 2, 3, 3, 9, 10]) == "1-3, 5, 9-10"
