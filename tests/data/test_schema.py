# SPDX-License-Identifier: Apache-2.0
import json
import pickle

import pytest

from llamafactory_mmself.data.faults import DataError
from llamafactory_mmself.data.schema import DEFAULT_TAGS, EXTRA_COLUMNS, DatasetSchema, read_dataset_info


def from_info(**entry):
    return DatasetSchema.from_info("pairs", {"file_name": "rows.json"} | entry, "dataset_info.json")


def faults_of(**entry):
    with pytest.raises(DataError) as caught:
        from_info(**entry)
    return caught.value.faults


def test_defaults_are_those_of_llamafactory():
    schema = from_info()
    assert (schema.formatting, schema.ranking, schema.prefix_in_response) == ("alpaca", False, "auto")
    assert schema.columns["messages"] == "conversations"
    assert (schema.columns["prompt"], schema.columns["query"]) == ("instruction", "input")
    assert schema.tags == DEFAULT_TAGS
    assert "chosen" not in schema.columns
    assert "images" not in schema.columns


def test_defaults_agree_with_the_installed_llamafactory():
    from llamafactory.data.parser import DatasetAttr

    attributes = DatasetAttr("file", dataset_name="rows.json")
    attributes.join({})
    schema = from_info()
    for tag, word in schema.tags.items():
        assert getattr(attributes, tag) == word
    for column in ("messages", "prompt", "query", "response", "system", "images", "chosen", "rejected", "history"):
        assert getattr(attributes, column) == schema.columns.get(column)


def test_named_columns_and_tags_replace_all_defaults():
    schema = from_info(columns={"messages": "chat"}, tags={"role_tag": "role"})
    assert schema.columns["messages"] == "chat"
    assert "prompt" not in schema.columns
    assert schema.tags == {"role_tag": "role"}
    assert from_info(tags={}).tags == {}


def test_our_own_columns_are_found_without_being_declared():
    schema = from_info(columns={"messages": "chat"})
    assert {column: schema.columns[column] for column in EXTRA_COLUMNS} == {name: name for name in EXTRA_COLUMNS}
    assert schema.declared == {"messages"}


def test_own_columns_can_be_renamed_switched_off_or_taken_by_another_column():
    schema = from_info(columns={"weights": "omega", "provenance": None, "response": "answer"})
    assert schema.columns["weights"] == "omega"
    assert "provenance" not in schema.columns
    assert "answer" not in schema.columns
    assert schema.key("answer") == "answer"


def test_other_keys_are_kept():
    schema = from_info(num_samples=5, split="test", comment="mine")
    assert schema.extra == {"num_samples": 5, "split": "test", "comment": "mine"}


@pytest.mark.parametrize(
    ("value", "setting"),
    [(True, "true"), (False, "false"), ("auto", "auto"), ("true", "true"), ("false", "false")],
)
def test_prefix_setting(value, setting):
    assert from_info(prefix_in_response=value).prefix_in_response == setting


@pytest.mark.parametrize("value", ["yes", 1, None, ["true"]])
def test_bad_prefix_setting(value):
    (fault,) = faults_of(prefix_in_response=value)
    assert (fault.code, fault.field) == ("bad-setting", "pairs.prefix_in_response")


@pytest.mark.parametrize("key", ["hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name"])
def test_other_sources_have_no_file(key):
    schema = DatasetSchema.from_info("pairs", {key: "somewhere", "file_name": "ignored.json"}, "dataset_info.json")
    assert schema.file_name is None
    assert schema.extra == {key: "somewhere"}


def test_a_misspelt_column_gets_a_suggestion():
    (fault,) = faults_of(columns={"choosen": "a"})
    assert (fault.code, fault.field, fault.row) == ("unknown-column", "pairs.columns", 0)
    assert fault.fix == "Did you mean `chosen`?"


def test_a_misspelt_tag_gets_a_suggestion():
    (fault,) = faults_of(tags={"roles_tag": "a"})
    assert (fault.code, fault.fix) == ("unknown-tag", "Did you mean `role_tag`?")


