# SPDX-License-Identifier: Apache-2.0
"""One contender's run on one setting, and what LLaMA-Factory and the stages make of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .settings import STAGES, Contender, Setting, tree_forwards
from .shapes import MAX_LENGTH, SHAPES, template_of


LEARNING_RATE = 1e-3
MAX_PIXELS = 1064 * 1064


@dataclass(frozen=True)
class Job:
    """A contender's run on the rows of a setting.

    Attributes:
        contender: who takes the steps.
        setting: on what.
        steps: how many, the ones to warm up included.
        model: folder of the checkpoint.
        data: folder of the rows.
        out: folder for what a trainer writes.
        device: `cpu` or `cuda`.
    """

    contender: Contender
    setting: Setting
    steps: int
    model: Path
    data: Path
    out: Path
    device: str

    def arguments(self) -> dict[str, Any]:
        """LLaMA-Factory's arguments; what is not named here has its default."""
        setting = self.setting
        arguments: dict[str, Any] = {
            "model_name_or_path": str(self.model),
            "template": template_of(setting.shape),
            "do_train": True,
            "finetuning_type": setting.tuning,
            "dataset": "rows",
            "dataset_dir": str(self.data),
            "output_dir": str(self.out),
            "cutoff_len": MAX_LENGTH,
            "image_max_pixels": MAX_PIXELS,
            "disable_gradient_checkpointing": not setting.checkpointing,
            "disable_shuffling": True,
            "per_device_train_batch_size": setting.batch,
            "max_steps": self.steps,
            "learning_rate": LEARNING_RATE,
            "lr_scheduler_type": "constant",
            "bf16": SHAPES[setting.shape].dtype == "bfloat16",
            "use_cpu": self.device == "cpu",
            "logging_steps": 1,
            "disable_tqdm": True,
            "save_strategy": "no",
            "report_to": "none",
            "seed": 0,
        }
        if self.contender == "llamafactory":
            return {**arguments, "stage": "dpo"}
        arguments |= STAGES[setting.method]
        if self.contender in tree_forwards() and len(tree_forwards()) > 1:
            arguments["tree_forward"] = self.contender
        return arguments

    def run_arguments(self) -> Any:
        """The same, parsed for a tree stage."""
        from llamafactory_mmself.plugin import lf
        from llamafactory_mmself.stages.base import RunArguments

        model, data, training, finetuning, *_ = lf.get_train_args(self.arguments())
        return RunArguments(model, data, training, finetuning, finetuning.stage_args)

    def stage(self) -> Any:
        """The stage that trains the method."""
        from llamafactory_mmself.plugin.registry import load_stage

        from .group import GroupStage

        return GroupStage() if self.setting.method == "group" else load_stage(STAGES[self.setting.method]["stage"])

    def trees(self) -> list[Any]:
        """The trees of all rows, in the order in which they are trained on."""
        from llamafactory_mmself.plugin import lf
        from llamafactory_mmself.stages.dataset import load_tree_dataset

        stage, run = self.stage(), self.run_arguments()
        modules = lf.load_tokenizer(run.model)
        tokenizer, processor = modules["tokenizer"], modules["processor"]
        template = lf.load_template(tokenizer, run.data)
        encoder = stage.row_encoder(lf.row_encoder(template, tokenizer, processor, run.data.cutoff_len), run)
        rows = load_tree_dataset(stage, run, encoder)["train_dataset"]
        return [stage.tree(segments, run, None) for segments in rows]
