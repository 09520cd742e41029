# SPDX-License-Identifier: Apache-2.0
import json
import math

import pytest
from PIL import Image

from llamafactory_mmself.data.rows import FEATURES, PreferenceRow, Turn, normalise
from llamafactory_mmself.data.schema import DatasetSchema


def human(text):
    return {"from": "human", "value": text}


def gpt(text):
    return {"from": "gpt", "value": text}


def test_a_sharegpt_row(read, make_row):
    row, faults = read(make_row())
    assert faults == []
    assert row.prompt == (Turn("user", "<image>\nHow many red squares are there?"),)
    assert (row.chosen, row.rejected) == ("There is one.", ("There are two.",))
    assert (row.images, row.rejected_images, row.videos) == (("red.png",), (), ())
    assert (row.file, row.row, row.system, row.tools) == ("rows.json", 3, "", "")
    assert (row.prefix, row.prefix_l, row.weight, row.answer, row.choices, row.provenance) == (
        *(None, None, None, None),
        (),
        "",
    )


def test_texts_are_never_altered(read, make_row):
    text = "  a\u2028b\r\n\ttabs and  blanks e\u0301 \U0001f600 \u200b "
    row, faults = read(make_row(conversations=[human("<image>" + text)], chosen=gpt(text), rejected=gpt(text + "!")))
    assert faults == []
    assert (row.prompt[0].content, row.chosen, row.rejected) == ("<image>" + text, text, (text + "!",))


def test_answers_may_be_plain_strings_or_lists(read, make_row):
    row, faults = read(make_row(chosen="one", rejected=["two", gpt("three")]))
    assert faults == []
    assert (row.chosen, row.rejected) == ("one", ("two", "three"))


def test_a_conversation_with_system_tools_and_all_roles(read, make_row):
    turns = [
        {"from": "system", "value": "Be brief."},
        human("<image>Count."),
        {"from": "function_call", "value": "count()"},
        {"from": "observation", "value": "1"},
        gpt("One."),
        human("Sure?"),
    ]
    row, faults = read(make_row(conversations=turns, system="ignored", tools=[{"name": "count"}]))
    assert faults == []
    assert row.system == "Be brief."
    assert [turn.role for turn in row.prompt] == ["user", "function", "observation", "assistant", "user"]
    assert json.loads(row.tools) == [{"name": "count"}]


def test_the_system_column(read, make_row):
    row, _ = read(make_row(system="Be brief.", tools='[{"name": "count"}]'))
    assert (row.system, row.tools) == ("Be brief.", '[{"name": "count"}]')


def test_own_tags(read, make_row, make_schema):
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    say = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    schema = make_schema(tags=tags)
    answers = {"chosen": say[1], "rejected": {"role": "assistant", "content": "other"}}
    row, faults = read(make_row(conversations=say, images=[], **answers), schema=schema)
    assert faults == []
    assert row.prompt[1] == Turn("assistant", "assistant")
    row, faults = read(make_row(conversations=[{"role": "system", "content": "x"}, *say], **answers), schema=schema)
    assert faults[0].code == "bad-role"
    assert faults[0].fix.startswith('Add "system_tag": "system" under `tags`')


ALPACA = {
    "prompt": "instruction",
    "query": "input",
    "history": "history",
    "chosen": "good",
    "rejected": "bad",
    "images": "images",
}


@pytest.fixture
def alpaca():
    entry = {"file_name": "rows.json", "ranking": True, "columns": ALPACA}
    return DatasetSchema.from_info("pairs", entry, "dataset_info.json")


