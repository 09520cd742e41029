# SPDX-License-Identifier: Apache-2.0
"""Writing files whole, and reading them with errors that say where."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from llamafactory_mmself import files
from llamafactory_mmself.files import FileError, read_json, read_jsonl, write_json, write_jsonl, write_text


def test_json_lines_come_back(tmp_path) -> None:
    rows = [{"text": "line\u2028end"}, {"text": "ü"}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert list(read_jsonl(tmp_path / "rows.jsonl")) == rows


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch) -> None:
    path = tmp_path / "deep" / "rows.json"
    write_json(path, [1])

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(FileError, match=r"rows\.json cannot be written: No space left on device"):
        write_json(path, [2])
    assert read_json(path) == [1] and list(path.parent.iterdir()) == [path]


def test_what_a_kill_left_is_taken_over(tmp_path) -> None:
    files.scratch_of(tmp_path / "a.json").write_text("[1, 2, 3, 4, 5, 6")
    write_json(tmp_path / "a.json", [1])
    assert read_json(tmp_path / "a.json") == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_writers_of_one_file_wait_for_each_other(tmp_path) -> None:
    path, texts = tmp_path / "a.txt", [str(place) * 100_000 for place in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_text(path, text), texts * 4))
    assert path.read_text() in texts and list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_no_scratch(tmp_path, monkeypatch) -> None:
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "a.txt", "")
    assert not list(tmp_path.iterdir())


def test_a_line_that_was_cut_short_costs_no_other(tmp_path) -> None:
    path = tmp_path / "a.jsonl"
    files.append_jsonl(path, [{"a": 1}])
    path.write_bytes(path.read_bytes()[:-4])
    files.append_jsonl(path, [{"b": "\ud83d ü"}])
    cut, whole = path.read_bytes().splitlines()
    assert cut == b'{"a":' and json.loads(whole) == {"b": "\ud83d ü"}


def test_new_files_have_the_usual_permissions(tmp_path) -> None:
    write_text(tmp_path / "ours", "")
    (tmp_path / "usual").write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_threads_that_write_leave_the_umask_alone(tmp_path, monkeypatch) -> None:
    set_to, change = [], os.umask
    monkeypatch.setattr(files.os, "umask", lambda mask: set_to.append(mask) or change(mask))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda place: write_text(tmp_path / str(place), ""), range(64)))
    assert set_to == []


def test_damaged_files_are_named_with_their_line(tmp_path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(FileError, match=r"a\.jsonl, line 3: not a JSON object"):
        list(read_jsonl(tmp_path / "a.jsonl"))
    (tmp_path / "a.jsonl").write_text("[1]\n")
    with pytest.raises(FileError, match=r"a\.jsonl, line 1: a JSON object is expected, found list"):
        list(read_jsonl(tmp_path / "a.jsonl"))
    with pytest.raises(FileError, match=r"gone\.json cannot be read"):
        read_json(tmp_path / "gone.json")
