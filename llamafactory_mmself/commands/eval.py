# SPDX-License-Identifier: Apache-2.0
"""`mmself eval`: what a model reaches on public benchmarks and on the toy world."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..evaluate.root import VARIABLE, data_root, given_root
from .eval_bridges import add_bridges, check_bridges, export, run_via
from .sample import add_engine, engine_config, engine_file, prompt_files


if TYPE_CHECKING:
    from ..evaluate.benchmark import Outcome, Settings
    from ..evaluate.tasks.task import Task
    from ..generate.engines import LazyEngine

_EPILOG = f"""
examples:
  mmself eval --list --data benchmarks                       (tasks, and what of their files is there)
  mmself eval --task pope mmstar --data benchmarks --model llava-hf/llava-1.5-7b-hf --adapter saves/ovip \\
      --template llava --out runs/eval/ovip
  mmself eval --task rule ... --adapter none                 (the base model, all tasks without a judge)
  mmself eval --task judge ... --judge judge.yaml            (a judge's YAML has the keys of an engine)
  mmself eval --task mmstar --rescore --data benchmarks --out runs/eval/ovip
  mmself eval --task mmstar --data benchmarks --questions mmstar.json    (for `mmself correct`), and then
  mmself eval --task mmstar --predictions runs/correct ...   (a score for each turn)

DIR has a folder for each task, in the layout of its owner; the environment variable {VARIABLE} names it, too.
Nothing is downloaded. A stopped command goes on where it was; docs/evaluation.md has all tasks.
"""


def add(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = commands.add_parser(
        "eval",
        help="run benchmarks: answers, judges, scores with intervals",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what to run")
    what.add_argument("--task", nargs="+", metavar="NAME", help="tasks, your own task files, or rule, judge, all")
    what.add_argument("--data", type=Path, metavar="DIR", help=f"folder of the benchmarks (default: ${VARIABLE})")
    what.add_argument("--out", type=Path, metavar="DIR", help="folder to write")
    what.add_argument("--limit", type=int, metavar="N", help="only N questions of each task, spread evenly over it")
    what.add_argument("--list", action="store_true", help="print the tasks and what of their files is there")
    what.add_argument("--questions", type=Path, metavar="FILE", help="write the task's questions, and stop")
    answers = parser.add_argument_group("answers that are there already")
    answers.add_argument(
        "--predictions", type=Path, metavar="FILE", help="score these; a folder of `mmself correct` by turn"
    )
    answers.add_argument(
        "--rescore", action="store_true", help="score the predictions in --out again, without a model"
    )
    add_engine(parser.add_argument_group("who answers (--adapter none is the base model)"))
    sampling = parser.add_argument_group("how to sample")
    sampling.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default: 0)")
    sampling.add_argument("--top_p", type=float, default=1.0, help="nucleus; 1 is off (default: 1.0)")
    sampling.add_argument("--max_new_tokens", type=int, help="where an answer is cut (default: the task's)")
    sampling.add_argument("--seed", type=int, default=0, help="of samples and intervals (default: 0)")
    scoring = parser.add_argument_group("how to score")
    scoring.add_argument("--judge", type=Path, metavar="YAML", help="engine of the judge, for tasks that need one")
    scoring.add_argument(
        "--prompt",
        nargs="+",
        default=[],
        metavar="NAME=FILE",
        help="your own prompt for a task, or in the place of a packaged prompt or rubric",
    )
    scoring.add_argument(
        "--quirks",
        choices=("fixed", "published"),
        help="published: as the published scorers do, defects included (default: each task's own)",
    )
    scoring.add_argument(
        "--draws", type=int, default=1000, help="bootstrap draws behind the intervals; 0 for none (default: 1000)"
    )
    add_bridges(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARN")
    check_bridges(options)
    if options.via is not None:
        print(run_via(options))
        return 0
    from ..evaluate.summary import listing, write_summary
    from ..evaluate.tasks.task import load_task, names, select

    data = None if given_root(options.data) is None else data_root(options.data)
    if options.list:
        print(listing(select(options.task) if options.task else [load_task(name) for name in names()], data))
        return 0
    tasks, settings = _checked(options, data)
    if options.questions is not None:
        print(_write_questions(tasks, settings, options.questions))
        return 0
    with contextlib.redirect_stdout(sys.stderr):  # LLaMA-Factory logs to standard output
        outcome = _evaluate(options, tasks, settings)
    print(write_summary(outcome, settings))
    if options.export is not None:
        print("\n".join(map(str, export(options, settings.data, outcome.scored))))
    return 1 if outcome.not_run else 0


def _checked(options: argparse.Namespace, data: Path | None) -> tuple[list[Task], Settings]:
    """The tasks and how to run them.

    Raises:
        ValueError: flags are missing or do not go together.
    """
    from ..evaluate.benchmark import Settings, knows_quirks
    from ..evaluate.tasks.task import select

    if options.rescore and not options.task and options.out is not None:
        options.task = _done_before(options.out)
        if not options.task:
            raise ValueError(f"--rescore: {options.out} has no predictions of any task.")
    if not options.task:
        raise ValueError("--task says what to run: names, rule, judge or all; --list prints them.")
    data = data or data_root(None)
    if options.out is None and options.questions is None:
        raise ValueError("--out DIR says where to write.")
    if options.rescore and options.predictions is not None:
        raise ValueError("--rescore scores the predictions in --out; leave it out to score those of --predictions.")
    if options.limit is not None and options.limit < 1:
        raise ValueError(f"--limit {options.limit}: at least one question has to be left.")
    if options.draws < 0:
        raise ValueError(f"--draws {options.draws}: at least 0 is expected; with 0 there are no intervals.")
    tasks = select(options.task)
    if options.quirks is not None and not any(knows_quirks(task) for task in tasks):
        raise ValueError(
            f"--quirks {options.quirks} would do nothing: {', '.join(task.name for task in tasks)} has one way of "
            "scoring. Published readings that are profiles (`mmself data profiles`) go into a copy of the task's file."
        )
    prompts = prompt_files(options.prompt)
    _check_prompts(prompts, tasks)
    settings = Settings(
        data=data,
        out=options.out or options.questions.parent,
        seed=options.seed,
        temperature=options.temperature,
        top_p=options.top_p,
        max_new_tokens=options.max_new_tokens,
        limit=options.limit,
        quirks=options.quirks,
        draws=options.draws,
        prompts=prompts,
        command=" ".join(["mmself", *sys.argv[1:]]),
    )
    return tasks, settings


def _done_before(out: Path) -> list[str]:
    """The tasks that an output folder has predictions for."""
    from ..evaluate.predictions import PREDICTIONS
    from ..evaluate.tasks.task import names

    found = {path.parent.name for pattern in ("*", "turn*/*") for path in out.glob(f"{pattern}/{PREDICTIONS}")}
    return [name for name in names() if name in found]


def _check_prompts(prompts: dict[str, str], tasks: list[Task]) -> None:
    from ..prompts import FOLDER

    for name in prompts:
        if name not in {task.name for task in tasks} and not (FOLDER / f"{name}.txt").is_file():
            known = sorted({task.prompt for task in tasks} | {path.stem for path in FOLDER.glob("eval_*.txt")})
            raise ValueError(
                f"--prompt {name}=...: no task of this run and no prompt; prompts are {', '.join(known)}."
            )


def _evaluate(options: argparse.Namespace, tasks: list[Task], settings: Settings) -> Outcome:
    from ..evaluate.benchmark import evaluate
    from ..evaluate.original_llava import refuse_original_llava
    from ..generate.engines import LazyEngine
    from ..generate.jobs import SampleJob, run_job

    judge = None if options.judge is None else LazyEngine(engine_file(options.judge))
    with _closing(judge):
        if options.rescore or options.predictions is not None:
            return evaluate(tasks, settings, predictions=options.predictions, judge=judge, tell=_tell)
        options.adapter = _adapters(options.adapter)
        refuse_original_llava(options.model, options.adapter or ())
        config = engine_config(options)
        refuse_original_llava(config.model, config.adapter)
        engine = LazyEngine(config)
        shared = None if config.workers > 1 or config.ray else engine  # workers load engines of their own

        def run(job: SampleJob) -> Path:
            return run_job(job, config, engine=shared)

        settings = replace(
            settings, engine=config.identity() | {"model": config.model, "adapter": list(config.adapter)}
        )
        with _closing(engine):
            return evaluate(tasks, settings, run=run, judge=judge, release=engine.close, tell=_tell)


def _adapters(named: list[str] | None) -> list[str] | None:
    """The adapters of the command line; `none` is the base model, whatever --config says."""
    if named is not None and "none" in named:
        if len(named) > 1:
            raise ValueError("--adapter none is the base model; leave it out to use the other adapters.")
        return []
    return named


@contextlib.contextmanager
def _closing(engine: LazyEngine | None) -> Iterator[None]:
    try:
        yield
    finally:
        if engine is not None:
            engine.close()


def _write_questions(tasks: list[Task], settings: Settings, file: Path) -> str:
    """Writes a task's questions in the form that all other commands read."""
    from ..data.questions import write_questions
    from ..evaluate.benchmark import PICTURES
    from ..evaluate.tasks.task import question_of

    if len(tasks) != 1:
        raise ValueError(f"--questions writes one file for one task, not for {len(tasks)}.")
    questions = [question_of(item) for item in tasks[0].items(settings.data, settings.out / PICTURES, settings.limit)]
    write_questions(file, questions)
    return f"{file}: {len(questions):,} questions"


def _tell(text: str) -> None:
    print(f"mmself: {text}", file=sys.stderr)
