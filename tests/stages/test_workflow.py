# SPDX-License-Identifier: Apache-2.0
"""What all tree stages do at the end of a training."""

from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from llamafactory_mmself.stages import workflow


@pytest.mark.parametrize(
    ("evaluated", "names"),
    [(None, []), (["row"], ["eval_loss"]), ({"one": ["row"], "two": ["row"]}, ["eval_one_loss", "eval_two_loss"])],
)
def test_losses_that_are_plotted_are_those_that_are_logged(evaluated, names, monkeypatch):
    plot = Mock()
    monkeypatch.setattr(workflow.lf, "plot_loss", plot)
    stage = Mock(plotted=lambda run: ["losses/dpo"])
    training, finetuning = SimpleNamespace(output_dir="out"), SimpleNamespace(plot_loss=True)
    run = SimpleNamespace(training=training, finetuning=finetuning, stage=SimpleNamespace(eval_tasks=None))
    trainer = Mock(eval_dataset=evaluated)
    workflow.finish(trainer, stage, run, {"train_loss": 1.0})
    plot.assert_called_once_with("out", keys=["loss", "losses/dpo", *names])
    trainer.save_metrics.assert_called_once_with("train", {"train_loss": 1.0})
