# SPDX-License-Identifier: Apache-2.0
"""What holds for rows of any content."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamafactory_mmself.data.faults import DataError, Fault, format_table
from llamafactory_mmself.data.jsontext import parse
from llamafactory_mmself.data.read import rows_from_raw
from llamafactory_mmself.data.rows import PreferenceRow, decide_prefix_reading, normalise
from llamafactory_mmself.data.schema import DatasetSchema
from llamafactory_mmself.data.terminal import display_width, quote, wrap


NOWHERE = Path("a-folder-that-does-not-exist")
SETTINGS = settings(max_examples=200, deadline=None, database=None)

FORMATS = {
    "sharegpt": {"messages": "conversations", "images": "images", "videos": "videos", "audios": "audios"},
    "alpaca": {"prompt": "instruction", "query": "input", "history": "history", "images": "images"},
}

any_text = st.text(st.characters(), max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.just(10**400)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3)
)
words = st.sampled_from(["There is", " one.", "<image>", "<image>\n", "There", "", " ", "\ud800", "你好", "<video>"])
texts = st.lists(words, max_size=4).map("".join)
turns = st.fixed_dictionaries(
    {
        "from": st.sampled_from(["human", "human", "gpt", "gpt", "system", "observation", "function_call", "user"]),
        "value": texts | anything,
    }
)
answers = texts | turns
paths = st.sampled_from(["a.png", "b.png", "", "a\0b", "\ud800"])


def maybe(strategy):
    """Mostly values of the right kind, sometimes anything."""
    return st.one_of(strategy, strategy, strategy, anything)


rows = st.fixed_dictionaries(
    {},
    optional={
        "conversations": maybe(st.lists(turns, max_size=4)),
        "instruction": maybe(texts),
        "input": maybe(texts),
        "history": maybe(st.lists(st.lists(texts, min_size=2, max_size=2), max_size=2)),
        "system": maybe(texts),
        "tools": anything,
        "chosen": maybe(answers),
        "rejected": maybe(answers | st.lists(answers, max_size=3)),
        "images": maybe(paths | st.lists(paths, max_size=4)),
        "rejected_images": maybe(st.lists(paths, max_size=2)),
        "videos": maybe(st.lists(paths, max_size=1)),
        "audios": maybe(st.none()),
        "prefix": maybe(texts),
        "prefix_l": maybe(texts),
        "weights": maybe(st.floats()),
        "id": anything,
        "answer": anything,
        "choices": anything,
        "provenance": anything,
    },
)
parts = st.sampled_from(["There is", " one.", "There", " ", "你好", "e\u0301\n"])
said = st.lists(parts, min_size=1, max_size=4).map("".join)
asked = st.lists(st.sampled_from(["<image>", "How many?", "\n"]), min_size=1, max_size=4).map("".join)


@st.composite
def likely_rows(draw):
    """Rows of which many are good."""
    talk = draw(st.lists(asked, min_size=1, max_size=3))
    wanted = sum(text.count("<image>") for text in talk)
    row = {
        "conversations": [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(talk)],
        "instruction": talk[0],
        "chosen": draw(said),
        "rejected": draw(st.lists(said, min_size=1, max_size=2)),
        "images": ["a.png"] * draw(st.sampled_from([wanted, 2 * wanted])),
    }
    optional = {
        "prefix": st.sampled_from(["", row["chosen"][:3]]),
        "prefix_l": st.sampled_from(["", row["rejected"][0][:3], "We"]),
        "weights": st.floats(0, 9) | st.integers(0),
        "id": st.integers() | any_text,
        "provenance": anything,
        "choices": st.lists(any_text, max_size=3),
    }
    return row | draw(st.fixed_dictionaries({}, optional=optional))


def schema_of(formatting, setting="auto"):
    columns = FORMATS[formatting] | {name: name for name in ("system", "tools", "chosen", "rejected")}
    entry = {"file_name": "a.json", "formatting": formatting, "ranking": True, "columns": columns}
    return DatasetSchema.from_info("pairs", entry | {"prefix_in_response": setting})


@pytest.mark.parametrize("formatting", FORMATS)
@SETTINGS
@given(raw=rows | likely_rows() | anything, reading=st.sampled_from(["full", "suffix", None]))
def test_normalise_never_raises_and_says_why_a_row_is_dropped(formatting, raw, reading):
    row, faults = normalise(
        raw, schema_of(formatting), file="a.json", row=1, media_dir=NOWHERE, prefix_reading=reading
    )
    assert (row is None) == any(fault.level == "error" for fault in faults)
    for fault in faults:
        assert fault.message.endswith((".", ")"))
        assert fault.fix.endswith((".", "?"))
        assert (fault.message + fault.fix).isprintable()
        assert fault.code == fault.code.lower().replace(" ", "-").replace("_", "-")
    if row is not None:
        check_row(row, reading)


def check_row(row: PreferenceRow, reading):
    assert json.loads(json.dumps(row.to_record(), allow_nan=False)) == row.to_record()
    assert PreferenceRow.from_record(row.to_record()) == row
    json.dumps(row.to_record(), ensure_ascii=False).encode("utf-8")
    assert len(row.prompt) % 2 == 1
    assert row.prompt[-1].role in ("user", "observation")
    assert row.rejected
    assert row.chosen not in row.rejected
    assert all(text.strip() for text in (row.chosen, *row.rejected))
    assert len(row.images) == sum(turn.content.count("<image>") for turn in row.prompt)
    assert len(row.rejected_images) in (0, len(row.images))
    assert (row.prefix is None) == (row.prefix_l is None)
    if row.prefix is not None:
        assert row.chosen.startswith(row.prefix)
        assert row.rejected[0].startswith(row.prefix_l)
    assert row.key
    if row.provenance:
        json.loads(row.provenance)


@SETTINGS
@given(raws=st.lists(rows | likely_rows() | anything, max_size=4), setting=st.sampled_from(["auto", True, False]))
def test_a_stream_yields_one_result_for_each_row(raws, setting):
    schema = schema_of("sharegpt", setting)
    found = list(rows_from_raw(enumerate(raws, 1), schema, "a.json", NOWHERE))
    assert len(found) == len(raws)
    reading = decide_prefix_reading(raws, schema)
    again = [
        normalise(raw, schema, file="a.json", row=i, media_dir=NOWHERE, prefix_reading=reading)
        for i, raw in enumerate(raws, 1)
    ]
    assert found == again


@SETTINGS
@given(raw=likely_rows(), reading=st.sampled_from(["full", "suffix"]))
def test_texts_come_out_as_they_went_in(raw, reading):
    row, _ = normalise(raw, schema_of("sharegpt"), file="a", row=1, media_dir=NOWHERE, prefix_reading=reading)
    if row is None:
        return
    joined = reading == "suffix" and row.prefix is not None
    assert row.chosen == (row.prefix if joined else "") + raw["chosen"]
    assert list(row.rejected) == [(row.prefix_l if joined else "") + text for text in raw["rejected"]]
    assert [turn.content for turn in row.prompt] == [turn["value"] for turn in raw["conversations"]]


@SETTINGS
@given(text=st.text(st.sampled_from("{}[]\",:\\\n abt1.-/*#'TNfn"), max_size=30))
def test_any_text_is_json_or_a_located_error(text):
    try:
        parse(text, "a.json")
    except DataError as err:
        (fault,) = err.faults
        assert fault.message.startswith("Line ")
        line, column = fault.message.split(":")[0].removeprefix("Line ").split(", column ")
        assert 1 <= int(line) <= text.count("\n") + 1
        assert 1 <= int(column) <= len(text) + 1


@SETTINGS
@given(text=st.text(max_size=80), width=st.integers(2, 40))
def test_wrapping_loses_no_text(text, width):
    lines = wrap(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(display_width(line) <= width for line in lines)


@SETTINGS
@given(text=st.text(st.characters(), max_size=40), limit=st.integers(4, 50))
def test_quotes_are_printable_and_short(text, limit):
    assert quote(text, limit).isprintable()
    assert len(quote(text, limit)) <= limit


faults = st.builds(
    Fault,
    file=st.sampled_from(["a.json", "b.json"]),
    row=st.integers(0, 10**6),
    field=any_text,
    code=st.sampled_from(["bad-weight", "same-image"]),
    message=st.text(max_size=200),
    fix=st.text(max_size=200),
    level=st.sampled_from(["error", "warning"]),
)


@SETTINGS
@given(found=st.lists(faults, max_size=8))
def test_any_faults_make_a_table_that_fits(found):
    assert all(display_width(line) <= 100 for line in format_table(found).split("\n"))
