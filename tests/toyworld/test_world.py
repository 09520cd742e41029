# SPDX-License-Identifier: Apache-2.0
"""The toy world's data sets are the same for the same seed, and held-out scenes are nowhere else."""

import json
import math
from pathlib import Path
from random import Random

import pytest
from PIL import Image, ImageChops

from llamafactory_mmself.cli import main
from llamafactory_mmself.data.questions import read_questions
from llamafactory_mmself.toyworld.choices import letter, scene_of
from llamafactory_mmself.toyworld.errors import ToyWorldError
from llamafactory_mmself.toyworld.language import paint
from llamafactory_mmself.toyworld.scenes import caption, draw
from llamafactory_mmself.toyworld.world import SPLITS, WorldOptions, scenes, split_of, world_of, write_world


SMALL = WorldOptions(train=30, test=20, captions=10)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_world(tmp_path / name, WorldOptions(30, 20, 10, seed=seed))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")
    assert len(contents(tmp_path / "a")) == 4 + 60


def test_rows_load_and_tell_the_truth_about_their_picture(tmp_path: Path) -> None:
    for name, path in write_world(tmp_path, SMALL).items():
        for row in read_questions(path):
            scene = scene_of(row)
            with Image.open(row.images[0]) as picture:
                assert ImageChops.difference(picture.convert("RGB"), draw(scene, 56, lit=True)).getbbox() is None
                if name == "captions":
                    assert row.answer == caption(scene)
                    assert ImageChops.difference(picture.convert("RGB"), paint(row.answer)).getbbox() is None
                else:
                    assert letter(row, scene) == row.answer


def test_llamafactory_finds_the_files_and_the_turns(tmp_path: Path) -> None:
    write_world(tmp_path, SMALL)
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert set(info) == {"toy_train", "toy_test", "toy_captions"}
    for entry in info.values():
        for row in json.loads((tmp_path / entry["file_name"]).read_text()):
            assert set(entry["columns"].values()) <= set(row)
            human, reply = row["conversations"]
            assert human["value"].count("<image>") == 1
            assert reply["value"] in (row["answer"], f"Answer: {row['answer']}")


@pytest.mark.parametrize("grid", [(2, 2), (2, 3)])
def test_splits_share_no_scene_whatever_the_seed(grid: tuple[int, int]) -> None:
    drawn = {}
    for seed, split in enumerate(SPLITS):
        source = scenes(split, Random(seed), *grid)
        drawn[split] = [next(source) for _ in range(400)]
        assert len(set(drawn[split])) == 400
        assert {split_of(scene) for scene in drawn[split]} == {split}
    assert len({scene for some in drawn.values() for scene in some}) == 400 * len(SPLITS)


def test_by_default_there_are_600_held_out_questions_and_chance_is_a_quarter(tmp_path: Path) -> None:
    path = write_world(tmp_path, WorldOptions(train=0, captions=0))["test"]
    rows = read_questions(path)
    assert len(rows) == 600
    for name in "ABCD":
        share = sum(row.answer == name for row in rows) / 600
        assert abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 600)


def test_the_command_writes_what_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = ["--train", "3", "--test", "2", "--captions", "1", "--grid", "2x3", "--size", "84", "--seed", "4"]
    assert main(["toy", "data", "--out", str(tmp_path), *numbers]) == 0
    files = [tmp_path / f"{name}.json" for name in ("train", "test", "captions")]
    assert capsys.readouterr().out.split() == [str(file) for file in files]
    assert [len(read_questions(file)) for file in files] == [3, 2, 1]
    assert world_of(tmp_path) == WorldOptions(rows=2, columns=3, size=84)


def test_prompts_are_captioned_scenes_that_are_not_held_out(tmp_path: Path) -> None:
    files = write_world(tmp_path, WorldOptions(train=0, test=5, captions=5, prompts=5))
    rows = read_questions(files["prompts"])
    assert [split_of(scene_of(row)) for row in rows] == ["train"] * 5
    assert all(row.answer == caption(scene_of(row)) for row in rows)
    assert "toy_prompts" in json.loads((tmp_path / "dataset_info.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid", "2"], "--grid '2': rows x columns are expected"),
        (["--grid", "4x2"], "2 or 3 rows and columns, not 4 and 2"),
        (["--size", "20"], "20 pixels cannot show the grid"),
        (["--train", "-1"], "train has to be a whole number from 0, not -1"),
    ],
)
def test_wrong_wishes_are_named(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["toy", "data", "--out", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_split_without_enough_scenes_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamafactory_mmself.toyworld.world.SPLITS", {"train": range(0), "rest": range(16)})
    with pytest.raises(ToyWorldError, match=r"'train' has only about 0 different scenes on a grid of 2 x 2"):
        next(scenes("train", Random(0)))


def test_the_sheet_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["toy", "sheet", "--out", str(tmp_path / "deep" / "sheet.png")]) == 0
    with Image.open(capsys.readouterr().out.strip()) as picture:
        assert min(picture.size) > 1000
