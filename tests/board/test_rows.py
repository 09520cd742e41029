# SPDX-License-Identifier: Apache-2.0
"""Rows of data sets as cards."""

import json
from pathlib import Path

import pytest

from llamafactory_mmself.board.datasets import suitable
from llamafactory_mmself.board.rows import changes_html, rows_html


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def shipped(project_root: Path) -> tuple[Path, dict]:
    """The shipped data sets and their entries."""
    return project_root / "data", json.loads((project_root / "data" / "dataset_info.json").read_text())


def rows(shipped, name: str, count: int = 2):
    path = shipped[0] / shipped[1][name]["file_name"]
    text = path.read_text()
    return (json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()])[:count]


def test_both_pictures_are_shown(shipped):
    for name in ("mmself_pairs", "mmself_pairs_columns", "dummy"):
        html = rows_html(rows(shipped, name), shipped[1][name], [shipped[0]])
        assert html.count("<img") == 4 and html.count("rejected picture") == 2
        assert "chosen" in html and "rejected" in html


def test_prefixes_are_marked_and_weights_told(shipped):
    for name in ("mmself_sherlock_full", "mmself_sherlock_suffix"):
        given = rows(shipped, name, 1)
        html = rows_html(given, shipped[1][name], [shipped[0]])
        assert html.count("<mark") == 2 and f"weight {given[0]['weights']:.4g}" in html


def test_other_rows_are_left_to_the_plain_view(shipped):
    assert rows_html(rows(shipped, "mmself_sft"), shipped[1]["mmself_sft"], [shipped[0]]) == ""
    assert rows_html([{"instruction": "a", "output": "b"}], {"file_name": "a.json"}, []) == ""
    assert rows_html([1, None, "x"], {"file_name": "a.json"}, []) == ""
    assert rows_html([{}], {"columns": 3}, []) == ""


def test_rows_are_data_and_nothing_else(tmp_path):
    entry = {"file_name": "a.json", "formatting": "sharegpt", "ranking": True}
    entry["columns"] = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "images": "images"}
    evil = {
        "id": EVIL,
        "kind": EVIL,
        "conversations": [{"from": "human", "value": "<image>" + EVIL}],
        "chosen": {"from": "gpt", "value": EVIL},
        "rejected": [EVIL, {"value": EVIL}, None, 3],
        "images": [EVIL, "../../etc/passwd", 7],
        "prefix": EVIL,
        "prefix_l": [EVIL],
        "weights": EVIL,
        "provenance": EVIL,
    }
    html = rows_html([evil], entry, [tmp_path])
    assert "<script" not in html and "<img" not in html and "&lt;script&gt;" in html
    broken = {"conversations": "x", "chosen": 3, "rejected": {}, "images": 4, "weights": 0.5}
    assert "weight 0.5" in rows_html([broken], entry, [tmp_path])
    assert "characters more" in rows_html([{**evil, "chosen": "long" * 100_000}], entry, [tmp_path])


def test_corrections_show_what_changed():
    html = changes_html("correction 1", "There are two red <b> shapes.", "There are three red <b> shapes.")
    assert '<mark class="gone">two</mark><mark class="new">three</mark>' in html and "<b>" not in html
    assert "<mark" not in changes_html("correction 1", "word " * 3000, "term " * 3000)  # too long to compare


def test_data_sets_have_what_a_stage_needs(shipped):
    folder, entries = shipped
    pairs = suitable(entries, folder, "pairs", {"images", "rejected_images"})
    assert {"mmself_pairs", "mmself_pairs_columns", "dummy"} <= set(pairs)
    assert not {"mmself_text_pairs", "mmself_sft", "mmself_sherlock_full"} & set(pairs)
    assert suitable(entries, folder, "pairs", {"prefix", "weights"}) == [
        "mmself_sherlock_full",
        "mmself_sherlock_suffix",
    ]
    assert "mmself_text_pairs" in suitable(entries, folder, "pairs", ())
    assert suitable(entries, folder, "examples", ()) == ["mmself_sft"]


def test_data_sets_that_cannot_be_seen(tmp_path):
    (tmp_path / "q.json").write_text('\ufeff [ {"id": "1", "question": "?", "images": []}, ...')
    (tmp_path / "cut.json").write_text("[{" + '"a": "' + "x" * 2**21)
    entries = {
        "hub": {"hf_hub_url": "x/y", "ranking": True},
        "questions": {"file_name": "q.json"},
        "long": {"file_name": "cut.json", "ranking": True},
        "gone": {"file_name": "gone.json", "ranking": True},
        "odd": {"file_name": 3, "ranking": True},
        "none": None,
    }
    assert suitable(entries, tmp_path, "pairs", {"images"}) == ["hub", "long", "gone", "odd"]
    assert suitable(entries, tmp_path, "questions", ()) == ["questions"]
