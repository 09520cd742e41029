# SPDX-License-Identifier: Apache-2.0
"""Tasks of `mmself eval` on the model of each round, as steps of the run: `evaluate.tasks` of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ..evaluate.benchmark import Settings, answer, check_needs, finish, metric_of
from ..evaluate.chosen import Chosen, HeldTask, chosen_tasks, read_task
from ..evaluate.root import data_root
from ..evaluate.scoring import finite
from ..evaluate.tasks.task import Task
from ..generate.config import EngineConfig, read_engine
from ..generate.engines import LazyEngine
from .rounds import TASKS, Policy, Rounds
from .steps import LoopError, Step


PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"})


class TaskSteps:
    """Makes the steps that evaluate tasks.

    A step depends on the model, on the task's file, data files and prompt, on the versions of task and metric, on the
    limit and on the judge. Pictures are taken as they are: they are many, and benchmarks do not change theirs.

    Args:
        rounds: of the run.

    Raises:
        LoopError: a task needs a judge, a file or a package that is not there.
    """

    def __init__(self, rounds: Rounds) -> None:
        self.rounds = rounds
        self.wanted = rounds.recipe.evaluate
        self._read: dict[str, HeldTask] = {}
        self.chosen, self.data, self.judge = self._prepared() if self.wanted.tasks else (Chosen((), {}), Path(), None)

    def _prepared(self) -> tuple[Chosen, Path, EngineConfig | None]:
        wanted = self.wanted
        try:
            judge = None if wanted.tasks_judge is None else read_engine(Path(wanted.tasks_judge))
            chosen, data = chosen_tasks(wanted.tasks), data_root(wanted.tasks_data, "`tasks_data`")
            for task in chosen.tasks:
                if task.metric is None:
                    raise LoopError(f"{task.title} is scored elsewhere: there would be nothing to compare.")
                check_needs(task, judge is not None)
                task.check_scorer_files(data)
        except (ValueError, OSError) as error:
            raise LoopError(f"`evaluate.tasks`: {error}") from error
        return chosen, data, judge

    def steps(self, number: int) -> list[Step]:
        """The steps of a round, one a task."""
        return [self._step(number, task) for task in self.chosen.tasks]

    def _step(self, number: int, task: Task) -> Step:
        rounds, judge = self.rounds, self.judge
        policy, config = rounds.policy(number), rounds.serving(number)
        folder = rounds.iteration(number) / TASKS
        settings = Settings(
            data=self.data,
            out=folder,
            seed=rounds.recipe.seed,
            limit=self.wanted.tasks_limit,
            prompts=self.chosen.prompts,
            engine=config.identity() | {"model": config.model, "adapter": list(config.adapter)},
            command=f"evaluate.tasks of round {number}",
        )
        metric = metric_of(task, settings)
        assert metric is not None

        def action() -> dict[str, Any]:
            found = answer(
                self._items(task), settings, lambda job: rounds.sampler.run(job, config), judge=self._judge_engine
            )
            if task.judged and judge is not None and judge.name != "openai":
                rounds.sampler.close()  # the judge needs the memory
            scored = finish(found, settings, judge=self._judge_engine)
            if self._judge_engine is not None:
                self._judge_engine.close()
            value = finite(scored.figures[metric.headline].value)
            value = None if value is None else round(value, 4)
            return {metric.headline: value, "n": scored.facts["n"], "unparsed": scored.facts["unparsed"]}

        judged = Policy(str(judge.model)) if task.judged and judge is not None and judge.model else None
        return Step(
            name=f"iter{number}/eval_{task.name}",
            action=action,
            inputs={
                **self._files(task),
                **policy.inputs,
                **({} if judged is None else {f"judge {name}": path for name, path in judged.inputs.items()}),
            },
            outputs=(folder / task.name,),
            settings={
                "engine": config.identity(),
                "params": settings.params(task).to_dict(),
                "prompt": settings.prompt(task).digest,
                "task": [task.name, task.version],
                "metric": [metric.name, metric.version],
                "limit": self.wanted.tasks_limit,
                "seed": rounds.recipe.seed,
                "judge": judge.identity() if task.judged and judge is not None else None,
            },
            names={
                **policy.names,
                **({} if judged is None else {f"judge {name}": value for name, value in judged.names.items()}),
            },
        )

    @cached_property
    def _judge_engine(self) -> LazyEngine | None:
        return None if self.judge is None else LazyEngine(self.judge)

    def _items(self, task: Task) -> HeldTask:
        """The task with its items, which are read once a run."""
        if task.name not in self._read:
            pictures = self.rounds.folder / "task_pictures"
            self._read[task.name] = read_task(task, self.data, pictures, self.wanted.tasks_limit)
        return self._read[task.name]

    def _files(self, task: Task) -> Mapping[str, Path]:
        """The task's file and the files of its data but for pictures: label -> path.

        Raises:
            LoopError: the task has no folder.
        """
        try:
            folder = task.place(self.data, self.rounds.folder).folder
        except ValueError as error:
            raise LoopError(f"`evaluate.tasks`: {error}") from error
        found = {"task": task.file}
        for entry in task.files:
            for pattern in entry.split(" | "):
                paths = [path for path in sorted(folder.glob(pattern.strip())) if path.suffix.lower() not in PICTURES]
                found |= {path.relative_to(folder).as_posix(): path for path in paths if path.is_file()}
        return found
