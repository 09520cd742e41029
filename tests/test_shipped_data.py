# SPDX-License-Identifier: Apache-2.0
"""The data sets in `data/` are what `data/draw.py` writes, and hang together."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops


DATA = Path(__file__).resolve().parent.parent / "data"
INFO = json.loads((DATA / "dataset_info.json").read_text(encoding="utf-8"))
TWO_IMAGES = ("mmself_pairs", "dummy", "ovip_eval")
SHERLOCK = ("mmself_sherlock_full", "mmself_sherlock_suffix")
ROWS = {
    **{"mmself_pairs": 40, "mmself_pairs_columns": 40, "mmself_text_pairs": 40, "mmself_sft": 40},
    **{"mmself_sherlock_full": 24, "mmself_sherlock_suffix": 24, "dummy": 60, "ovip_eval": 12},
}


def rows(name: str) -> list[dict[str, Any]]:
    text = (DATA / INFO[name]["file_name"]).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if name == "mmself_pairs_columns" else json.loads(text)


def test_draw_reproduces_the_committed_files(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(DATA.parent)}
    subprocess.run([sys.executable, DATA / "draw.py", "--out", tmp_path, "--seed", "0"], check=True, env=environment)
    fresh = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    committed = {path.relative_to(DATA) for path in DATA.rglob("*") if path.is_file()}
    assert committed - fresh == {Path("README.md"), Path("draw.py")}
    assert fresh <= committed
    for path in sorted(fresh):
        if (tmp_path / path).read_bytes() != (DATA / path).read_bytes():
            # Another build of Pillow may pack the same pixels into other bytes; nothing else may differ.
            assert path.suffix == ".png", f"data/{path} is not what data/draw.py writes; run it again"
            with Image.open(tmp_path / path) as new, Image.open(DATA / path) as old:
                assert ImageChops.difference(new, old).getbbox() is None, f"data/{path} shows another picture"


def test_the_folder_stays_small() -> None:
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 400_000


def test_dataset_info_names_every_file() -> None:
    named = {entry["file_name"] for entry in INFO.values()}
    assert named == {path.name for path in DATA.glob("*.json*")} - {"dataset_info.json"}
    assert set(INFO) == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_rows_have_the_declared_columns_and_pictures(name: str) -> None:
    table = rows(name)
    assert len(table) == ROWS[name]
    for row in table:
        assert set(row) == set(INFO[name]["columns"].values())
        assert sum(turn["value"].count("<image>") for turn in row["conversations"]) == 1
        for image in (*row["images"], *row.get("rejected_images", ())):
            assert (DATA / image).is_file()
    if "id" in table[0]:
        assert len({row["id"] for row in table}) == len(table)


@pytest.mark.parametrize("name", [name for name in ROWS if name != "mmself_sft"])
def test_chosen_and_rejected_differ(name: str) -> None:
    for row in rows(name):
        rejected = row["rejected"] if isinstance(row["rejected"], list) else [row["rejected"]]
        assert row["chosen"] not in rejected
        assert len({answer["value"] for answer in rejected}) == len(rejected)


@pytest.mark.parametrize("name", TWO_IMAGES)
def test_two_image_rows_have_a_true_and_another_picture(name: str) -> None:
    for row in rows(name):
        true, other = row["images"]
        assert (DATA / true).read_bytes() != (DATA / other).read_bytes()


def test_separate_columns_hold_several_rejected_answers() -> None:
    for row in rows("mmself_pairs_columns"):
        assert len(row["images"]) == len(row["rejected_images"]) == 1
        assert 2 <= len(row["rejected"]) <= 3
        assert isinstance(row["answer"], str)


def test_sherlock_rows_split_at_their_prefix() -> None:
    shared = 0
    for whole, suffix in zip(*map(rows, SHERLOCK), strict=True):
        for answer, prefix in (("chosen", "prefix"), ("rejected", "prefix_l")):
            assert whole[answer]["value"] == whole[prefix] + suffix[answer]["value"]
            assert whole[prefix] == suffix[prefix]
            tags = re.findall(r"<([A-Z]+)>", whole[answer]["value"])
            assert tags == ["SUMMARY", "CAPTION", "REASONING", "CONCLUSION"]
        assert 0.6 < whole["weights"] < 2.0
        shared += whole["prefix"] == whole["prefix_l"] != ""
    assert 0 < shared < len(rows(SHERLOCK[0]))


def test_dummy_is_one_row_many_times() -> None:
    table = rows("dummy")
    assert all(row == table[0] for row in table)


def test_evaluation_scenes_are_held_out() -> None:
    pictures = {
        name: {image for row in rows(name) for image in row["images"]} for name in ("mmself_pairs", "ovip_eval")
    }
    seen = {(DATA / image).read_bytes() for image in pictures["mmself_pairs"]}
    assert not seen & {(DATA / image).read_bytes() for image in pictures["ovip_eval"]}


def test_readme_shows_the_first_row_of_each_data_set() -> None:
    text = (DATA / "README.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^## (\w+)\n.*?```json\n(.*?)\n```", text, flags=re.DOTALL | re.MULTILINE))
    assert {name: json.loads(row) for name, row in shown.items()} == {name: rows(name)[0] for name in ROWS}
