# SPDX-License-Identifier: Apache-2.0
import os

import pytest
from PIL import Image


def ask(text):
    return [{"from": "human", "value": text}]


@pytest.mark.parametrize("images", ["red.png", ["red.png"], ("red.png",)])
def test_one_image(read, make_row, images):
    row, faults = read(make_row(images=images))
    assert faults == []
    assert (row.images, row.rejected_images) == (("red.png",), ())


def test_a_row_without_images(read, make_row, left_out):
    for images in (left_out, None, []):
        row, faults = read(make_row(conversations=ask("Why?"), images=images))
        assert faults == []
        assert row.images == ()


def test_the_second_half_of_twice_as_many_images_are_the_rejected_ones(read, make_row):
    row, _ = read(make_row(images=["a", "b"]))
    assert (row.images, row.rejected_images) == (("a",), ("b",))
    row, _ = read(make_row(conversations=ask("<image> or <image>?"), images=["a", "b", "c", "d"]))
    assert (row.images, row.rejected_images) == (("a", "b"), ("c", "d"))


def test_a_column_of_rejected_images(read, make_row):
    row, faults = read(make_row(images=["a"], rejected_images="b"))
    assert faults == []
    assert (row.images, row.rejected_images) == (("a",), ("b",))


def test_an_empty_column_of_rejected_images_counts_as_none(read, make_row):
    row, _ = read(make_row(images=["a", "b"], rejected_images=[]))
    assert row.rejected_images == ("b",)


@pytest.mark.parametrize(
    ("prompt", "images", "rejected", "code", "field", "words"),
    [
        ("<image>", [], None, "placeholder-count", "images", ["has 1 `<image>` placeholder,", "gives 0 images"]),
        ("<image>", ["a"] * 3, None, "placeholder-count", "images", ["has 1 ", "3 images"]),
        (
            "<image><image>",
            ["a"] * 3,
            None,
            "placeholder-count",
            "images",
            ["has 2 `<image>` pl", "3 images"],
        ),
        ("<image>", ["a", "b"], ["c"], "placeholder-count", "images", ["has 1 ", "2 images and 1 rejected image."]),
        ("<image>", ["a"], ["b", "c"], "placeholder-count", "rejected_images", ["1 image and 2 rejected images."]),
        ("<image>", [], ["b"], "placeholder-count", "images", ["0 images and 1 rejected image."]),
        ("Why?", ["a"], None, "no-placeholder", "images", ["1 image", "no `<image>`"]),
        ("Why?", [], ["a"], "no-placeholder", "rejected_images", ["1 image"]),
    ],
)
def test_counts_that_do_not_fit(only_fault, make_row, prompt, images, rejected, code, field, words):
    fault = only_fault(make_row(conversations=ask(prompt), images=images, rejected_images=rejected))
    assert (fault.code, fault.field) == (code, field)
    for word in words:
        assert word in fault.message
    if code == "no-placeholder":
        assert "Put `<image>`" in fault.fix


def test_placeholders_of_all_turns_are_counted(read, make_row):
    turns = [*ask("<image>"), {"from": "gpt", "value": "one"}, *ask("<image>")]
    row, faults = read(make_row(conversations=turns, images=["a", "b"]))
    assert faults == []
    assert (row.images, row.rejected_images) == (("a", "b"), ())


@pytest.mark.parametrize("placeholder", ["<image>", "<video>", "<audio>"])
@pytest.mark.parametrize("key", ["chosen", "rejected"])
def test_placeholders_in_answers(only_fault, make_row, key, placeholder):
    fault = only_fault(make_row(**{key: f"see {placeholder}"}))
    assert (fault.code, fault.field) == ("placeholder-in-answer", key)


def test_a_placeholder_in_the_system_text(only_fault, make_row):
    assert only_fault(make_row(system="<image>")).code == "placeholder-in-system"


def test_missing_images_of_a_data_set_without_an_image_column(only_fault, make_row, make_schema):
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
    fault = only_fault(make_row(), schema=make_schema(columns=columns))
    assert "under `columns`" in fault.fix


def test_videos(read, only_fault, make_row):
    row, faults = read(make_row(conversations=ask("<video><image>"), videos="a.mp4"))
    assert faults == []
    assert row.videos == ("a.mp4",)
    fault = only_fault(make_row(videos=["a.mp4"]))
    assert (fault.code, fault.field) == ("placeholder-count", "videos")
    assert "0 `<video>` placeholders" in fault.message
    assert only_fault(make_row(conversations=ask("<image><video>"))).field == "videos"
    assert only_fault(make_row(videos=[["a.jpg", "b.jpg"]])).code == "wrong-type"


def test_audio(read, only_fault, make_row):
    assert only_fault(make_row(audios=["a.wav"])).code == "audio-not-supported"
    assert read(make_row(audios=[]))[1] == []


@pytest.mark.parametrize(
    ("images", "code", "field"),
    [
        (5, "wrong-type", "images"),
        ({"path": "a"}, "wrong-type", "images"),
        ([None], "wrong-type", "images[0]"),
        (["a", {"bytes": b""}], "wrong-type", "images[1]"),
        ("", "missing-field", "images"),
        (["a", " "], "missing-field", "images[1]"),
        (["\ud800"], "bad-unicode", "images[0]"),
    ],
)
def test_wrong_paths(only_fault, make_row, images, code, field):
    fault = only_fault(make_row(images=images))
    assert (fault.code, fault.field) == (code, field)


def test_paths_below_the_media_folder_win(read, make_row, tmp_path, monkeypatch):
    Image.new("RGB", (4, 4)).save(tmp_path / "red.png")
    monkeypatch.chdir(tmp_path)
    absolute = str(tmp_path / "red.png")
    assert read(make_row())[0].images == (absolute,)
    assert read(make_row(images=[absolute]))[0].images == (absolute,)
    assert read(make_row(images=["nowhere.png"]))[0].images == ("nowhere.png",)


def test_published_paths_that_leave_the_media_folder(read, make_row, schema, tmp_path):
    from llamafactory_mmself.data.rows import normalise

    pictures = tmp_path / "data" / "ovip_images"
    pictures.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(pictures / "x.jpg")
    raw = make_row(images=["../data/ovip_images/x.jpg"])
    row, _ = normalise(raw, schema, file="f", row=1, media_dir=tmp_path / "data", prefix_reading=None)
    assert os.path.samefile(row.images[0], pictures / "x.jpg")


def test_one_file_in_both_slots_is_a_warning(only_fault, make_row, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "red.png")
    fault = only_fault(make_row(images=["red.png", "./red.png"]))
    assert (fault.code, fault.level, fault.field) == ("same-image", "warning", "images")
    fault = only_fault(make_row(images=["x.png"], rejected_images=["x.png"]))
    assert (fault.code, fault.field) == ("same-image", "rejected_images")


def test_a_path_with_a_null_byte_is_only_a_missing_file(read, make_row):
    row, _ = read(make_row(images=["a\0b", "a\0b"]))
    assert row.images == ("a\0b",)
