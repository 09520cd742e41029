# SPDX-License-Identifier: Apache-2.0
"""The browser of a run's samples."""

import json
from pathlib import Path

import pytest
from PIL import Image

from llamafactory_mmself.board import samples
from llamafactory_mmself.board.samples import SampleError, file_rows, page, sources
from llamafactory_mmself.files import write_json, write_jsonl


EVIL = "<script>alert(1)</script>"


def checked(question: str, text: str, correct: bool, parsed: bool = True, k: int = 0) -> dict:
    verdict = {"correct": correct, "parsed": parsed, "answer": "A" if parsed else None, "rule": "r"}
    return {"question": question, "iteration": 0, "verdict": verdict, "sample": {"id": "s", "k": k, "text": text}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two rounds with answers, corrections, plain samples and rows."""
    data, folder = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    Image.new("RGB", (40, 40), "blue").save(data / "1.png")
    questions = [
        {"id": f"q{n}", "question": f"How many{EVIL}?", "choices": None, "answer": "A", "images": ["1.png"]}
        for n in range(12)
    ]
    write_json(data / "test.json", questions)
    write_json(folder / "run.json", {"iterations": 1, "test_data": str(data / "test.json")})
    greedy = [checked(f"q{n}", f"I see two {EVIL}", n % 3 == 0, n % 3 != 2) for n in range(12)]
    for number in (0, 1):
        write_jsonl(folder / f"iter{number}" / "checked_test_greedy.jsonl", greedy)
        write_jsonl(folder / f"iter{number}" / "test_greedy.jsonl", [row["sample"] for row in greedy])
    write_jsonl(
        folder / "iter1" / "checked_test_correct1.jsonl", [checked(f"q{n}", "I see three", True) for n in range(12)]
    )
    write_jsonl(folder / "iter1" / "answers.jsonl", [{"request": "q0", "k": 0, "text": "so " + EVIL, "prefix": "so"}])
    row = {"conversations": [{"from": "human", "value": "<image>?"}], "images": ["../../../data/1.png"]}
    row |= {"chosen": {"value": "right it is"}, "rejected": {"value": "right it was"}, "prefix": "right "}
    row |= {"prefix_l": "right ", "weights": 0.25, "kind": "offline"}
    write_json(folder / "iter1" / "train" / "self_training.json", [row])
    columns = {name: name for name in ("images", "chosen", "rejected", "prefix", "prefix_l", "weights")}
    entry = {"file_name": "self_training.json", "formatting": "sharegpt", "ranking": True}
    entry["columns"] = {**columns, "messages": "conversations"}
    write_json(folder / "iter1" / "train" / "dataset_info.json", {"self_training": entry})
    return folder


def test_sources(run):
    (run / "iter1" / "test_greedy.jsonl.journal-0.jsonl").touch()
    assert [(source.name, source.kind) for source in sources(run)] == [
        ("iter1/corrections", "corrections"),
        ("iter1/test_greedy", "answers"),
        ("iter1/answers", "samples"),
        ("iter1/train/self_training", "rows"),
        ("iter0/test_greedy", "answers"),
    ]
    assert sources(run / "gone") == []


def test_answers_with_pictures_and_verdicts(run):
    shown = page(run, "iter0/test_greedy")
    assert (shown.items, shown.pages, shown.number) == (12, 3, 0)
    assert shown.html.count("<img") == 5 and shown.html.count(">✓") == 2 and shown.html.count("unparsed") >= 1
    assert EVIL not in shown.html
    assert page(run, "iter0/test_greedy", number=99).number == 2
    assert page(run, "iter0/test_greedy", number=-5).number == 0
    assert [page(run, "iter0/test_greedy", kind).items for kind in ("right", "wrong", "unparsed")] == [4, 4, 4]


def test_corrections_are_marked(run):
    html = page(run, "iter1/corrections").html
    assert '<mark class="new">three</mark>' in html and "correction 1" in html


def test_rows_show_prefix_weight_and_picture(run):
    html = page(run, "iter1/train/self_training").html
    assert html.count("<mark") == 2 and "weight 0.25" in html and html.count("<img") == 1


def test_plain_samples(run):
    html = page(run, "iter1/answers").html
    assert "<mark" in html and EVIL not in html


@pytest.mark.parametrize("name", ["../secret", "iter1/../../data/test", "/etc/passwd", "", "iter9/x", "iter1"])
def test_no_other_file_can_be_asked_for(run, name):
    with pytest.raises(SampleError, match="no samples"):
        page(run, name)


def test_damaged_and_large_files(run, monkeypatch):
    path = run / "iter0" / "checked_test_greedy.jsonl"
    whole = path.read_text()
    for content in ("{\n", "[1]\n", '{"question": "q"}\n', '{"question": "q", "verdict": 3, "sample": {}}\n'):
        path.write_text(content)
        with pytest.raises(SampleError):
            page(run, "iter0/test_greedy")
    path.write_text(whole)
    monkeypatch.setattr(samples, "MOST_BYTES", len(whole) // 2)
    samples._read_lines.cache_clear()
    shown = page(run, "iter0/test_greedy")
    assert shown.cut and 0 < shown.items < 12
    rows = run / "iter1" / "train" / "self_training.json"
    rows.write_text(json.dumps([{"a": "x" * 10_000}]))
    with pytest.raises(SampleError, match="too much"):
        page(run, "iter1/train/self_training")
    samples._read_lines.cache_clear()


def test_rows_of_a_file(run):
    assert len(file_rows(run / "iter1" / "train" / "self_training.json")) == 1
    assert len(file_rows(run / "iter0" / "checked_test_greedy.jsonl")) == 12
    (run / "a.json").write_text("{")
    for path in (run / "a.json", run / "gone.jsonl", run, run / "iter0.parquet"):
        assert file_rows(path) == []


def test_a_run_without_its_questions(run):
    write_json(run / "run.json", {"iterations": 1, "test_data": "/gone.json"})
    assert page(run, "iter0/test_greedy").items == 12
