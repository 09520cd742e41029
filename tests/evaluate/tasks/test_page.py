# SPDX-License-Identifier: Apache-2.0
"""The page about evaluation says what the task files say."""

from pathlib import Path

import pytest

from llamafactory_mmself.evaluate.tasks.page import page
from llamafactory_mmself.evaluate.tasks.task import load_task, names


def test_the_page_is_up_to_date(project_root) -> None:
    text = (project_root / "docs" / "evaluation.md").read_text()
    assert page(text) == text, "python -m llamafactory_mmself.evaluate.tasks.page docs/evaluation.md"


@pytest.mark.parametrize("name", names())
def test_the_page_tells_all_about_a_task(name, project_root: Path) -> None:
    task = load_task(name)
    text = (project_root / "docs" / "evaluation.md").read_text()
    for told in (task.title, task.source, task.licence, task.meaning, task.differences, f"--task {name} "):
        assert told in text
    if task.metric is not None:
        assert f"### Metric `{task.metric}`" in text


def test_a_page_without_a_place_for_the_tasks() -> None:
    with pytest.raises(ValueError, match="The page has no lines"):
        page("# Evaluation")
