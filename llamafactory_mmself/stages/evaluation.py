# SPDX-License-Identifier: Apache-2.0
"""Evaluation during training: the model that is being trained answers tasks every n steps, and training never notices.

Answers are greedy and come from the bare model in evaluation mode, under the autocast of training; modes and random
states are put back, so that losses and weights are those of a run without evaluation, to the bit. On several ranks the
first one runs the tasks and hands out their prompts; all ranks answer.

Evaluation lies beside the stages, and nothing of it imports them: only runs with `eval_tasks` import it, from here.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import Trainer, TrainerCallback

from ..generate.config import EngineConfig, read_engine
from ..generate.hf import HFEngine
from ..generate.jobs import run_job
from ..generate.types import Completion, Engine, EngineError, Request, SamplingParams
from ..plugin import lf
from .base import RunArguments, SettingError
from .ranks import from_first, gathered


if TYPE_CHECKING:
    from ..evaluate.benchmark import Settings
    from ..evaluate.chosen import Chosen, HeldTask
    from ..evaluate.scoring import Scored

logger = lf.get_logger(__name__)

FOLDER = "eval_tasks"
Answers = list[list[Completion]]
Order = tuple[list[Request], SamplingParams, int]


@dataclass(frozen=True)
class Place:
    """What a run evaluates.

    Attributes:
        chosen: tasks with their prompts.
        tasks: the same tasks, with their items read.
        data: folder of all tasks.
        every: steps between two evaluations.
        out: folder of the results.
        seed: of the bootstrap behind the intervals.
        judge: judges answers, or None; its memory is training's again after each evaluation.
    """

    chosen: Chosen
    tasks: Sequence[HeldTask]
    data: Path
    every: int
    out: Path
    seed: int
    judge: Engine | None


def add_eval_tasks(trainer: Trainer, run: RunArguments, template: Any, tokenizer: Any, processor: Any) -> None:
    """Adds the tasks of a run to its trainer, if the run asks for any.

    Args:
        trainer: of the run.
        run: its arguments.
        template: the chat template that its rows are encoded with.
        tokenizer: the run's.
        processor: the run's, or None for text models.

    Raises:
        SettingError: a task is not there, its data is lacking, or it needs what there is not.
    """
    if not (run.stage.eval_tasks and run.training.do_train):
        return
    parts = lf.Inference(run.model, run.finetuning, tokenizer, processor, template, run.data.cutoff_len)
    trainer.add_callback(EvalTasks(trainer, run, parts, _prepare(run)))


def _prepare(run: RunArguments) -> Place:
    from ..evaluate.benchmark import check_needs
    from ..evaluate.chosen import chosen_tasks, read_task
    from ..evaluate.root import data_root
    from ..generate.engines import LazyEngine

    args, out = run.stage, Path(run.training.output_dir) / FOLDER
    try:
        chosen = chosen_tasks(args.eval_tasks.split(","))
        data = data_root(args.eval_tasks_data, "`eval_tasks_data`")
        judge = None if args.eval_tasks_judge is None else LazyEngine(read_engine(Path(args.eval_tasks_judge)))
        for task in chosen.tasks:
            check_needs(task, judge is not None)
            task.check_scorer_files(data)
            if task.metric is None:
                raise SettingError(f"{task.title} is scored elsewhere: there would be nothing to log.")
        tasks = [read_task(task, data, out / "pictures", args.eval_tasks_limit) for task in chosen.tasks]
    except (ValueError, OSError) as error:
        raise SettingError(f"eval_tasks: {error}") from error
    return Place(chosen, tasks, data, args.eval_tasks_every, out, run.training.seed, judge)


class EvalTasks(TrainerCallback):
    """Runs tasks on the model in training.

    A task that fails at a step is told in the log with the reason; training goes on.

    Args:
        trainer: its model answers, and its log gets the figures.
        run: arguments of the run.
        parts: tokenizer, processor and template of the run.
        place: what to evaluate.
    """

    def __init__(self, trainer: Trainer, run: RunArguments, parts: lf.Inference, place: Place) -> None:
        self._trainer = trainer
        self._parts = parts
        self._place = place
        self._config = EngineConfig(
            model=run.model.model_name_or_path,
            template=run.data.template or "empty",
            batch_size=run.training.per_device_eval_batch_size * run.training.world_size,
            threads=torch.get_num_threads(),
            llamafactory=run.shared(),
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluates every n steps, and after the last one."""
        if state.global_step % self._place.every == 0 or state.global_step == state.max_steps:
            wanted = control.should_log
            self.evaluate(state.global_step)
            control.should_log = wanted  # our log entry has cleared it, and the step's loss has not been logged yet

    def evaluate(self, step: int) -> None:
        """Runs all tasks; logs `eval_<task>_<figure>` on all ranks."""
        trainer = self._trainer
        with undisturbed(trainer.model), trainer.accelerator.autocast():
            engine = RankedEngine(HFEngine.on(trainer.model, self._parts, self._config, f"step-{step}"))
            if engine.first:
                try:
                    figures: Mapping[str, float] = self._run(step, engine)
                finally:
                    engine.close()
            else:
                engine.serve()
                figures = {}
        if logged := from_first(dict(figures)):
            trainer.log(logged)

    def _run(self, step: int, engine: Engine) -> dict[str, float]:
        from ..evaluate.benchmark import Settings

        place = self._place
        figures: dict[str, float] = {}
        out = place.out / f"step-{step}"
        settings = Settings(
            data=place.data,
            out=out,
            seed=place.seed,
            prompts=place.chosen.prompts,
            engine=self._config.identity(),
            command=f"eval_tasks at step {step}",
        )
        for task in place.tasks:
            # Answers of an earlier run in this folder would be those of another model.
            shutil.rmtree(out / task.name, ignore_errors=True)
            try:
                figures |= logged_figures(evaluate_task(task, settings, self._config, engine, place.judge))
            except (ValueError, OSError) as error:
                logger.warning_rank0(f"Task {task.name} at step {step} failed, training goes on: {error}")
        if place.judge is not None:
            place.judge.close()
        return figures


