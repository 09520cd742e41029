# SPDX-License-Identifier: Apache-2.0
"""Published files load as they are."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from llamafactory_mmself.data.read import read_rows
from llamafactory_mmself.data.rows import normalise
from llamafactory_mmself.data.schema import DatasetSchema
from llamafactory_mmself.data.validate import validate_dataset


OVIP = {
    "file_name": "ovip_sample.json",
    "formatting": "sharegpt",
    "ranking": True,
    "columns": {"messages": "conversations", "images": "images", "chosen": "chosen", "rejected": "rejected"},
    "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
}


def test_the_ovip_sample(shared_data):
    folder = shared_data / "ovip_sample" / "data"
    schema = DatasetSchema.from_info("ovip_sample", OVIP)
    rows, faults = read_rows(schema, folder, folder)
    assert len(rows) == 12
    assert [(fault.row, fault.code, fault.level) for fault in faults] == [
        (row, "same-image", "warning") for row in range(1, 13)
    ]
    assert len({row.key for row in rows}) == 2
    assert len({row.images for row in rows}) == 2
    assert all(len(row.images) == len(row.rejected_images) == 1 for row in rows)
    report = validate_dataset(schema, folder, folder, require=frozenset({"rejected_images"}))
    assert (report.rows, report.good, report.ok) == (12, 12, True)


SHERLOCK_COLUMNS = {"messages": "conversations", "images": "images", "chosen": "chosen", "rejected": "rejected"}


@pytest.fixture
def sherlock(tmp_path):
    """Writes Sherlock rows; `undeclared` columns are in the rows but not in the entry."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    prefix = "<SUMMARY> Count. </SUMMARY>\n\n"

    def make(chosen, rejected, prefix=prefix, prefix_l=prefix, undeclared=("prefix_l",)):
        row = {
            "conversations": [{"from": "human", "value": "<image>How many?"}],
            "chosen": {"from": "gpt", "value": chosen},
            "rejected": {"from": "gpt", "value": rejected},
            "prefix": prefix,
            "prefix_l": prefix_l,
            "weights": 1.0692044,
            "images": "a.png",
        }
        (tmp_path / "rows.json").write_text(json.dumps([row]))
        columns = {name: name for name in ("prefix", "prefix_l", "weights") if name not in undeclared}
        entry = {"file_name": "rows.json", "formatting": "sharegpt", "ranking": True}
        schema = DatasetSchema.from_info("sherlock", entry | {"columns": SHERLOCK_COLUMNS | columns})
        (loaded,), faults = read_rows(schema, tmp_path, tmp_path)
        assert faults == []
        return loaded

    return make


@pytest.mark.parametrize("undeclared", [(), ("prefix_l",), ("prefix", "prefix_l", "weights")])
def test_sherlock_rows_with_full_answers(sherlock, undeclared):
    prefix = "<SUMMARY> Count. </SUMMARY>\n\n"
    row = sherlock(prefix + "One.", prefix + "Two.", undeclared=undeclared)
    assert (row.chosen, row.rejected) == (prefix + "One.", (prefix + "Two.",))
    assert (row.prefix, row.prefix_l, row.weight) == (prefix, prefix, 1.0692044)


def test_sherlock_rows_with_suffixes_mean_the_same(sherlock):
    prefix = "<SUMMARY> Count. </SUMMARY>\n\n"
    assert sherlock("One.", "Two.") == sherlock(prefix + "One.", prefix + "Two.")


TALK = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "<image>Count."},
    {"from": "function_call", "value": "count()"},
    {"from": "observation", "value": "1"},
]
ALPACA = {"prompt": "p", "query": "q", "history": "h", "chosen": "c", "rejected": "r", "images": "i", "system": "s"}


@pytest.mark.parametrize(
    ("entry", "raw"),
    [
        (
            {"formatting": "sharegpt", "columns": SHERLOCK_COLUMNS},
            {
                "conversations": TALK,
                "images": ["a.png"],
                "chosen": {"from": "gpt", "value": "One."},
                "rejected": {"from": "gpt", "value": "Two."},
            },
        ),
        (
            {"formatting": "alpaca", "columns": ALPACA},
            {
                "p": "<image>",
                "q": "How many?",
                "h": [["a", "b"]],
                "c": "1",
                "r": "2",
                "i": ["a.png", "b.png"],
                "s": "x",
            },
        ),
    ],
    ids=["sharegpt", "alpaca"],
)
def test_rows_read_as_in_llamafactory(tmp_path, entry, raw):
    from llamafactory.data.converter import get_dataset_converter
    from llamafactory.data.parser import DatasetAttr
    from llamafactory.hparams import DataArguments

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    entry = entry | {"file_name": "a.json", "ranking": True}
    attributes = DatasetAttr("file", dataset_name="a.json")
    attributes.join(entry)
    theirs = get_dataset_converter(entry["formatting"], attributes, DataArguments(media_dir=str(tmp_path)))(raw)
    schema = DatasetSchema.from_info("pairs", entry)
    ours, _ = normalise(raw, schema, file="a.json", row=1, media_dir=tmp_path, prefix_reading=None)
    assert [turn._asdict() for turn in ours.prompt] == theirs["_prompt"]
    assert [ours.chosen, *ours.rejected] == [answer["content"] for answer in theirs["_response"]]
    assert ours.system == theirs["_system"]
    assert [*ours.images, *ours.rejected_images] == theirs["_images"]


def test_checking_data_imports_nothing_heavy():
    modules = ("faults", "schema", "rows", "read", "images", "validate")
    code = "import sys, {}\n".format(", ".join(f"llamafactory_mmself.data.{module}" for module in modules))
    code += "heavy = {'torch', 'transformers', 'llamafactory', 'datasets', 'numpy', 'PIL', 'tqdm'}\n"
    code += "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
