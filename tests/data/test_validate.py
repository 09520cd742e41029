# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from llamafactory_mmself.data.faults import DataError, Fault
from llamafactory_mmself.data.schema import read_dataset_info
from llamafactory_mmself.data.terminal import display_width
from llamafactory_mmself.data.validate import Report, format_report, validate_dataset


@pytest.fixture
def check(world):
    """Writes rows and validates them."""

    def validate(rows=None, **options):
        entry = options.pop("entry", {})
        folder = world(rows, **entry)
        return validate_dataset(read_dataset_info(folder)["pairs"], folder, folder, **options)

    return validate


def codes(report):
    return [fault.code for fault in report.faults]


def test_a_good_data_set(check, make_row):
    report = check([make_row(), make_row(images=["red.png", "blue.png"])])
    assert (report.dataset, report.rows, report.good, report.faults, report.ok) == ("pairs", 2, 2, (), True)
    assert "pairs         2      2        0          0   ok" in format_report([report])


def test_warnings_are_ok(check, make_row):
    report = check([make_row(images=["red.png", "red.png"])])
    assert (report.good, report.ok, codes(report)) == (1, True, ["same-image"])


def test_errors_are_counted_by_row(check, make_row):
    report = check([make_row(), make_row(chosen="", images=[]), make_row(images=["gone.png"])])
    assert (report.rows, report.good, report.ok) == (3, 1, False)
    assert codes(report) == ["empty-answer", "placeholder-count", "media-missing"]
    assert [fault.row for fault in report.faults] == [2, 2, 3]


def test_media_can_be_left_alone(check, make_row):
    assert check([make_row(images=["gone.png"])], check_media=False).ok


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("rejected_images", {"images": ["red.png", "blue.png"]}),
        ("prefix", {"prefix": "", "prefix_l": ""}),
        ("weights", {"weights": 0}),
    ],
)
def test_required_columns(check, make_row, name, given):
    report = check([make_row(), make_row(**given)], require=frozenset({name}))
    (fault,) = report.faults
    assert (fault.row, fault.code, fault.field) == (1, "missing-required", name)
    assert report.good == 1


def supervised(*turns, **row):
    speakers = ("human", "gpt") * len(turns)
    messages = [{"from": who, "value": text} for who, text in zip(speakers, turns, strict=False)]
    return {"conversations": messages, **row}


SUPERVISED = {"ranking": False, "columns": {"messages": "conversations", "images": "images"}}


def test_supervised_rows_end_with_an_answer(check):
    good = supervised("<image>What?", "Red.", "Sure?", "Yes.", images=["red.png"])
    rows = [
        good,
        supervised("What?"),
        supervised("What?", ""),
        supervised("<image>What?", "Red.", images=[]),
        supervised("<image>What?", "Red.", images=["gone.png"]),
    ]
    report = check(rows, entry=SUPERVISED)
    assert (report.rows, report.good) == (5, 1)
    assert {fault.row for fault in report.faults} == {2, 3, 4, 5}
    assert {"empty-answer", "placeholder-count", "media-missing"} <= set(codes(report))
    fields = {fault.field for fault in report.faults if fault.row == 3}
    assert fields == {"conversations[-1]"}
    assert not any("\\uffff" in str(fault.to_dict()) for fault in report.faults)


def test_a_supervised_answer_may_be_any_text(check):
    row = {**supervised("Which of these is a horse?", "(none)", images=[]), "(none)": "a key of the row"}
    assert check([row], entry=SUPERVISED).ok


def test_supervised_rows_of_alpaca(check):
    entry = {"ranking": False, "formatting": "alpaca", "columns": {"prompt": "instruction", "response": "output"}}
    report = check([{"instruction": "What?", "output": "Red."}, {"instruction": "What?", "output": ""}], entry=entry)
    assert (report.good, codes(report), report.faults[0].field) == (1, ["empty-answer"], "output")
    (fault,) = check([{"instruction": "What?", "input": "Which?"}], entry=entry).faults
    assert fault.message == "The row has no `output`. It has `instruction`, `input`."


def test_an_unknown_requirement_is_refused(check):
    with pytest.raises(ValueError, match="Cannot require"):
        check(require=frozenset({"weight"}))


