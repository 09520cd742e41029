# SPDX-License-Identifier: Apache-2.0
"""The parts of docs/evaluation.md that come from task files and from the metrics' docstrings.

`python -m llamafactory_mmself.evaluate.tasks.page docs/evaluation.md` brings the page up to date.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path

from ...files import write_text
from ..metrics import METRICS
from .task import Task, load_task, names


BEGIN, END = "<!-- {} -->", "<!-- end of {} -->"


def page(text: str) -> str:
    """A page's text with its generated parts up to date.

    Raises:
        ValueError: the page has no place for one of them.
    """
    tasks = [load_task(name) for name in names()]
    parts = {"table of tasks": _table(tasks), "tasks": _tasks(tasks), "metrics": _metrics(tasks)}
    for name, content in parts.items():
        head, begin, rest = text.partition(BEGIN.format(name))
        _, end, tail = rest.partition(END.format(name))
        if not begin or not end:
            raise ValueError(f"The page has no lines {BEGIN.format(name)} and {END.format(name)}.")
        text = f"{head}{begin}\n{content}\n{end}{tail}"
    return text


def _table(tasks: Sequence[Task]) -> str:
    lines = ["| task | benchmark | group | needs | folder |", "|---|---|---|---|---|"]
    for task in tasks:
        needs = ", ".join(task.needs) or "–"
        lines.append(f"| `{task.name}` | {task.title} | {task.group} | {needs} | `{task.folder}` |")
    return "\n".join(lines)


def _tasks(tasks: Sequence[Task]) -> str:
    return "\n\n".join(map(_task, tasks))


def _task(task: Task) -> str:
    files = "; ".join(" or ".join(f"`{name.strip()}`" for name in entry.split(" | ")) for entry in task.files)
    judge = " --judge judge.yaml" if task.judged else ""
    metric = "none here" if task.metric is None else f"`{task.metric}`{_options(task)}"
    rows = {
        "source": task.source,
        "licence": task.licence,
        "published by": task.published,
        "files": f"in `DIR/{task.folder}`: {files}",
        "asked": f"prompt `{task.prompt}`, at most {task.max_new_tokens} tokens",
        "scored": f"metric {metric}; version {task.version} of the task",
        "command": f"`mmself eval --task {task.name} --data DIR{judge} --model … --template … --out OUT`",
    }
    lines = [f"### {task.title}: `{task.name}`", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {text.replace('|', chr(92) + '|')} |" for name, text in rows.items()]
    return "\n".join([*lines, "", f"**The number.** {task.meaning}", "", f"**Differences.** {task.differences}"])


def _options(task: Task) -> str:
    shown = [f"{name}: {value}" for name, value in task.metric_options.items() if not isinstance(value, dict)]
    return f" ({', '.join(shown)})" if shown else ""


def _metrics(tasks: Sequence[Task]) -> str:
    """What the metrics' docstrings say, without their lists of attributes."""
    used = sorted({task.metric for task in tasks if task.metric is not None})
    parts = []
    for name in used:
        text = (inspect.getdoc(METRICS[name]) or "").partition("\nAttributes:")[0].strip()
        parts.append(f"### Metric `{name}`\n\n{text}")
    return "\n\n".join(parts)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    write_text(file, page(file.read_text(encoding="utf-8")))
