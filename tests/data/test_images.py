# SPDX-License-Identifier: Apache-2.0
import random
import warnings

import pytest
from PIL import Image

from llamafactory_mmself.data.images import check_images
from llamafactory_mmself.data.rows import PreferenceRow


@pytest.fixture
def noise():
    """A picture that does not compress."""
    return Image.frombytes("RGB", (64, 64), random.Random(0).randbytes(64 * 64 * 3))


def check_image(path):
    """Code, message and fix of what is found in one picture, or None."""
    faults = check_images([PreferenceRow("key", "rows.json", 1, "", "", (), "", ("",), (path,))])
    return (faults[0].code, faults[0].message, faults[0].fix) if faults else None


def code(path):
    finding = check_image(str(path))
    return finding and finding[0]


def save(path, image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("a.png", "RGB", {}),
        ("a.png", "RGBA", {}),
        ("a.png", "L", {}),
        ("a.png", "1", {}),
        ("a.png", "P", {"transparency": b"\x00\x80"}),
        ("a.png", "I;16", {}),
        ("a.tiff", "I;16", {}),
        ("a.tiff", "F", {}),
        ("a.jpg", "CMYK", {}),
        ("a.jpg", "L", {}),
        ("a.webp", "RGB", {}),
        ("a.bmp", "RGB", {}),
        ("a.gif", "P", {}),
    ],
)
def test_usable_images(tmp_path, name, mode, options):
    path = save(tmp_path / name, Image.new(mode, (16, 9)), **options)
    assert check_image(str(path)) is None


def test_a_rotated_image_is_usable(tmp_path, noise):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert check_image(str(save(tmp_path / "a.jpg", noise, exif=exif))) is None


def test_the_suffix_does_not_matter(tmp_path, noise):
    assert check_image(str(save(tmp_path / "photo", noise, format="JPEG"))) is None


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animated_image_is_a_warning(tmp_path, noise, suffix):
    path = save(tmp_path / f"a.{suffix}", noise, save_all=True, append_images=[Image.new("RGB", (64, 64))])
    assert code(path) == "animated-image"


def test_a_phone_photo_with_a_preview_is_not_animated(tmp_path, noise):
    path = save(tmp_path / "a.jpg", noise, format="MPO", save_all=True, append_images=[noise.resize((8, 8))])
    assert check_image(str(path)) is None


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "webp", "tiff"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_cut_off_images(tmp_path, noise, suffix, share):
    path = save(tmp_path / f"a.{suffix}", noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert code(path) in ("image-truncated", "image-damaged")


def test_a_damaged_png(tmp_path, noise):
    path = save(tmp_path / "a.png", noise)
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)
    assert code(path) in ("image-truncated", "image-damaged")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"todo: add the picture\n", 'a text file ("todo: add the picture")'),
        (b"\n<!DOCTYPE html><title>404</title>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (bytes(range(256)), "no image format that Pillow knows"),
    ],
)
def test_files_that_are_no_images(tmp_path, content, words):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    found, message, fix = check_image(str(path))
    assert found == "not-an-image"
    assert words in message
    assert fix


def test_missing_files(tmp_path):
    assert code(tmp_path / "a.png") == "media-missing"
    assert code(tmp_path) == "media-missing"
    assert code("https://example.org/a.png") == "media-missing"
    assert code("a\0b.png") == "media-missing"
    assert code("") == "media-missing"
    assert "`media_dir`" in check_image("nowhere.png")[2]


@pytest.mark.parametrize(("there", "asked"), [("cat.jpg", "cat.png"), ("cat.jpg", "cat.JPG"), ("cat.jpg", "Cat.jpg")])
def test_a_similar_file_is_pointed_out(tmp_path, noise, there, asked):
    save(tmp_path / there, noise)
    assert f"There is `{there}`." in check_image(str(tmp_path / asked))[1]


def test_an_empty_file(tmp_path):
    (tmp_path / "a.png").touch()
    assert code(tmp_path / "a.png") == "media-empty"


def test_an_image_with_too_many_pixels(tmp_path, noise, monkeypatch):
    path = save(tmp_path / "a.png", noise)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 // 2 - 1)
    assert code(path) == "image-too-large"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 // 2 + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_image(str(path)) is None


def test_a_file_that_cannot_be_opened(tmp_path, noise, monkeypatch):
    path = save(tmp_path / "a.png", noise)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    found, message, _ = check_image(str(path))
    assert found == "media-unreadable"
    assert message.endswith("Permission denied.")


def test_faults_for_every_row_and_field_that_uses_a_bad_file(read, make_row, tmp_path, noise):
    save(tmp_path / "red.png", noise)
    (tmp_path / "empty.png").touch()
    save(tmp_path / "moving.gif", noise, save_all=True, append_images=[Image.new("RGB", (64, 64))])
    pairs = [["red.png", "empty.png"], ["empty.png", "moving.gif"], ["x", "red.png"]]
    rows = [read(make_row(images=pair))[0] for pair in pairs]
    faults = check_images(rows)
    assert [(fault.field, fault.code, fault.level) for fault in faults] == [
        ("rejected_images[0]", "media-empty", "error"),
        ("images[0]", "media-empty", "error"),
        ("rejected_images[0]", "animated-image", "warning"),
        ("images[0]", "media-missing", "error"),
    ]
    assert {(fault.file, fault.row) for fault in faults} == {("rows.json", 3)}


def test_videos_are_only_looked_for(read, make_row, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"video")
    turns = [{"from": "human", "value": "<video><video>"}]
    row, _ = read(make_row(conversations=turns, images=[], videos=["a.mp4", "b.mp4"]))
    assert [(fault.field, fault.code) for fault in check_images([row])] == [("videos[1]", "media-missing")]


def test_each_file_is_opened_once(read, make_row, tmp_path, noise, monkeypatch):
    save(tmp_path / "red.png", noise)
    opened = []
    original = Image.open
    monkeypatch.setattr(Image, "open", lambda path, *rest: opened.append(path) or original(path, *rest))
    assert check_images([read(make_row())[0]] * 20, workers=3) == []
    assert len(opened) == 1


def test_no_rows():
    assert check_images([]) == []


def test_the_progress_bar(read, make_row, tmp_path, noise, capsys):
    save(tmp_path / "red.png", noise)
    check_images([read(make_row())[0]], progress=True)
    assert "Checking media" in capsys.readouterr().err