def test_an_alpaca_row(read, alpaca):
    raw = {"instruction": "<image>Count", "input": "red squares", "history": [["a", "b"]], "good": "1", "bad": "2"}
    row, faults = read(raw | {"images": "red.png"}, schema=alpaca)
    assert faults == []
    assert row.prompt == (Turn("user", "a"), Turn("assistant", "b"), Turn("user", "<image>Count\nred squares"))
    assert (row.chosen, row.rejected, row.images) == ("1", ("2",), ("red.png",))


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"instruction": 5}, "wrong-type", "instruction"),
        ({"instruction": None}, "missing-field", "instruction"),
        ({"instruction": " "}, "no-user-turn", "instruction"),
        ({"history": "a"}, "wrong-type", "history"),
        ({"history": [["a"]]}, "wrong-type", "history[0]"),
        ({"history": ["ab"]}, "wrong-type", "history[0]"),
        ({"history": [["a", 5]]}, "wrong-type", "history[0][1]"),
        ({"good": {"from": "gpt", "value": "x"}}, "wrong-type", "good"),
        ({"bad": None}, "missing-field", "bad"),
    ],
)
def test_alpaca_faults(only_fault, alpaca, changes, code, field):
    fault = only_fault({"instruction": "Hm?", "good": "1", "bad": "2"} | changes, schema=alpaca)
    assert (fault.code, fault.field) == (code, field)


def test_an_alpaca_query_alone_is_a_question(read, alpaca):
    row, faults = read({"input": "Hm?", "good": "1", "bad": "2"}, schema=alpaca)
    assert faults == []
    assert row.prompt == (Turn("user", "Hm?"),)


@pytest.mark.parametrize("raw", [None, 5, "text", [], [1], True, float("nan")])
def test_a_row_that_is_no_object(only_fault, raw):
    assert only_fault(raw).code == "not-an-object"


@pytest.mark.parametrize("key", ["conversations", "chosen", "rejected"])
@pytest.mark.parametrize("how", ["absent", "null"])
def test_missing_fields(only_fault, make_row, left_out, key, how):
    fault = only_fault(make_row(**{key: left_out if how == "absent" else None}))
    assert (fault.code, fault.field) == ("missing-field", key)
    assert ("null" in fault.message) == (how == "null")


def test_a_missing_field_comes_with_the_keys_that_are_there(only_fault, make_row, left_out):
    fault = only_fault(make_row(chosen=left_out, better="x"))
    assert "It has `conversations`, `rejected`, `images`, `better`." in fault.message


def test_several_faults_of_one_row_are_told_at_once(read, make_row):
    row, faults = read(make_row(chosen=5, images=[1], weights="x", answer=[], choices="ab", tools=3))
    assert row is None
    assert [fault.field for fault in faults] == ["chosen", "images[0]", "tools", "weights", "answer", "choices"]


@pytest.mark.parametrize(
    ("turns", "code", "field"),
    [
        ("text", "wrong-type", "conversations"),
        (["text"], "wrong-type", "conversations[0]"),
        ([{"value": "x"}], "missing-field", "conversations[0].from"),
        ([{"from": "human"}], "missing-field", "conversations[0].value"),
        ([{"from": "human", "value": 5}], "wrong-type", "conversations[0].value"),
        ([{"from": ["human"], "value": "x"}], "wrong-type", "conversations[0].from"),
        ([{"from": "huamn", "value": "x"}], "bad-role", "conversations[0].from"),
        ([human("x"), human("y")], "role-order", "conversations[1]"),
        ([gpt("x"), human("y"), gpt("z")], "role-order", "conversations[0]"),
        ([human("x"), {"from": "system", "value": "y"}, human("z")], "role-order", "conversations[1]"),
        ([human("x"), gpt("y")], "ends-with-answer", "conversations[1]"),
        ([], "no-user-turn", "conversations"),
        ([{"from": "system", "value": "y"}], "no-user-turn", "conversations"),
        ([{"from": "observation", "value": "y"}], "no-user-turn", "conversations"),
        ([human("a\ud800b")], "bad-unicode", "conversations[0].value"),
    ],
)
def test_faults_of_the_conversation(only_fault, make_row, turns, code, field):
    fault = only_fault(make_row(conversations=turns, images=[]))
    assert (fault.code, fault.field) == (code, field)


