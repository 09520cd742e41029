# SPDX-License-Identifier: Apache-2.0
"""Tasks as runs name them, with their data read once: for evaluations that come again with other weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from .metrics.base import Item
from .tasks.task import Task, TaskError, select


VARIABLE = "MMSELF_BENCHMARKS"


@dataclass(frozen=True)
class Chosen:
    """What is to be evaluated.

    Attributes:
        tasks: each once.
        prompts: task -> the prompt that its questions are put into, where it is not the task's own.
    """

    tasks: tuple[Task, ...]
    prompts: Mapping[str, str]


@dataclass(frozen=True)
class HeldTask(Task):
    """A task whose items have been read.

    Attributes:
        held: the items.
    """

    held: tuple[Item, ...] = ()

    def items(self, root: Path, pictures: Path, limit: int | None = None) -> list[Item]:
        """The items that were read, whatever the folders."""
        return list(self.held if limit is None else self.held[:limit])


def chosen_tasks(words: Sequence[str]) -> Chosen:
    """The tasks behind words: names of tasks, files or groups, and `TASK=PROMPT` for a task with another prompt.

    Raises:
        TaskError: there is no such task, or no word.
    """
    split = [word.strip().partition("=") for word in words if word.strip()]
    if not split:
        raise TaskError("No task is named.")
    tasks = tuple(select([name.strip() for name, _, _ in split]))
    prompts = {}
    for name, equals, prompt in split:
        if equals:
            (task,) = select([name.strip()]) if name.strip() not in ("rule", "judge", "all") else (None,)
            if task is None or not prompt.strip():
                raise TaskError(f"{name}={prompt}: TASK=PROMPT is expected, for one task and a prompt's name or file.")
            prompts[task.name] = prompt.strip()
    return Chosen(tasks, prompts)


def data_root(folder: str | Path | None) -> Path:
    """The folder of all benchmarks: the one that is given, or the environment's.

    Raises:
        TaskError: neither names a folder that is there.
    """
    named = folder or os.environ.get(VARIABLE)
    if not named:
        raise TaskError(
            f"It is not said where benchmarks lie: name a folder with one folder a task, or set {VARIABLE}."
        )
    if not Path(named).is_dir():
        raise TaskError(f"There is no folder {named} of benchmarks.")
    return Path(named)


def read_task(task: Task, data: Path, pictures: Path, limit: int | None = None) -> HeldTask:
    """A task with its items.

    Args:
        task: the task.
        data: folder of all benchmarks, or of this one.
        pictures: folder for pictures that lie inside of tables.
        limit: at most so many items.

    Raises:
        LayoutError: naming file, row and field, and for missing files the layout and who publishes it.
    """
    values = {item.name: getattr(task, item.name) for item in fields(task)}
    return HeldTask(**values, held=tuple(task.items(data, pictures, limit)))
