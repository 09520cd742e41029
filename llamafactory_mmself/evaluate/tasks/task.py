# SPDX-License-Identifier: Apache-2.0
"""Tasks: small versioned files that say where a benchmark lies, how it is asked, and how answers are scored.

```yaml
name: pope
version: 1                    # rises when any prompt, item or score may change
title: POPE
source: https://github.com/RUCAIBox/POPE
licence: MIT
published: the repository has the questions, https://cocodataset.org the pictures
layout: pope                  # a reader of `layouts`
options: {parts: [random]}    # its keyword arguments; may be left out
files:                        # relative to the task's folder; `a | b`: either does
  - coco_pope_random.json | output/coco/coco_pope_random.json
prompt: eval_yes_no           # a prompt of the package, or a file, with {question}
max_new_tokens: 16
metric: {name: yes_no}        # of `metrics`, with its options; `{file: a | b}` is a file of the folder
needs: []                     # judge, nltk, spacy:<model>
group: rule                   # rule, judge or predictions
submission: mmbench           # a form of `submission` that the owner's server takes; may be left out
meaning: what the number means
differences: how it differs from the published code
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from string import ascii_uppercase
from types import MappingProxyType
from typing import Any, Literal, get_args

import yaml

from ...data.questions import IMAGE, Question
from ...prompts import Prompt
from ..metrics.base import Item
from ..submission import FORMS
from .layouts import LAYOUTS, LayoutError, MissingFile, Place


FOLDER = Path(__file__).parent
Group = Literal["rule", "judge", "predictions"]
GROUPS: tuple[Group, ...] = get_args(Group)


class TaskError(ValueError):
    """A task that is not there or whose file is wrong, with file, key and what to do."""


@dataclass(frozen=True)
class Task:
    """A benchmark as it is run; the attributes are the keys of its file.

    Attributes:
        name: of the task, and of its folder in the output.
        version: of the task; scores of other versions cannot be compared.
        title: how people call it.
        source: where it is published.
        licence: of the data.
        published: who publishes which of its files.
        layout: the reader.
        options: the reader's.
        files: what the reader reads, relative to the folder; ` | ` stands between alternatives.
        folder: of the user's copy, below the folder of all benchmarks.
        prompt: name of a prompt of the package, or a file.
        max_new_tokens: where an answer is cut.
        metric: its name; None where answers are scored elsewhere.
        metric_options: the metric's.
        needs: what scoring needs beside answers.
        submission: form of the file for the owner's server; None where answers are scored here.
        group: `rule`, `judge`, or `predictions` where only those are written.
        meaning: what the number means.
        differences: how the number may differ from the published code's.
        file: the task's file.
    """

    name: str
    version: int
    title: str
    source: str
    licence: str
    published: str
    layout: str
    files: tuple[str, ...]
    folder: str
    prompt: str
    max_new_tokens: int
    metric: str | None
    group: Group
    meaning: str
    differences: str
    options: Mapping[str, Any] = field(default_factory=dict)
    metric_options: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    submission: str | None = None
    file: Path = Path()

    @property
    def judged(self) -> bool:
        """Whether scoring needs a judge."""
        return "judge" in self.needs

    @property
    def expected(self) -> str:
        """The layout and who publishes it, for errors; a line for each file."""
        files = [f"  {entry.replace(' | ', ' or ')}" for entry in self.files]
        source = f"Where to get it: {self.published} ({self.source})."
        return "\n".join([f"The folder {self.folder} should have", *files, source])

    def place(self, root: Path, pictures: Path) -> Place:
        """Where the task's files are: `root/<folder>`, or `root` itself if it has all of them.

        Raises:
            MissingFile: neither folder has them.
        """
        own = root / self.folder
        if not own.is_dir():
            if not all(found for _, found in self.found(root)):
                raise MissingFile(f"{root} has no folder {self.folder} for {self.title}.\n{self.expected}")
            own = root
        return Place(own, pictures, self.expected)

    def found(self, folder: Path) -> list[tuple[str, bool]]:
        """For each entry of `files`, whether any of its alternatives is there."""
        return [
            (entry, any(next(folder.glob(name.strip()), None) is not None for name in entry.split(" | ")))
            for entry in self.files
        ]

    def scorer_options(self, root: Path) -> dict[str, Any]:
        """The metric's options, with paths for what they name in the task's folder."""
        return {name: self._path(root, value) for name, value in self.metric_options.items()}

    def check_scorer_files(self, root: Path) -> None:
        """Sees that all is there that the metric reads.

        Raises:
            MissingFile: naming what is not.
        """
        for name, value in self.metric_options.items():
            path = self._path(root, value)
            if isinstance(value, Mapping) and not path.exists():
                raise MissingFile(f"There is no {path}, the {name} of {self.title}.\n{self.expected}")

    def _path(self, root: Path, value: Any) -> Any:
        """What an option names in the task's folder: the first alternative that is there, else the first one."""
        if not isinstance(value, Mapping):
            return value
        folder = root / self.folder if (root / self.folder).is_dir() else root
        names = next(iter(value.values())).split(" | ")
        there = (path for name in names for path in ([folder] if name == "." else sorted(folder.glob(name))))
        return next(there, folder / names[0])

    def items(self, root: Path, pictures: Path, limit: int | None = None) -> list[Item]:
        """Reads the benchmark: the first `limit` items, or all.

        Args:
            root: folder of all benchmarks, or this one's.
            pictures: folder for pictures that lie inside of tables.
            limit: at most this many.

        Raises:
            LayoutError: naming file, row, field and what to do; or there are no items, or an id comes twice.
        """
        place = self.place(root, pictures)
        read: Iterator[Item] = LAYOUTS[self.layout](place, **self.options)
        items = list(read if limit is None else islice(read, limit))
        if not items:
            raise LayoutError(f"{place.folder}: {self.title} has no items.\n{self.expected}")
        seen: set[str] = set()
        for item in items:
            if item.id in seen:
                raise LayoutError(f"{place.folder}: the id {item.id!r} comes twice; remove one of the two rows.")
            seen.add(item.id)
        return items

    def asked(self, items: Sequence[Item], prompt: Prompt) -> list[Item]:
        """The items with the texts that the model is shown."""
        return [replace(item, prompt=prompt.fill(question=item.prompt.replace(IMAGE, "[image]"))) for item in items]


