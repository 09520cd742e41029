# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace

import pytest

from llamafactory_mmself.data.faults import DataError
from llamafactory_mmself.data.read import RowReader, iter_raw, read_rows, rows_from_raw
from llamafactory_mmself.data.schema import read_dataset_info


def raw_rows(folder, name, text):
    path = folder / name
    if isinstance(text, bytes):
        path.write_bytes(text)
    else:
        path.write_text(text, encoding="utf-8")
    return list(iter_raw(path))


def error(folder, name, text):
    with pytest.raises(DataError) as caught:
        raw_rows(folder, name, text)
    (fault,) = caught.value.faults
    return fault


def pairs(folder):
    return read_dataset_info(folder, ["pairs"])["pairs"]


def test_a_json_list(tmp_path):
    assert raw_rows(tmp_path, "a.json", '[{"a": 1}, 5, null]') == [(1, {"a": 1}), (2, 5), (3, None)]


def test_json_lines_keep_their_line_numbers(tmp_path):
    assert raw_rows(tmp_path, "a.jsonl", '\n{"a": 1}\n\n  \n5\r\n{"a": 2}') == [(2, {"a": 1}), (5, 5), (6, {"a": 2})]


def test_content_tells_lines_from_lists(tmp_path):
    assert raw_rows(tmp_path, "a.json", '{"a": 1}\n\n{"a": 2}\n') == [(1, {"a": 1}), (3, {"a": 2})]
    assert raw_rows(tmp_path, "b.jsonl", '\n[{"a": 1},\n{"a": 2}]') == [(1, {"a": 1}), (2, {"a": 2})]
    assert raw_rows(tmp_path, "c.json", '{"a": 1}') == [(1, {"a": 1})]
    assert raw_rows(tmp_path, "d.json", '{\n"a": 1\n}') == [(1, {"a": 1})]
    assert raw_rows(tmp_path, "e.jsonl", "[1]\n[2]") == [(1, [1]), (2, [2])]


def test_unicode_and_byte_order_marks(tmp_path):
    row = {"a": "é 你好 \u2028 \U0001f600"}
    text = json.dumps(row, ensure_ascii=False)
    assert raw_rows(tmp_path, "a.jsonl", f"{text}\n{text}".encode("utf-8-sig")) == [(1, row), (2, row)]
    assert raw_rows(tmp_path, "a.json", f"[{text}]".encode("utf-8-sig")) == [(1, row)]
    assert raw_rows(tmp_path, "b.json", f"{text}\n{text}".encode("utf-8-sig")) == [(1, row), (2, row)]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("text", ["", " \n\n", "[]", b"\xef\xbb\xbf"])
def test_nothing_in_the_file(tmp_path, name, text):
    assert raw_rows(tmp_path, name, text) == []


