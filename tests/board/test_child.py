# SPDX-License-Identifier: Apache-2.0
"""Loops as processes of their own: found again, stopped, and their failures told."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from llamafactory_mmself.board import child
from llamafactory_mmself.board.runs import known_runs, remember, run_to_show
from llamafactory_mmself.files import write_json
from llamafactory_mmself.loop.run import LOCK, _alone, holder
from llamafactory_mmself.processes import Identity, identity


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def started(folder: Path, process: Identity | None) -> None:
    values = None if process is None else {"pid": process.pid, "started": process.started}
    form = {"recipe": "a.yaml"}
    write_json(folder / child.STATE, {"process": values, "command": ["loop"], "since": "now", "form": form})


def test_a_process_is_its_number_and_its_start(sleeper):
    own = identity(sleeper.pid)
    assert own is not None and own.running
    assert not Identity(own.pid, own.started - 1).running
    sleeper.kill()
    sleeper_ended(own)
    assert not own.running  # not waited for yet
    sleeper.wait()
    assert identity(sleeper.pid) is None and not own.running


def sleeper_ended(process: Identity) -> None:
    deadline = time.monotonic() + 10
    while process.running and time.monotonic() < deadline:
        time.sleep(0.02)


def test_a_child_is_found_again_and_stopped(tmp_path, sleeper):
    started(tmp_path, identity(sleeper.pid))
    assert child.running(tmp_path) == identity(sleeper.pid)
    assert child.last_start(tmp_path).form == {"recipe": "a.yaml"}
    with pytest.raises(child.ChildError, match="already"):
        child.start(["--version"], tmp_path, {})
    child.stop(tmp_path)
    assert sleeper.wait(timeout=10) == -15
    assert child.running(tmp_path) is None
    with pytest.raises(child.ChildError, match="No loop works"):
        child.stop(tmp_path)


def test_a_start_writes_who_and_what(tmp_path):
    folder = tmp_path / "a" / "run"
    begun = child.start(["loop", "gone.yaml", "--set", "a=b c"], folder, {"recipe": "gone.yaml"})
    assert begun.line == "mmself loop gone.yaml --set 'a=b c'"
    assert child.last_start(folder).form == {"recipe": "gone.yaml"}
    child._children[begun.process.pid].wait(timeout=60)
    assert "There is no recipe gone.yaml" in child.failure(folder)
    assert child.running(folder) is None
    child._children[child.start(["--version"], folder, {}).process.pid].wait(timeout=60)
    assert child.failure(folder) is None  # the last start went well
    assert child.log_tail(folder).startswith("$ mmself --version\nllamafactory-mmself")
    assert len(child._children) == 1


def test_damaged_states_count_as_none(tmp_path):
    for text in ("{", "[]", '{"process": 3}', '{"process": {"pid": "x"}, "command": [], "since": "", "form": {}}'):
        (tmp_path / child.STATE).write_text(text)
        assert child.last_start(tmp_path) is None and child.running(tmp_path) is None
    assert child.log_tail(tmp_path) == "" and child.failure(tmp_path) is None


def test_of_a_progress_bar_the_last_state_is_shown(tmp_path):
    (tmp_path / child.LOG).write_bytes(b"old\n$ mmself loop a\nbar 1\rbar 2\rbar 3\nend\n")
    assert child.log_tail(tmp_path) == "$ mmself loop a\nbar 3\nend"


def test_a_loop_from_a_terminal_is_found_by_its_lock(tmp_path):
    with _alone(tmp_path):
        assert holder(tmp_path) == identity(os.getpid()) == child.running(tmp_path)
        with pytest.raises(ValueError, match="Another process"), _alone(tmp_path):
            pass
        assert child.running(tmp_path) == identity(os.getpid())  # an attempt leaves the lock file alone
    (tmp_path / LOCK).write_text("")
    assert child.running(tmp_path) is None  # as runs of earlier versions left it


def test_runs_are_remembered_newest_first(tmp_path, sleeper):
    cache, place = tmp_path / "cache", tmp_path
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        remember(cache, tmp_path / name)
    remember(cache, tmp_path / "gone")
    write_json(tmp_path / "runs" / "three" / "run.json", {})
    assert known_runs(cache, place) == ["two", "one", "runs/three"]
    assert known_runs(cache, tmp_path / "one") == [str(tmp_path / "two"), "."]
    assert run_to_show([]) is None
    runs = [str(tmp_path / name) for name in ("two", "one")]
    assert run_to_show(runs) == runs[0]
    started(tmp_path / "one", identity(sleeper.pid))
    assert run_to_show(runs) == runs[1]  # it is at work
    (cache / "mmself_runs.json").write_text("{")
    assert known_runs(cache, place) == ["runs/three"]
