# SPDX-License-Identifier: Apache-2.0
"""Tasks as runs name them, and where their data lies."""

from pathlib import Path

import pytest

from llamafactory_mmself.evaluate.chosen import chosen_tasks
from llamafactory_mmself.evaluate.root import VARIABLE, RootError, data_root
from llamafactory_mmself.evaluate.tasks.task import TaskError


def test_words_name_tasks_and_prompts(tmp_path: Path) -> None:
    chosen = chosen_tasks(["toy=r3v_cot", " mmstar "])
    assert [task.name for task in chosen.tasks] == ["toy", "mmstar"] and chosen.prompts == {"toy": "r3v_cot"}
    assert len(chosen_tasks(["rule"]).tasks) > 10
    for words in ([], ["toy="], ["rule=r3v_cot"], ["toi"]):
        with pytest.raises(TaskError):
            chosen_tasks(words)


def test_the_folder_of_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(RootError, match=f"`tasks_data`, or the environment variable {VARIABLE}, says where"):
        data_root(None, "`tasks_data`")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert data_root(None) == tmp_path and data_root(tmp_path / ".") == tmp_path / "."
    with pytest.raises(RootError, match="no folder"):
        data_root(tmp_path / "gone")