def test_lines_are_read_lazily(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{broken\n')
    rows = iter_raw(path)
    assert next(rows) == (1, {"a": 1})
    with pytest.raises(DataError, match="Line 2"):
        next(rows)


def test_broken_json_is_located(tmp_path):
    fault = error(tmp_path, "a.json", '[\n  {"a": 1},\n]')
    assert fault.file == str(tmp_path / "a.json")
    assert fault.message.startswith("Line 2, column 11: a comma stands before the closing `]`.")
    fault = error(tmp_path, "a.jsonl", '{"a": 1}\n\n{"a": 2\n')
    assert (fault.row, fault.code) == (3, "broken-json")
    assert fault.message.startswith("Line 3, column 8: the text ends in the middle")


def test_broken_encodings_are_located(tmp_path):
    assert "Line 2:" in error(tmp_path, "a.json", b'[{"a": "b"},\n{"a": "\xe9"}]').message
    fault = error(tmp_path, "a.jsonl", b'{"a": "b"}\n\n{"a": "\xe9"}')
    assert (fault.row, fault.code) == (3, "bad-encoding")
    assert fault.message.startswith("Line 3:")
    assert error(tmp_path, "b.json", '[{"a": 1}]'.encode("utf-16")).message == "The file is UTF-16 text."
    assert error(tmp_path, "b.jsonl", '{"a": 1}\n{"a": 1}'.encode("utf-16")).message == "The file is UTF-16 text."


def test_a_file_with_a_bare_value(tmp_path):
    assert error(tmp_path, "a.json", "5").code == "not-a-list"


def test_a_folder_is_read_in_sorted_order(tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "b.json").write_text("[3]")
    (folder / "a.jsonl").write_text("1\n2\n")
    (folder / "README.md").write_text("hello")
    (folder / ".hidden.json").write_text("broken")
    (folder / "dataset_info.json").write_text("{}")
    assert list(iter_raw(folder)) == [(1, 1), (2, 2), (1, 3)]
    (folder / "c.parquet").write_text("")
    with pytest.raises(DataError, match="mixes file types"):
        list(iter_raw(folder))


def test_nothing_to_read(tmp_path):
    with pytest.raises(DataError, match=r"no \.json or \.jsonl file"):
        list(iter_raw(tmp_path))
    with pytest.raises(DataError, match="wrong") as caught:
        (tmp_path / "wrong.csv").write_text("a,b")
        list(iter_raw(tmp_path / "wrong.csv"))
    assert caught.value.faults[0].code == "wrong-file-type"


def test_a_missing_file_comes_with_a_suggestion(tmp_path):
    (tmp_path / "online_iter2.json").write_text("[]")
    with pytest.raises(DataError) as caught:
        list(iter_raw(tmp_path / "online_iter2"))
    assert caught.value.faults[0].fix == "Did you mean `online_iter2.json`? Correct `file_name`."
    with pytest.raises(DataError, match="does not exist either"):
        list(iter_raw(tmp_path / "nowhere" / "rows.json"))


def test_huge_numbers_do_no_harm(world, make_row):
    row = json.dumps(make_row(id=1))
    texts = [row.replace('"id": 1', f'"weights": {number}') for number in ("1e400", "9" * 5000, "-1e400", "1e300")]
    folder = world("\n".join(texts), file_name="rows.jsonl")
    rows, faults = read_rows(pairs(folder), folder, folder)
    assert [row.weight for row in rows] == [1e300]
    assert [fault.code for fault in faults] == ["bad-weight"] * 3


def test_rows_and_faults_of_a_data_set(world, make_row):
    folder = world([make_row(), make_row(chosen=""), 5, make_row(images=["red.png", "red.png"])])
    rows, faults = read_rows(pairs(folder), folder, folder)
    assert [row.row for row in rows] == [1, 4]
    assert [fault.row for fault in faults] == [2, 3, 4]
    assert [fault.code for fault in faults] == ["empty-answer", "not-an-object", "same-image"]
    assert {fault.file for fault in faults} == {str(folder / "rows.json")}
    assert rows[0].images == (str(folder / "red.png"),)
    assert next(iter(RowReader(pairs(folder), folder, folder))) == (rows[0], [])


def test_a_broken_line_costs_one_row(world, make_row):
    text = json.dumps(make_row())
    folder = world(f"{text}\n{text[:-1]},}}\n{text}\n", file_name="rows.jsonl")
    rows, faults = read_rows(pairs(folder), folder, folder)
    assert [row.row for row in rows] == [1, 3]
    assert [(fault.row, fault.code) for fault in faults] == [(2, "broken-json")]


@pytest.mark.parametrize("text", ["", "[]"])
def test_no_rows_are_a_fault(world, text):
    folder = world(text)
    rows, faults = read_rows(pairs(folder), folder, folder)
    assert rows == []
    assert [(fault.row, fault.code) for fault in faults] == [(0, "no-rows")]


def test_a_declared_column_that_no_row_has(world, make_row):
    columns = {name: name for name in ("chosen", "rejected", "images")} | {"messages": "conversations"}
    folder = world([make_row(), make_row()], columns=columns | {"weights": "wieghts", "prefix": None, "id": "chosen"})
    _, faults = read_rows(pairs(folder), folder, folder)
    (fault,) = [fault for fault in faults if fault.code == "unused-column"]
    assert (fault.file, fault.row) == (str(folder / "dataset_info.json"), 0)
    assert "`weights` is the key `wieghts`" in fault.message


def test_a_declared_column_that_one_row_has(world, make_row):
    columns = {name: name for name in ("chosen", "rejected", "images")} | {"messages": "conversations"}
    folder = world([make_row(), make_row(weights=None)], columns=columns | {"weights": "weights"})
    assert read_rows(pairs(folder), folder, folder)[1] == []


def test_a_data_set_that_cannot_be_read_at_all(world):
    folder = world(ranking=False)
    for read in (read_rows, RowReader):
        with pytest.raises(DataError, match='Add "ranking": true'):
            read(pairs(folder), folder, folder)
    with pytest.raises(DataError, match='Add "ranking": true'):
        list(rows_from_raw([], pairs(folder), "hub", folder))
    folder = world(hf_hub_url="someone/pairs")
    with pytest.raises(DataError, match="not in a local file"):
        read_rows(pairs(folder), folder, folder)


def test_one_prefix_reading_holds_for_all_files_of_a_data_set(world, make_row, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    full = make_row(prefix="There ", prefix_l="There ")
    suffix = make_row(prefix="We see: ", prefix_l="We see: ")
    (folder / "1.json").write_text(json.dumps([make_row(), make_row(prefix="", prefix_l=""), full]))
    (folder / "2.json").write_text(json.dumps([full, suffix]))
    schema = pairs(world())
    rows, faults = read_rows(replace(schema, file_name="parts"), tmp_path, tmp_path)
    assert len(rows) == 4
    assert [(fault.file, fault.row, fault.code) for fault in faults] == [
        (str(folder / "2.json"), 2, "prefix-mismatch"),
        (str(folder / "2.json"), 2, "prefix-mismatch"),
    ]
    (again, *_), _ = read_rows(replace(schema, file_name="parts", prefix_in_response="false"), tmp_path, tmp_path)
    assert again.chosen == "There is one."


def test_raw_rows_of_others(schema, make_row, tmp_path):
    suffix = make_row(prefix="We see: ", prefix_l="We see: ")
    found = list(rows_from_raw([(1, make_row()), (2, suffix), (9, 5)], schema, "hub", tmp_path))
    assert [row and (row.file, row.row) for row, _ in found] == [("hub", 1), ("hub", 2), None]
    assert found[1][0].chosen == "We see: There is one."
    assert found[2][1][0].row == 9
