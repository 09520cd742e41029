# SPDX-License-Identifier: Apache-2.0
import pytest

from llamafactory_mmself.data.rows import decide_prefix_reading


FULL = {"prefix": "There ", "prefix_l": "There are"}
SUFFIX = {"prefix": "We see: ", "prefix_l": "We count: "}


def test_full_texts_stay_as_they_are(read, make_row):
    row, faults = read(make_row(**FULL), reading="full")
    assert faults == []
    assert (row.chosen, row.rejected, row.prefix, row.prefix_l) == (
        "There is one.",
        ("There are two.",),
        "There ",
        "There are",
    )


def test_suffixes_get_their_prefix(read, make_row):
    row, faults = read(make_row(**SUFFIX), reading="suffix")
    assert faults == []
    assert row.chosen == "We see: There is one."
    assert row.rejected == ("We count: There are two.",)
    assert row.chosen.startswith(row.prefix)
    assert row.rejected[0].startswith(row.prefix_l)


def test_every_rejected_suffix_gets_the_prefix(read, make_row):
    row, _ = read(make_row(rejected=["a", "b"], **SUFFIX), reading="suffix")
    assert row.rejected == ("We count: a", "We count: b")


@pytest.mark.parametrize("reading", ["full", "suffix", None])
def test_empty_prefixes_agree_with_both_readings(read, make_row, reading):
    row, faults = read(make_row(prefix="", prefix_l=""), reading=reading)
    assert faults == []
    assert (row.chosen, row.prefix, row.prefix_l) == ("There is one.", "", "")


@pytest.mark.parametrize(("changes", "chosen"), [(FULL, "There is one."), (SUFFIX, "We see: There is one.")])
def test_without_a_decision_the_row_decides(read, make_row, changes, chosen):
    row, faults = read(make_row(**changes))
    assert faults == []
    assert row.chosen == chosen


@pytest.mark.parametrize(("given", "absent"), [("prefix", "prefix_l"), ("prefix_l", "prefix")])
@pytest.mark.parametrize("value", ["", "There"])
def test_one_prefix_alone(only_fault, make_row, given, absent, value):
    fault = only_fault(make_row(**{given: value, absent: None}))
    assert (fault.code, fault.field) == ("prefix-incomplete", absent)
    assert f'"{absent}": "{given}"' in fault.fix


def test_one_key_may_serve_both_prefixes(read, make_row, make_schema):
    columns = {name: name for name in ("chosen", "rejected", "images")} | {"messages": "conversations"}
    schema = make_schema(columns=columns | {"prefix": "prefix", "prefix_l": "prefix"})
    row, faults = read(make_row(prefix="There "), schema=schema)
    assert faults == []
    assert (row.prefix, row.prefix_l) == ("There ", "There ")


def test_a_full_text_without_its_prefix(read, make_row):
    row, faults = read(make_row(prefix="There was", prefix_l="We"), reading="full")
    assert row is None
    assert [(fault.code, fault.field) for fault in faults] == [
        ("prefix-mismatch", "chosen"),
        ("prefix-mismatch", "rejected"),
    ]
    assert 'from character 7 on it reads "is one.", not "was"' in faults[0].message
    assert '"prefix_in_response": false in dataset_info.json' in faults[0].fix


def test_a_suffix_with_its_prefix(only_fault, make_row):
    fault = only_fault(make_row(prefix="There ", prefix_l="We"), reading="suffix")
    assert (fault.code, fault.field) == ("prefix-repeated", "chosen")
    assert '"prefix_in_response": true in dataset_info.json' in fault.fix


def test_the_fix_says_who_decided(only_fault, make_row, make_schema):
    raw = make_row(prefix="There ", prefix_l="We")
    assert "The first row with a prefix shows" in only_fault(raw, reading="suffix").fix
    fault = only_fault(raw, reading="suffix", schema=make_schema(prefix_in_response=False))
    assert "`prefix_in_response` says" in fault.fix


def test_nothing_behind_the_prefix(only_fault, make_row):
    fault = only_fault(make_row(prefix="There is one.", prefix_l="There"), reading="full")
    assert (fault.code, fault.field) == ("empty-answer", "chosen")
    fault = only_fault(make_row(chosen=" ", **SUFFIX), reading="suffix")
    assert (fault.code, fault.field) == ("empty-answer", "chosen")


def test_full_texts_are_compared(only_fault, read, make_row):
    same = make_row(chosen="one", rejected="one", prefix="A ", prefix_l="B ")
    assert read(same, reading="suffix")[1] == []
    fault = only_fault(make_row(chosen="b c", rejected=" c", prefix="a", prefix_l="ab"), reading="suffix")
    assert fault.code == "same-answer"


@pytest.mark.parametrize("prefix", [5, ["There"], "\ud800"])
def test_a_prefix_that_is_no_text(only_fault, make_row, prefix):
    assert only_fault(make_row(prefix=prefix, prefix_l="There")).field == "prefix"


def test_the_first_row_with_a_prefix_decides(schema, make_row):
    full, suffix, empty = make_row(**FULL), make_row(**SUFFIX), make_row(prefix="", prefix_l="")
    assert decide_prefix_reading([make_row(), empty, full, suffix], schema) == "full"
    assert decide_prefix_reading([empty, suffix, full], schema) == "suffix"
    assert decide_prefix_reading([make_row(), empty], schema) is None
    assert decide_prefix_reading([], schema) is None


def test_no_more_rows_are_taken_than_needed(schema, make_row):
    rows = iter([make_row(), make_row(**FULL), make_row(**SUFFIX)])
    decide_prefix_reading(rows, schema)
    assert len(list(rows)) == 1


def test_both_answers_must_start_with_their_prefix(schema, make_row):
    assert decide_prefix_reading([make_row(prefix="There", prefix_l="We")], schema) == "suffix"


def test_unreadable_rows_do_not_decide(schema, make_row):
    unreadable = [None, "x", make_row(chosen=5, **SUFFIX), make_row(prefix="x"), make_row(prefix=5, prefix_l="y")]
    assert decide_prefix_reading([*unreadable, make_row(**FULL)], schema) == "full"


@pytest.mark.parametrize(("setting", "reading"), [(True, "full"), (False, "suffix")])
def test_the_setting_wins(make_schema, make_row, setting, reading):
    rows = [make_row(**SUFFIX), make_row(**FULL)]
    assert decide_prefix_reading(rows, make_schema(prefix_in_response=setting)) == reading
