# SPDX-License-Identifier: Apache-2.0
import pytest

from llamafactory_mmself.data.faults import DataError
from llamafactory_mmself.data.jsontext import decode, parse


@pytest.mark.parametrize(
    ("text", "place", "reason", "fix"),
    [
        ('{"a": 1,}', "Line 1, column 8", "comma stands before the closing `}`", "Delete this comma"),
        ("[1,\n2,\n]", "Line 2, column 2", "comma stands before the closing `]`", "Delete this comma"),
        ('{"a": 1.5\n"b": 2}', "Line 1, column 10", "a comma is missing after this entry", "Add the comma"),
        ('[{"a": 1}\n{"a": 2}]', "Line 1, column 10", "a comma is missing", "Add the comma"),
        ('{"a": "say "hi" now"}', "Line 1, column 13", "a comma or a closing bracket", 'Is there a `"` inside'),
        ('{"a": 1', "Line 1, column 8", "ends in the middle", "cut off"),
        ('{"a": "b', "Line 1, column 7", "string is never closed", "missing"),
        ("{'a': 1}", "Line 1, column 2", "no single quotes", "double quotes"),
        ('{"a": True}', "Line 1, column 7", "`True` is Python", "`true`"),
        ('{"a": None}', "Line 1, column 7", "`None` is Python", "`null`"),
        ('{"a": 1, // one\n"b": 2}', "Line 1, column 10", "no comments", "Delete the comment"),
        ('{"a": "b\nc"}', "Line 1, column 9", "raw line break", "\\n"),
        ('{"a": "C:\\data"}', "Line 1, column 10", "backslash", "Double it"),
        ('{"a": 1}\n{"a": 2', "Line 2, column 1", "more text after the end", "one list"),
        ("", "Line 1, column 1", "text is empty", "JSON list"),
        ("{a: 1}", "Line 1, column 2", "expecting property name", "Correct this place"),
    ],
)
def test_mistakes_are_located_and_explained(text, place, reason, fix):
    with pytest.raises(DataError) as caught:
        parse(text, "rows.json")
    (fault,) = caught.value.faults
    assert (fault.file, fault.code) == ("rows.json", "broken-json")
    assert fault.message.startswith(f"{place}: ")
    assert reason in fault.message
    assert fix in fault.fix


def test_the_line_can_start_elsewhere():
    with pytest.raises(DataError, match="Line 7, column 8"):
        parse('{"a": 1 "b"}', "rows.jsonl", first_line=7)


def test_very_deep_nesting_is_an_error_of_ours():
    with pytest.raises(DataError, match="nested too deeply"):
        parse("[" * 200_000, "rows.json")


def test_very_long_numbers_are_read():
    assert parse("[" + "9" * 5000 + "]", "rows.json") == [float("inf")]
    assert parse("9" * 4000, "rows.json") == int("9" * 4000)


def test_a_byte_order_mark_is_tolerated():
    assert decode("é".encode("utf-8-sig"), "rows.json") == "é"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_utf16_is_told(encoding):
    data = "\ufeff[1]".encode("utf-16-le") if encoding == "utf-16-le" else "[1]".encode(encoding)
    with pytest.raises(DataError, match="UTF-16"):
        decode(data, "rows.json")


def test_other_encodings_are_told_with_the_line():
    with pytest.raises(DataError, match="Line 2: the byte 0xe9 is not valid UTF-8"):
        decode("ok\ncafé".encode("latin-1"), "rows.json")