def test_an_unknown_column_without_a_likeness_gets_the_list():
    (fault,) = faults_of(columns={"zzz": "a"})
    assert fault.fix.startswith("Use one of these columns: messages, ")


def test_a_misspelt_key_gets_a_suggestion():
    (fault,) = faults_of(colums={})
    assert (fault.code, fault.fix) == ("unknown-key", "Did you mean `columns`?")


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"columns": ["messages"]}, "pairs.columns"),
        ({"columns": {"messages": 1}}, "pairs.columns.messages"),
        ({"tags": "human"}, "pairs.tags"),
        ({"ranking": "yes"}, "pairs.ranking"),
        ({"formatting": 1}, "pairs.formatting"),
        ({"file_name": 3}, "pairs.file_name"),
    ],
)
def test_wrong_types(entry, field):
    (fault,) = faults_of(**entry)
    assert (fault.code, fault.field) == ("wrong-type", field)


def test_several_faults_are_told_at_once():
    assert [fault.code for fault in faults_of(ranking=1, columns={"imagse": "a"})] == ["unknown-column", "wrong-type"]


def test_an_entry_that_is_no_object():
    with pytest.raises(DataError, match="The entry is a list"):
        DatasetSchema.from_info("pairs", [1], "dataset_info.json")


def test_an_entry_without_a_source():
    with pytest.raises(DataError, match="does not say where the rows are"):
        DatasetSchema.from_info("pairs", {}, "dataset_info.json")


def test_reasons_why_no_row_could_be_read():
    assert from_info(formatting="sharegpt", ranking=True, columns={"chosen": "a"}, tags={"role_tag": "r"}).faults()
    codes = [fault.code for fault in from_info(formatting="sharegpt", columns={}, tags={"role_tag": "r"}).faults()]
    assert codes == ["not-ranking"] + ["missing-column"] * 3 + ["missing-tag"] * 3
    (fault, *_) = from_info(formatting="openai", ranking=True).faults()
    assert fault.code == "unsupported-formatting"
    assert '"role_tag": "role"' in fault.fix


def test_a_usable_schema_has_no_faults(schema):
    assert schema.faults() == []
    assert pickle.loads(pickle.dumps(schema)) == schema


def write(folder, text):
    (folder / "dataset_info.json").write_text(text, encoding="utf-8")
    return folder


def test_reading_asked_names_in_their_order(tmp_path):
    entry = {"file_name": "a.json"}
    write(tmp_path, json.dumps({"a": entry, "b": entry, "broken": 5}))
    assert list(read_dataset_info(tmp_path, ["b", "a"])) == ["b", "a"]
    with pytest.raises(DataError, match="a number"):
        read_dataset_info(tmp_path, None)


def test_unknown_names_are_told_together(tmp_path):
    write(tmp_path, json.dumps({"ovip_sample": {"file_name": "a.json"}}))
    with pytest.raises(DataError) as caught:
        read_dataset_info(tmp_path, ["ovip_samle", "zzz"])
    assert [fault.fix for fault in caught.value.faults] == [
        "Did you mean `ovip_sample`?",
        "Use one of the data sets in this file: ovip_sample.",
    ]


def test_a_trailing_comma_is_explained_with_line_and_column(tmp_path):
    write(tmp_path, '{\n  "dummy": {\n    "file_name": "a.json"\n  },\n}\n')
    with pytest.raises(DataError) as caught:
        read_dataset_info(tmp_path, ["dummy"])
    (fault,) = caught.value.faults
    assert fault.file == str(tmp_path / "dataset_info.json")
    assert fault.message == "Line 4, column 4: a comma stands before the closing `}`. Near: `},`"
    assert fault.fix.startswith("Delete this comma")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(DataError, match=r"no dataset_info\.json") as caught:
        read_dataset_info(tmp_path, ["a"])
    assert "dataset_dir" in caught.value.faults[0].fix


def test_a_list_is_no_dataset_info(tmp_path):
    with pytest.raises(DataError, match="holds a list"):
        read_dataset_info(write(tmp_path, "[1]"), None)