def test_only_clean_rows_are_encoded(check, make_row):
    seen = []

    def encode(row):
        seen.append(row.row)
        return [Fault(row.file, row.row, "chosen", "too-long", "Too long.", "Shorten it.")] if row.row == 4 else []

    bad = [make_row(chosen=""), make_row(images=["gone.png"])]
    rows = [make_row(), *bad, make_row(), make_row(images=["red.png"] * 2)]
    report = check(rows, encode=encode)
    assert seen == [1, 4, 5]
    assert codes(report) == ["empty-answer", "media-missing", "too-long", "same-image"]
    assert report.good == 2


@pytest.mark.parametrize(
    ("rows", "entry", "code"),
    [
        ("[1,]", {}, "broken-json"),
        ("", {}, "no-rows"),
        ([], {}, "no-rows"),
        (None, {"ranking": False}, "not-ranking"),
        (None, {"formatting": "openai"}, "unsupported-formatting"),
        (None, {"hf_hub_url": "a/b"}, "no-local-file"),
    ],
)
def test_data_sets_that_cannot_be_read(check, rows, entry, code):
    report = check(rows, entry=entry)
    assert (codes(report), report.rows, report.good, report.ok) == ([code], 0, 0, False)
    assert code in format_report([report])


def test_a_missing_file(world):
    folder = world()
    (folder / "rows.json").rename(folder / "row.json")
    report = validate_dataset(read_dataset_info(folder)["pairs"], folder, folder)
    assert codes(report) == ["file-missing"]
    assert "Did you mean `row.json`?" in report.faults[0].fix


def test_a_broken_line_is_one_of_the_rows(check, make_row):
    text = json.dumps(make_row())
    report = check(f"{text}\n{{\n{text}", entry={"file_name": "rows.jsonl"})
    assert (report.rows, report.good, codes(report)) == (3, 2, ["broken-json"])


def test_a_report_is_plain_json(check, make_row):
    report = check([make_row(chosen="")])
    values = json.loads(json.dumps(report.to_dict()))
    assert values["ok"] is False
    assert (values["dataset"], values["rows"], values["good"]) == ("pairs", 1, 0)
    assert [Fault.from_dict(fault) for fault in values["faults"]] == list(report.faults)


def test_the_report_of_several_data_sets_starts_with_a_line_for_each():
    reports = [Report(name, f"{name}.json", 12345, 12345, ()) for name in ("a", "long_name")]
    assert format_report(reports).splitlines() == [
        "data set      rows     good   errors   warnings",
        "a           12,345   12,345        0          0   ok",
        "long_name   12,345   12,345        0          0   ok",
    ]


def many(number, code, level="error", message="Bad number {}."):
    return [Fault("a.json", i + 1, "x", code, message.format(i), "Mend it.", level) for i in range(number)]


def test_at_most_fifty_faults_are_shown_and_every_kind_is_among_them():
    faults = many(5000, "common") + many(3, "rare") + many(40, "odd", "warning")
    text = format_report([Report("a", "a.json", 6000, 0, tuple(faults))])
    assert sum("Bad number" in line for line in text.splitlines()) == 50
    for code in ("common", "rare", "odd"):
        assert f"  {code}\n" in text
    assert "... and 4,993 more faults, counted below." in text
    assert "common   5,000   rows 1-5000" in text


def test_equal_faults_of_many_rows_take_one_line():
    faults = many(5000, "common", message="Same.") + many(10, "rare")
    text = format_report([Report("a", "a.json", 6000, 0, tuple(faults))])
    assert "rows 1-5000  x  Same." in text
    assert "more fault" not in text


def test_the_report_fits_the_terminal(check, make_row):
    rows = [make_row(chosen="你" * 300, rejected="你" * 300), make_row(images=["x" * 300]), make_row(**{"y" * 90: 1})]
    rows += [make_row(chosen=None, **{"y" * 90: 1}), make_row(prefix="你好" * 60, prefix_l="x" * 90)]
    rows += [make_row(conversations=[{"from": "x" * 200, "value": "y"}])] + [make_row(weights="w" * 500)] * 2
    text = format_report([check(rows)])
    assert max(display_width(line) for line in text.splitlines()) <= 100


def test_progress_bars(check, make_row, capsys):
    check([make_row()], progress=True, encode=lambda row: [])
    shown = capsys.readouterr().err
    for title in ("Reading rows", "Checking media", "Encoding rows"):
        assert title in shown


def test_errors_of_the_encoder_itself_are_not_hidden(check):
    def encode(row):
        raise DataError([Fault("a", 1, "", "x", "Broken.", "Mend it.")])

    with pytest.raises(DataError, match="Broken"):
        check(encode=encode)
