# SPDX-License-Identifier: Apache-2.0
"""Curves of a loss's terms: written by trainings that LlamaBoard starts, drawn by LlamaBoard."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from ...board.terms import TERMS_LOG, append_terms, read_log, terms_figure
from ...stages.base import RunArguments


_BY_KIND = "loss_"  # begins the losses of a supervised stage's kinds of rows


def terms_callback(stage: Any, run: RunArguments) -> Any:
    """A callback of the trainer that writes a stage's metrics beside LlamaBoard's log."""
    from transformers import TrainerCallback

    plotted = frozenset(stage.plotted(run)) if hasattr(stage, "plotted") else frozenset()

    def chosen(name: str) -> bool:
        return name in plotted or name.startswith(_BY_KIND)

    class TermsCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
        """Writes the log on the first rank only."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """A training from its first step on replaces what another one wrote."""
            if args.should_save and state.global_step == 0:
                (Path(args.output_dir) / TERMS_LOG).unlink(missing_ok=True)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            """Adds a line."""
            if args.should_save and logs:
                append_terms(Path(args.output_dir), state.global_step, logs, chosen)

    return TermsCallback()


def with_terms(
    original: Callable[..., Any], smooth: Callable[[list[float]], list[float]], plot: Any
) -> Callable[..., Any]:
    """LlamaBoard's `get_trainer_info` that draws the terms of the loss as well, where a training has written any.

    Args:
        original: LlamaBoard's own.
        smooth: LLaMA-Factory's smoothing.
        plot: Gradio's component for figures.
    """

    @wraps(original)
    def get_trainer_info(lang: str, output_path: Any, do_train: bool) -> Any:
        log, progress, info = original(lang, output_path, do_train)
        if do_train and "loss_viewer" in info:
            terms = read_log(Path(output_path) / TERMS_LOG)
            if terms:
                losses = read_log(Path(output_path) / "trainer_log.jsonl")
                info["loss_viewer"] = plot(terms_figure(losses, terms, smooth))
        return log, progress, info

    return get_trainer_info
