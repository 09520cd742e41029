# SPDX-License-Identifier: Apache-2.0
"""Readers: other published layouts, pictures inside of tables, and errors that say where and what to do."""

import json
import re
from pathlib import Path

import pytest

from llamafactory_mmself.evaluate.tasks.layouts import LayoutError, MissingFile, Place
from llamafactory_mmself.evaluate.tasks.layouts.common import Row
from llamafactory_mmself.evaluate.tasks.layouts.mmstar import options_inside
from llamafactory_mmself.evaluate.tasks.layouts.textvqa import read as read_textvqa
from llamafactory_mmself.evaluate.tasks.task import Task, load_task, names
from tests.evaluate.tasks import multiple_choice, official


def items(name: str, root: Path, **options):
    return load_task(name).items(root, root / "pictures", **options)


@pytest.mark.parametrize("name", names())
def test_an_empty_folder_names_what_is_expected_and_who_publishes_it(name, tmp_path) -> None:
    task = load_task(name)
    (tmp_path / task.folder).mkdir()
    with pytest.raises(MissingFile) as error:
        task.items(tmp_path, tmp_path / "pictures")
    assert task.files[0].partition(" | ")[0] in str(error.value)
    assert task.published in str(error.value) and task.source in str(error.value)


def test_a_benchmark_may_be_given_itself_or_with_all_others(tmp_path) -> None:
    official.write(tmp_path, "geoqa")
    whole, own = items("geoqa", tmp_path), items("geoqa", tmp_path / "geoqa")
    assert whole == own
    with pytest.raises(MissingFile, match="has no folder chartqa for ChartQA"):
        items("chartqa", tmp_path)


def test_mmstar_as_a_table_with_tabs(tmp_path) -> None:
    multiple_choice.mmstar_tsv(tmp_path)
    first, second = items("mmstar", tmp_path)
    assert first.prompt == 'What "is"\t0?\nChoices:\n(A) one\n(B) three'
    assert (first.truth["answer"], second.truth["answer"]) == ("A", "B")
    assert [Path(image).suffix for image in first.images] == [".jpg"]


def test_mmstars_options_are_read_out_of_the_question() -> None:
    assert options_inside("Which?\nOptions: A: one, two, B: three") == ("Which?", ("one, two", "three"))
    assert options_inside("Which?\nOptions: A: one, C: three")[1] == ()
    assert options_inside("Which?")[1] == ()


def test_ai2d_with_options_by_place(tmp_path) -> None:
    multiple_choice.ai2d_parquet(tmp_path)
    (item,) = items("ai2d", tmp_path)
    assert (item.truth["answer"], item.truth["choices"]) == ("B", ["root", "leaf"])


def test_mme_as_a_table(tmp_path) -> None:
    official.mme_parquet(tmp_path)
    found = items("mme", tmp_path)
    assert [(item.id, item.truth["picture"], item.truth["answer"]) for item in found] == [
        ("OCR/0001.jpg-0", "OCR/0001.jpg", "yes"),
        ("OCR/0001.jpg-1", "OCR/0001.jpg", "no"),
    ]


def test_textvqa_with_llavas_prompts(tmp_path) -> None:
    official.textvqa(tmp_path)
    place = Place(tmp_path, tmp_path / "pictures")
    first, _ = read_textvqa(place, ocr=True)
    assert first.prompt == "What does sign 0 say?\nReference OCR token: STOP, 12"
    (tmp_path / "llava_textvqa_val_v051_ocr.jsonl").write_text(
        json.dumps({"question_id": "a1", "text": "Another question?\nReference OCR token: X\nShort."}) + "\n"
    )
    with pytest.raises(LayoutError, match="row 0, field `question`: LLaVA's file of OCR prompts has no such question"):
        list(read_textvqa(place, ocr=True))


def test_mmbench_turns_are_made_once_whatever_the_release_brings(tmp_path) -> None:
    multiple_choice.mmbench(tmp_path)
    found = {item.id: item for item in items("mmbench", tmp_path)}
    assert list(found) == ["241", "1000241", "252", "1000252"]
    turned = found["1000241"]
    assert turned.truth["choices"] == ["blue", "red"] and turned.truth["answer"] == "B"
    assert len({item.images for item in found.values()}) == 1  # a cell with a number names another row's picture


def test_mmbenchs_test_split_has_the_rows_of_the_release(tmp_path) -> None:
    multiple_choice.mmbench(tmp_path)
    found = items("mmbench_test", tmp_path)
    assert [item.id for item in found] == ["241", "252", "1000252"]
    assert [item.truth["choices"] for item in found[1:]] == [["up", "down"], ["down", "up"]]
    assert not any("answer" in item.truth for item in found)


def test_scienceqa_has_its_split_only(tmp_path) -> None:
    multiple_choice.scienceqa(tmp_path)
    assert [item.id for item in items("scienceqa", tmp_path)] == ["7", "8", "9"]