def test_role_faults_speak_the_words_of_the_file(only_fault, make_row):
    fault = only_fault(make_row(conversations=[human("x"), gpt("y"), gpt("z")], images=[]))
    assert fault.message == "A turn of `gpt` stands right after a turn of `gpt`."
    fault = only_fault(make_row(conversations=[{"from": "user", "value": "x"}], images=[]))
    assert fault.fix == 'Write `human`; or, if all rows say `user`, set "user_tag": "user" under `tags`.'
    fault = only_fault(make_row(conversations=[{"from": "huamn", "value": "x"}], images=[]))
    assert fault.fix == "Did you mean `human`?"


def test_an_empty_turn_is_a_warning(only_fault, make_row):
    fault = only_fault(make_row(conversations=[human("<image>x"), gpt(" "), human("y")]))
    assert (fault.code, fault.level, fault.field) == ("empty-turn", "warning", "conversations[1]")


@pytest.mark.parametrize("text", ["", "  ", "\n\t", "\u3000"])
@pytest.mark.parametrize("key", ["chosen", "rejected"])
def test_empty_answers(only_fault, make_row, key, text):
    assert only_fault(make_row(**{key: gpt(text)})).code == "empty-answer"
    assert only_fault(make_row(**{key: text})).field == key


@pytest.mark.parametrize(
    ("answer", "code", "field"),
    [
        (5, "wrong-type", "chosen"),
        ({"from": "gpt"}, "missing-field", "chosen.value"),
        ({"from": "gpt", "value": ["x"]}, "wrong-type", "chosen.value"),
        ({"from": "human", "value": "x"}, "bad-role", "chosen"),
        ({"from": "function_call", "value": "x"}, "bad-role", "chosen"),
        ("half \udc00", "bad-unicode", "chosen"),
    ],
)
def test_faults_of_an_answer(only_fault, make_row, answer, code, field):
    fault = only_fault(make_row(chosen=answer))
    assert (fault.code, fault.field) == (code, field)


def test_faults_of_a_list_of_answers(only_fault, make_row):
    assert only_fault(make_row(rejected=[])).code == "missing-field"
    assert only_fault(make_row(rejected=["a", None])).field == "rejected[1]"


def test_equal_answers_are_named(only_fault, make_row):
    assert only_fault(make_row(rejected=gpt("There is one."))).field == "rejected"
    fault = only_fault(make_row(rejected=["no", "There is one."]))
    assert (fault.code, fault.field) == ("same-answer", "rejected[1]")


def test_nearly_equal_and_repeated_answers_are_warnings(only_fault, make_row):
    fault = only_fault(make_row(rejected="There is one. "))
    assert (fault.code, fault.level) == ("nearly-same-answer", "warning")
    fault = only_fault(make_row(rejected=["no", "two", "no"]))
    assert (fault.code, fault.level, fault.field) == ("repeated-answer", "warning", "rejected[2]")
    assert "`rejected[0]`" in fault.message


@pytest.mark.parametrize("weight", [0, 1, 0.5, 1e308, -0.0, 10**30])
def test_weights(read, make_row, weight):
    row, faults = read(make_row(weights=weight))
    assert faults == []
    assert isinstance(row.weight, float)
    assert row.weight == float(weight)


@pytest.mark.parametrize(
    "weight", [True, False, "1.0", [1.0], {}, math.nan, math.inf, -math.inf, -1e-9, 10**400, -(10**400), 1j]
)
def test_bad_weights(only_fault, make_row, weight):
    fault = only_fault(make_row(weights=weight))
    assert (fault.code, fault.field) == ("bad-weight", "weights")


def test_a_declared_weight_column(read, make_row, make_schema):
    columns = {name: name for name in ("chosen", "rejected", "images")} | {"messages": "conversations"}
    schema = make_schema(columns=columns | {"weights": "omega"})
    assert read(make_row(omega=2, weights="not read"), schema=schema)[0].weight == 2.0
    schema = make_schema(columns=columns | {"weights": None})
    assert read(make_row(weights=2), schema=schema)[0].weight is None