def names() -> list[str]:
    """Names of the tasks of this package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_task(name: str | Path) -> Task:
    """Reads a task of the package by its name, or a task file of the user's.

    Raises:
        TaskError: naming file and key.
    """
    packaged = FOLDER / f"{name}.yaml"
    path = packaged if packaged.is_file() else Path(name)
    if not path.is_file():
        close = get_close_matches(str(name), names(), n=1)
        hint = f"Did you mean {close[0]}?" if close else "A task file of yours would be a path."
        raise TaskError(
            f"There is no task {name}. {hint} Tasks are {', '.join(names())}; groups are rule, judge and all."
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TaskError(f"Task file {path} cannot be read: {error}") from error
    return _checked(path, values)


def select(wanted: Sequence[str]) -> list[Task]:
    """The tasks behind names, files and groups (`rule`, `judge`, `all`), each once, in the order given.

    Raises:
        TaskError: there is no such task.
    """
    chosen: dict[str, Task] = {}
    for word in wanted:
        if word in ("rule", "judge", "all"):
            groups = ("rule", "judge") if word == "all" else (word,)
            found = [task for task in map(load_task, names()) if task.group in groups]
        else:
            found = [load_task(word)]
        chosen |= {task.name: task for task in found if task.name not in chosen}
    return list(chosen.values())


def question_of(item: Item) -> Question:
    """An item as a question that the other commands read; what has no answer gets a dash for one."""
    choices = tuple(str(choice) for choice in item.truth.get("choices") or ())
    answer = str(item.truth.get("answer") or "-")
    if not (len(choices) > 1 and len(answer) == 1 and answer in ascii_uppercase[: len(choices)]):
        choices = ()
    question = Question(item.id, item.prompt.replace(IMAGE, "[image]"), answer, item.images)
    block = replace(question, text="", choices=choices).block
    if choices and item.prompt.endswith(block):
        return replace(question, text=question.text.removesuffix(block), choices=choices)
    return question


_TEXTS = ("name", "title", "source", "licence", "published", "layout", "prompt", "group", "meaning", "differences")
_KNOWN = frozenset(
    {*_TEXTS, "version", "folder", "files", "options", "max_new_tokens", "metric", "needs", "submission"}
)


def _checked(path: Path, values: Any) -> Task:
    def fail(key: str, problem: str) -> TaskError:
        return TaskError(f"Task file {path}, key `{key}`: {problem}")

    if not isinstance(values, dict):
        raise TaskError(f"Task file {path}: `key: value` lines are expected, found {type(values).__name__}.")
    for key in values.keys() - _KNOWN:
        raise fail(key, f"is not known; keys are {', '.join(sorted(_KNOWN))}.")
    for key in _TEXTS:
        if not isinstance(values.get(key), str) or not values[key].strip():
            raise fail(key, f"a text is expected, found {values.get(key)!r}.")
    for key in ("version", "max_new_tokens"):
        if not isinstance(values.get(key), int) or isinstance(values[key], bool) or values[key] < 1:
            raise fail(key, f"a whole number from 1 is expected, found {values.get(key)!r}.")
    for key in ("files", "needs"):
        if not isinstance(values.setdefault(key, []), list) or not all(isinstance(item, str) for item in values[key]):
            raise fail(key, f"a list of texts is expected, found {values[key]!r}.")
    if values["layout"] not in LAYOUTS:
        raise fail("layout", f"there is no reader {values['layout']!r}; readers are {', '.join(LAYOUTS)}.")
    if values["group"] not in GROUPS:
        raise fail("group", f"one of {', '.join(GROUPS)} is expected, found {values['group']!r}.")
    if values.get("submission") not in (None, *FORMS):
        raise fail("submission", f"there is no form {values['submission']!r}; forms are {', '.join(FORMS)}.")
    name, options = _metric(values.get("metric"), fail)
    texts = {key: " ".join(values[key].split()) for key in _TEXTS}
    return Task(
        **{key: value for key, value in texts.items() if key != "group"},
        group=values["group"],
        version=values["version"],
        folder=values.get("folder") or values["name"],
        files=tuple(values["files"]),
        options=MappingProxyType(dict(values.get("options") or {})),
        max_new_tokens=values["max_new_tokens"],
        metric=name,
        metric_options=MappingProxyType(options),
        needs=tuple(values["needs"]),
        submission=values.get("submission"),
        file=path,
    )


def _metric(value: Any, fail: Callable[[str, str], TaskError]) -> tuple[str | None, dict[str, Any]]:
    """The metric's name and options."""
    if value is None:
        return None, {}
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise fail("metric", f"`name` and options are expected, found {value!r}.")
    options = {key: option for key, option in value.items() if key != "name"}
    for key, option in options.items():
        if isinstance(option, dict) and not (
            set(option) in ({"file"}, {"folder"}) and all(map(_is_text, option.values()))
        ):
            raise fail("metric", f"`{key}` is a value, {{file: NAME}} or {{folder: NAME}}, not {option!r}.")
    return value["name"], options


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