def test_pictures_from_tables_are_written_once_and_named_by_their_content(tmp_path) -> None:
    multiple_choice.mmmu(tmp_path)
    first = items("mmmu", tmp_path)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "pictures").iterdir()}
    second = items("mmmu", tmp_path)
    assert first == second
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "pictures").iterdir()} == files
    assert len(files) == 2  # three cells, two of them equal
    assert all(re.fullmatch(r"[0-9a-f]{32}\.png", path.name) for path in files)


def test_a_limit_takes_the_first_items(tmp_path) -> None:
    official.pope(tmp_path)
    assert [item.id for item in items("pope", tmp_path, limit=3)] == ["random-1", "random-2", "popular-1"]


def spoilt(folder: Path, file: str, row: int, **changes) -> None:
    """Changes fields of a row of a JSON list or of JSON lines."""
    path = folder / file
    content = path.read_text()
    listed = content.startswith("[")
    rows = json.loads(content) if listed else [json.loads(line) for line in content.splitlines()]
    rows[row] |= changes
    path.write_text(json.dumps(rows) if listed else "".join(json.dumps(each) + "\n" for each in rows))


@pytest.mark.parametrize(
    ("name", "file", "row", "changes", "problem"),
    [
        ("pope", "output/coco/coco_pope_random.json", 1, {"label": "maybe"}, "one of yes, no is expected"),
        ("pope", "output/coco/coco_pope_random.json", 0, {"image": "x.jpg"}, "there is no picture 'x.jpg' in"),
        ("mmhal", "response_template.json", 1, {"gt_answer": " "}, "a text is expected"),
        ("hallusion", "HallusionBench.json", 4, {"gt_answer": "2"}, "one of 0, 1 is expected, found '2'"),
        ("aokvqa", "aokvqa_v1p0_val.json", 0, {"correct_choice_idx": 4}, "place 4 is not among the 4 options"),
        ("aokvqa", "aokvqa_v1p0_val.json", 1, {"choices": "sky"}, "a list of 2 or more texts is expected"),
        ("geoqa", "test.jsonl", 1, {"answer": "E"}, "the key 'E' is not among the options"),
        ("object_hal", "obj_halbench_300_with_image.jsonl", 0, {"image": "not base64"}, "get the file anew"),
        ("amber_discriminative", "data/query/query_discriminative.json", 2, {"id": 9}, "9 has no row in annotations"),
    ],
)
def test_a_faulty_row_is_named_with_file_and_field(name, file, row, changes, problem, tmp_path) -> None:
    task = load_task(name)
    official.write(tmp_path, task.folder)
    spoilt(tmp_path / task.folder, file, row, **changes)
    with pytest.raises(LayoutError) as error:
        task.items(tmp_path, tmp_path / "pictures")
    (field,) = changes
    assert f"{tmp_path / task.folder / file}, row {row}, field `{field}`: " in str(error.value)
    assert problem in str(error.value) and "--drop_invalid" not in str(error.value)


def test_an_id_that_comes_twice(tmp_path) -> None:
    official.amber(tmp_path)
    spoilt(tmp_path, "data/query/query_generative.json", 1, id=1)
    with pytest.raises(LayoutError, match="the id '1' comes twice"):
        items("amber_generative", tmp_path)


def test_a_table_without_header_or_with_an_empty_picture(tmp_path) -> None:
    (tmp_path / "MMStar.tsv").write_text("question\tanswer\nWhich?\tA\n")
    with pytest.raises(LayoutError, match="a header with a column `index` is expected"):
        items("mmstar", tmp_path)
    (tmp_path / "MMStar.tsv").write_text("index\tquestion\timage\n1\tWhich?\t\n")
    with pytest.raises(LayoutError, match=r"row 0, field `image`: a picture is expected, found ''"):
        items("mmstar", tmp_path)


def test_a_parquet_file_that_is_none(tmp_path) -> None:
    (tmp_path / "mmstar.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(LayoutError, match=r"mmstar\.parquet cannot be read"):
        items("mmstar", tmp_path)


def test_columns_of_options_end_at_the_first_empty_one() -> None:
    row = Row(Path("t.tsv"), 3, {"A": "one", "B": "two", "C": "", "D": "four"})
    assert row.columns() == ("one", "two")
    with pytest.raises(LayoutError, match=r"t\.tsv, row 3, field `B`: at least two options"):
        Row(Path("t.tsv"), 3, {"A": "one"}).columns()


def test_files_that_are_there_are_found(tmp_path) -> None:
    official.pope(tmp_path)
    task: Task = load_task("pope")
    assert all(found for _, found in task.found(tmp_path))
    (tmp_path / "output/coco/coco_pope_popular.json").unlink()
    assert [entry.partition(" | ")[0] for entry, found in task.found(tmp_path) if not found] == [
        "coco_pope_popular.json"
    ]
