# SPDX-License-Identifier: Apache-2.0
"""Pictures come from the chosen folders only, and broken or huge ones do no harm."""

import base64
import io
import os
from pathlib import Path

import pytest
from PIL import Image

from llamafactory_mmself.board import pictures
from llamafactory_mmself.board.pictures import picture, picture_html


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A chosen folder with a picture, and another one with a secret."""
    chosen, other = tmp_path / "chosen", tmp_path / "other"
    for folder in (chosen, other):
        folder.mkdir()
        Image.new("RGB", (800, 400), "red").save(folder / "a.png")
    return chosen, other


def test_a_picture_is_made_small(folders):
    for path in ("a.png", str(folders[0] / "a.png"), "../chosen/a.png"):
        shown = picture(path, [folders[0]])
        assert shown.reason is None
        with Image.open(io.BytesIO(base64.b64decode(shown.url.partition(",")[2]))) as small:
            assert small.size == (360, 180)


def test_only_chosen_folders_are_read(folders):
    chosen, other = folders
    os.symlink(other / "a.png", chosen / "link.png")
    os.symlink(other, chosen / "door")
    for path in (
        "../other/a.png",
        str(other / "a.png"),
        "link.png",
        "door/a.png",
        "/etc/passwd",
        "a\0.png",
        "a" * 5000,
    ):
        assert picture(path, [chosen]).url is None, path
    assert picture("link.png", [chosen]).reason == "outside"
    assert picture("link.png", [chosen, other]).reason is None
    assert picture("b.png", [chosen]).reason == "missing" and picture("a.png", []).reason == "missing"


def test_files_that_are_no_pictures(folders, monkeypatch):
    chosen, _ = folders
    (chosen / "text.png").write_text("<script>alert(1)</script>")
    assert picture("text.png", [chosen]).reason == "broken"
    os.mkfifo(chosen / "pipe.png")
    assert picture("pipe.png", [chosen]).reason == "missing"
    monkeypatch.setattr(pictures, "MOST_PIXELS", 1000)
    Image.new("L", (100, 100)).save(chosen / "many.png")
    assert picture("many.png", [chosen]).reason == "large"
    monkeypatch.setattr(pictures, "MOST_BYTES", 10)
    assert picture("text.png", [chosen]).reason == "large"


def test_names_are_escaped(folders):
    name = "<img src=x onerror=alert(1)>.png"
    shown = picture_html(picture(name, [folders[0]]), caption="<b>")
    assert "<img" not in shown and "&lt;b&gt;" in shown
