# SPDX-License-Identifier: Apache-2.0
"""LLaMA-Factory's workflow of stage `sft`, with this stage's rows, collator and trainer in it."""

from __future__ import annotations

from typing import Any

from ...plugin import lf
from ...tree.unwrap import bare_model
from ..base import RunArguments, SettingError
from ..evaluation import add_eval_tasks, plotted_tasks
from ..workflow import complete_checkpoint
from .collator import KindCollator
from .pairs import groups_of
from .projector import check_projector, save_projector_with_adapter
from .rows import Kinds, load_rows
from .settings import table_of_weights
from .trainer import Extras, ReflectionTrainer


def run_reflection_sft(run: RunArguments, callbacks: list[Any]) -> None:
    """Trains, evaluates and predicts.

    Raises:
        SettingError: for settings that cannot work with this model or these rows.
        DataError: for a wrong entry in dataset_info.json.
    """
    training = run.training
    training.resume_from_checkpoint = complete_checkpoint(training.resume_from_checkpoint, training.output_dir)
    save_projector_with_adapter(run)
    parts = _Parts(run)
    lf.run_sft_with(
        run,
        callbacks,
        get_dataset=parts.get_dataset,
        load_model=parts.load_model,
        SFTDataCollatorWith4DAttentionMask=KindCollator,
        CustomSeq2SeqTrainer=parts.make_trainer,
        plot_loss=parts.plot_loss,
    )


class _Parts:
    """This stage's parts of the workflow, in the order in which it calls them."""

    def __init__(self, run: RunArguments) -> None:
        self._run = run
        self._kinds: Kinds
        self._weights: tuple[float, ...] | None = None
        self._groups: list[list[int]] | None = None
        self._template: Any = None

    def get_dataset(self, template: Any, *args: Any, stage: str, **modules: Any) -> dict[str, Any]:
        """In the place of LLaMA-Factory's `get_dataset`."""
        self._template = template
        datasets, self._kinds = load_rows(self._run, template, modules)
        table = table_of_weights(self._run.stage.kind_weights, self._kinds.names, set(self._kinds.present))
        of_rows = {
            weight for name, weight in zip(self._kinds.names, table, strict=True) if name in self._kinds.present
        }
        self._weights = tuple(table) if len(of_rows) > 1 else None
        if self._run.stage.keep_pairs and "train_dataset" in datasets:
            self._groups = _groups(datasets["train_dataset"])
        return datasets

    def load_model(self, tokenizer: Any, model_args: Any, finetuning_args: Any, is_trainable: bool) -> Any:
        """In the place of LLaMA-Factory's `load_model`."""
        model = lf.load_model(tokenizer, model_args, finetuning_args, is_trainable)
        check_projector(model, self._run)
        if self._run.stage.attn == "xformers":
            from .attention import use_xformers

            use_xformers(bare_model(model))
        return model

    def make_trainer(self, **kwargs: Any) -> ReflectionTrainer:
        """In the place of LLaMA-Factory's trainer."""
        extras = Extras(self._run, self._kinds.names, self._weights, self._groups)
        trainer = ReflectionTrainer(extras=extras, **kwargs)
        add_eval_tasks(trainer, self._run, self._template, kwargs["tokenizer"], kwargs["processor"])
        return trainer

    def plot_loss(self, folder: str, keys: list[str]) -> None:
        """In the place of LLaMA-Factory's `plot_loss`: the losses by kind as well."""
        kinds = sorted(self._kinds.present) if self._kinds.told_apart else []
        by_kind = [f"{key}_{kind}" for key in keys if key.endswith("loss") for kind in kinds]
        lf.plot_loss(folder, keys=[*keys, *by_kind, *plotted_tasks(self._run)])


def _groups(rows: Any) -> list[list[int]]:
    pairs = list(rows["pair"]) if "pair" in rows.column_names else []
    if not any(pairs):
        raise SettingError(
            "keep_pairs is set and no row has a pair: name its column under `columns` in dataset_info.json "
            '("pair": "<key in your rows>"), and tokenise a `tokenized_path` again.'
        )
    return groups_of(pairs)
