# SPDX-License-Identifier: Apache-2.0
"""Published preference rows in both readings: detected, reported, and the same rows in the end."""

import json

import pytest
from PIL import Image

from llamafactory_mmself.cli import main
from llamafactory_mmself.files import read_json, write_json
from llamafactory_mmself.recipes.records import RecipeError
from llamafactory_mmself.recipes.sherlock_import import read_published


def published(number: int, prefix: str, prefix_l: str | None, whole: bool) -> dict:
    """A row as the published generators write it, images as a bare path."""
    start = prefix if prefix_l is None else prefix_l
    row = {
        "conversations": [{"from": "human", "value": f"<image>Question {number}?"}],
        "chosen": {"from": "gpt", "value": (prefix if whole else "") + "right."},
        "rejected": {"from": "gpt", "value": (start if whole else "") + "wrong."},
        "prefix": prefix,
        "weights": 0.8,
        "images": "0.png",
    }
    return row if prefix_l is None else {**row, "prefix_l": prefix_l}


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    return tmp_path


@pytest.mark.parametrize(("whole", "reading"), [(True, "full"), (False, "suffix")])
def test_both_readings_give_the_same_rows(folder, capsys, whole, reading):
    offline = [
        published(0, "", None, whole),
        published(1, "I see. ", None, whole),
        published(2, "Well, ", None, whole),
    ]
    write_json(folder / "rows.json", offline)
    line = ["build", "sherlock", "import", "--data", str(folder / "rows.json"), "--out", str(folder), "--name", "mine"]
    assert main(line) == 0
    shown = capsys.readouterr().out
    assert f"2 rows show {reading}" in shown and "share one prefix: 3" in shown
    rows = read_json(folder / "mine.json")
    assert [row["chosen"]["value"] for row in rows] == ["right.", "I see. right.", "Well, right."]
    assert [row["rejected"]["value"] for row in rows] == ["wrong.", "I see. wrong.", "Well, wrong."]
    assert all(row["prefix"] == row["prefix_l"] for row in rows)
    assert json.loads(rows[1]["provenance"]) == {"file": "rows.json", "reading": reading, "row": 2}
    assert main(["validate", "mine", "--dataset_dir", str(folder)]) == 0


def test_prefixes_of_their_own(folder):
    write_json(folder / "online.json", [published(1, "I see. ", "I saw. ", True)])
    (item,) = read_published(folder / "online.json").rows
    assert (item.row.prefix, item.row.prefix_l) == ("I see. ", "I saw. ")
    assert (item.row.chosen, item.row.rejected) == ("I see. right.", ("I saw. wrong.",))


def test_a_file_in_two_readings_is_refused_unless_told(folder):
    mixed = [
        published(0, "I see. ", None, True),
        published(1, "So, ", None, True),
        published(2, "Well, ", None, False),
    ]
    write_json(folder / "mixed.json", mixed)
    with pytest.raises(RecipeError, match=r"2 rows read as `full` and 1 as `suffix` \(the first is row 3\)"):
        read_published(folder / "mixed.json")
    found = read_published(folder / "mixed.json", reading="full")
    assert len(found.rows) == 2 and {fault.row for fault in found.faults} == {3}


def test_broken_rows_are_left_out_and_told(folder, capsys):
    good, gone = published(0, "I see. ", None, True), published(1, "I see. ", None, True) | {"images": "gone.png"}
    unweighted = {name: value for name, value in published(2, "So, ", None, True).items() if name != "weights"}
    write_json(folder / "rows.json", [good, gone, unweighted, "text"])
    line = ["build", "sherlock", "import", "--data", str(folder / "rows.json"), "--out", str(folder), "--name", "mine"]
    assert main(line) == 0
    shown = capsys.readouterr()
    assert "rows without `weights`: 1" in shown.out and "gone.png" in shown.err and "mine.json: 2 rows" in shown.out