def evaluate_task(
    task: HeldTask, settings: Settings, config: EngineConfig, engine: Engine, judge: Engine | None
) -> Scored:
    """Answers, judges and scores a task with an engine that is loaded."""
    from ..evaluate.benchmark import answer, finish

    found = answer(
        task,
        settings,
        lambda job: run_job(job, config, engine=engine, progress=False),
        judge=judge,
    )
    return finish(found, settings, judge=judge)


def logged_figures(scored: Scored) -> dict[str, float]:
    """The figures of all items under the names that the log has; those of categories are in the files."""
    return {
        f"eval_{scored.task.name}_{name}": float(figure.value)
        for name, figure in scored.figures.items()
        if "/" not in name and figure.value == figure.value
    }


def plotted_tasks(run: RunArguments) -> list[str]:
    """Names in the log of the figures that `plot_loss` draws: the headline of each task."""
    if not run.stage.eval_tasks:
        return []
    from ..evaluate.benchmark import Settings, metric_of
    from ..evaluate.chosen import chosen_tasks

    chosen = chosen_tasks(run.stage.eval_tasks.split(","))
    settings = Settings(Path(), Path())
    metrics = {task.name: metric_of(task, settings) for task in chosen.tasks}
    return [f"eval_{name}_{metric.headline}" for name, metric in metrics.items() if metric is not None]


class RankedEngine:
    """An engine on every rank: the first one gives the orders, all of them answer a part.

    Args:
        own: this rank's engine; all have the same weights.
    """

    name = "hf"

    def __init__(self, own: HFEngine) -> None:
        self._own = own
        self.policy = own.policy
        ranks = gathered(0)
        self._ranks = len(ranks)
        self._rank = torch.distributed.get_rank() if self._ranks > 1 else 0

    @property
    def first(self) -> bool:
        """Whether this is the rank that gives the orders."""
        return self._rank == 0

    def generate(self, requests: Sequence[Request], params: SamplingParams, seed: int) -> Answers:
        """See `Engine.generate`; for the first rank.

        Raises:
            EngineError: a rank could not answer.
        """
        order = from_first((list(requests), params, seed))
        answers: Answers = [[] for _ in requests]
        for rank, (found, problem) in enumerate(gathered(self._part(order))):
            if problem:
                raise EngineError(f"Rank {rank}: {problem}")
            answers[rank :: self._ranks] = found
        return answers

    def serve(self) -> None:
        """Answers the orders of the first rank until it closes; for the other ranks."""
        nothing: Order | None = None
        while (order := from_first(nothing)) is not None:
            gathered(self._part(order))

    def close(self) -> None:
        """Lets the other ranks go on."""
        from_first(None)

    def _part(self, order: Order) -> tuple[Answers, str]:
        """This rank's answers, or the reason why there are none."""
        requests, params, seed = order
        own = requests[self._rank :: self._ranks]
        try:
            return (self._own.generate(own, params, seed) if own else []), ""
        except (ValueError, OSError) as error:
            return [], str(error)


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Evaluation mode; afterwards each module's mode and all random states are as before."""
    training = [module for module in model.modules() if module.training]
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if devices:
            torch.cuda.set_rng_state_all(devices)