def test_answer_key_choices_and_provenance(read, make_row):
    row, faults = read(make_row(answer=3, choices=["one", 2, 2.5], provenance={"model": "图", "seed": 1}))
    assert faults == []
    assert (row.answer, row.choices) == ("3", ("one", "2", "2.5"))
    assert row.provenance == '{"model": "图", "seed": 1}'


def test_provenance_is_always_json(read, make_row):
    assert read(make_row(provenance='{"a": 1}'))[0].provenance == '{"a": 1}'
    assert read(make_row(provenance="by hand"))[0].provenance == '"by hand"'
    assert read(make_row(provenance=[]))[0].provenance == "[]"
    assert read(make_row(provenance=None))[0].provenance == ""
    assert read(make_row(provenance=""))[0].provenance == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": True},
        {"answer": ["a"]},
        {"id": {}},
        {"choices": "ab"},
        {"choices": [None]},
        {"provenance": math.nan},
        {"provenance": {1, 2}},
        {"provenance": ["\ud800"]},
        {"provenance": "\ud800"},
        {"tools": 5},
        {"system": 5},
        {"answer": 10**5000},
    ],
)
def test_wrong_types_of_other_columns(only_fault, make_row, changes):
    fault = only_fault(make_row(**changes))
    assert fault.code in ("wrong-type", "bad-unicode")
    assert fault.field.split("[")[0] in changes


def test_an_id_is_the_key(read, make_row):
    assert read(make_row(id="q7"))[0].key == "q7"
    assert read(make_row(id=7))[0].key == "7"


def test_without_an_id_rows_of_one_question_and_image_share_the_key(read, make_row):
    key = read(make_row())[0].key
    assert key == read(make_row(chosen="x", rejected="y", images=["red.png", "blue.png"]))[0].key
    assert key == read(make_row(id=None))[0].key == read(make_row(id=""))[0].key
    assert key != read(make_row(images=["blue.png"]))[0].key
    assert key != read(make_row(system="Be brief."))[0].key
    assert key != read(make_row(conversations=[human("<image>\nHow many?")]))[0].key
    assert len(key) == 32


def test_the_key_does_not_depend_on_the_machine(schema, make_row, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "red.png")
    rows = [
        normalise(make_row(), schema, file=str(i), row=i, media_dir=folder, prefix_reading=None)[0]
        for i, folder in enumerate((tmp_path, tmp_path / "elsewhere"))
    ]
    assert rows[0].images != rows[1].images
    assert rows[0].key == rows[1].key


def test_a_row_survives_its_record(read, make_row):
    row, _ = read(
        make_row(
            id="a",
            images=["red.png", "blue.png"],
            rejected=["x", "y"],
            weights=1,
            answer="1",
            choices=["1", "2"],
            provenance={"a": 1},
            prefix="",
            prefix_l="",
        )
    )
    record = row.to_record()
    assert PreferenceRow.from_record(json.loads(json.dumps(record))) == row
    assert set(record) == set(FEATURES)
    assert type(record["weight"]) is float
    assert type(record["rejected"]) is list


def test_records_fit_the_features_through_arrow(read, make_row):
    from datasets import Dataset, Features, Value

    def feature(kind):
        if isinstance(kind, str):
            return Value(kind)
        if isinstance(kind, list):
            return [feature(kind[0])]
        return {name: feature(inner) for name, inner in kind.items()}

    raws = [make_row(), make_row(weights=2, answer="1", prefix="", prefix_l="", images=["a", "b"], choices=["x"])]
    rows = [read(raw)[0] for raw in raws]
    table = Dataset.from_list([row.to_record() for row in rows], features=Features(feature(FEATURES)))
    assert [PreferenceRow.from_record(record) for record in table] == rows
