# SPDX-License-Identifier: Apache-2.0
"""How far a run is, from its files alone."""

import json
import os
from pathlib import Path

import pytest

from llamafactory_mmself.board.child import LOG, STATE
from llamafactory_mmself.board.pages import accuracy_figure
from llamafactory_mmself.board.progress import progress_html, read_progress
from llamafactory_mmself.files import write_json
from llamafactory_mmself.processes import identity


WORDS = {name: name for name in ("none", "starting", "running", "stopped", "failed", "finished")}


def work(folder: Path) -> None:
    """This process as the run's."""
    own = identity(os.getpid())
    process = {"pid": own.pid, "started": own.started}
    write_json(folder / STATE, {"process": process, "command": ["loop"], "since": "now", "form": {}})


def steps(folder: Path, *names: str, current: str | None = None) -> None:
    write_json(folder / "run.json", {"iterations": 1, "method": "r3v"})
    done = {name: {"seconds": 3.0, "figures": {"loss": 0.123456}} for name in names}
    write_json(folder / "manifest.json", {"steps": done})
    if current is not None:
        write_json(folder / "current.json", {"step": current})


def test_states(tmp_path):
    assert read_progress(tmp_path / "gone").state == "none"
    assert read_progress(tmp_path).state == "none"
    work(tmp_path)
    assert read_progress(tmp_path).state == "starting"
    steps(tmp_path, "iter0/check", current="iter1/train")
    found = read_progress(tmp_path)
    assert (found.state, found.current, found.done, found.pid) == ("running", "iter1/train", 1, os.getpid())
    (tmp_path / STATE).unlink()
    assert read_progress(tmp_path).state == "stopped" and read_progress(tmp_path).steps[1].state == "interrupted"
    (tmp_path / LOG).write_text("$ mmself loop a\nmmself: error: the disk is <full>\n")
    assert read_progress(tmp_path).state == "failed"
    html = progress_html(read_progress(tmp_path), WORDS)
    assert "the disk is &lt;full&gt;" in html and "loss 0.123" in html and "3 s" in html
    (tmp_path / "current.json").unlink()
    assert read_progress(tmp_path).state == "finished"


def test_a_training_tells_its_steps(tmp_path):
    work(tmp_path)
    steps(tmp_path, current="iter1/train")
    assert read_progress(tmp_path).inner is None
    log = tmp_path / "iter1" / "model" / "trainer_log.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('{"current_steps": 1, "total_steps": 4, "loss": 1.5}\n{"current_st')
    inner = read_progress(tmp_path).inner
    assert (inner.share, inner.text) == (0.25, "1 / 4, loss 1.500")
    assert "width: 25.0%" in progress_html(read_progress(tmp_path), WORDS)


def test_a_sampling_tells_its_batches(tmp_path):
    work(tmp_path)
    steps(tmp_path, current="iter0/test_greedy")
    folder = tmp_path / "iter0"
    write_json(folder / "test_greedy.jsonl.manifest.json", {"batches": [1, 2, 3, 4]})
    for rank, lines in enumerate(("a\nb\n", "c\n")):
        (folder / f"test_greedy.jsonl.journal-{rank}.jsonl").write_text(lines)
    assert read_progress(tmp_path).inner.text == "3 / 4"


@pytest.mark.parametrize("step", ["../../x/train", "iter1/../../x", "iterx/train", "", "/etc/passwd", 3])
def test_steps_with_odd_names_read_nothing(tmp_path, step):
    work(tmp_path)
    steps(tmp_path)
    write_json(tmp_path / "current.json", {"step": step})
    assert read_progress(tmp_path).inner is None
    progress_html(read_progress(tmp_path), WORDS)


def test_damaged_files_count_as_missing(tmp_path):
    steps(tmp_path, "iter0/a")
    (tmp_path / "manifest.json").write_text("{")
    assert read_progress(tmp_path).state == "stopped"
    (tmp_path / "manifest.json").write_text('{"steps": {"<b>": 3}}')
    assert "<b>" not in progress_html(read_progress(tmp_path), WORDS).replace("<b></b>", "")
    (tmp_path / "run.json").write_text("[]")
    assert read_progress(tmp_path).state == "none"
    assert accuracy_figure(tmp_path) is None


def test_steps_to_come_are_known_from_the_plan(tmp_path):
    steps(tmp_path, "iter0/check")
    done = json.loads((tmp_path / "manifest.json").read_text())["steps"]
    write_json(tmp_path / "manifest.json", {"planned": ["iter0/check", "iter1/train"], "steps": done})
    found = read_progress(tmp_path)
    assert found.state == "stopped"
    assert [(step.name, step.state) for step in found.steps] == [("iter0/check", "done"), ("iter1/train", "waiting")]
