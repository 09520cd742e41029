# SPDX-License-Identifier: Apache-2.0
"""`eval_tasks` of a run. Evaluation lies above the stages: only runs that ask for it import it."""

from __future__ import annotations

from typing import Any

from .base import RunArguments


def add_eval_tasks(trainer: Any, run: RunArguments, template: Any, tokenizer: Any, processor: Any) -> None:
    """Adds the callback that evaluates tasks during training, if the run asks for any; see `evaluate.during`.

    Raises:
        SettingError: a task is not there, its data is lacking, or it needs what there is not.
    """
    if run.stage.eval_tasks and run.training.do_train:
        from ..evaluate import during

        during.add_eval_tasks(trainer, run, template, tokenizer, processor)


def plotted_tasks(run: RunArguments) -> list[str]:
    """Names in the log of the figures of tasks that `plot_loss` draws."""
    if not run.stage.eval_tasks:
        return []
    from ..evaluate import during

    return during.plotted(run)
