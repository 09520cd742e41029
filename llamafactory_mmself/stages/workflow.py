# SPDX-License-Identifier: Apache-2.0
"""From arguments to a trained model, for every tree stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import nn
from transformers.integrations import is_deepspeed_zero3_enabled, is_fsdp_enabled
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..data.encode import RowEncoder
from ..generate.encoding import PromptEncoder
from ..plugin import lf
from ..tree.batch import DenseCollator
from ..tree.features import FeatureCache, frozen_tower, tower
from ..tree.packed import PackedScorer
from ..tree.reference import AdapterOff, FrozenModel, Policy, Reference
from ..tree.scores import Scorer
from ..tree.unwrap import bare_model
from ..tree.vision import CROSS
from .base import RunArguments, SettingError, TreeStage
from .collating import StageCollator
from .dataset import load_tree_dataset
from .encoding import encoding_fingerprint
from .evaluation import add_eval_tasks, plotted_tasks
from .forward import ChooseForward
from .reference_cache import ReferenceCache, cache_root
from .reference_key import reference_key
from .trainer import TreeTrainer


logger = lf.get_logger(__name__)


class WrongReferenceError(ValueError):
    """A reference that would not be the model that training starts from."""


def complete_checkpoint(chosen: str | None, output_dir: str) -> str | None:
    """The checkpoint to resume from: the chosen one, or an earlier one if a kill left that one half written.

    Args:
        chosen: what LLaMA-Factory found or the user named.
        output_dir: only checkpoints in here are passed over.
    """
    if chosen is None or Path(chosen, TRAINER_STATE_NAME).exists() or Path(chosen).parent != Path(output_dir):
        return chosen
    folders = Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    complete = [folder for folder in folders if (folder / TRAINER_STATE_NAME).exists()]
    newest = max(complete, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)
    logger.warning_rank0(f"{chosen} was not written to its end; resuming from {newest or 'the beginning'} instead.")
    return None if newest is None else str(newest)


def run_tree_stage(stage: TreeStage, run: RunArguments, callbacks: list[Any]) -> None:
    """Trains and evaluates a tree stage.

    Raises:
        DataError: for rows that cannot be trained on.
        ValueError: for settings that cannot work.
    """
    texts = load_texts(stage, run)
    check_reference(stage, run)
    datasets = load_tree_dataset(stage, run, texts.encoder)
    parts = load_parts(stage, run, texts)
    cache = None
    if run.stage.ref_logps == "cache":
        key = reference_key(run, encoding_fingerprint(stage, run, texts.encoder), parts.model, cache_root(run))
        cache = ReferenceCache(run, key, _splits(datasets), parts.collator.tree)
        check_start(cache, run, parts.model, parts.checkpoint)
    reference_model = load_reference(stage, run, parts.model, cache)

    scorer = PackedScorer(kept_layers(run))
    trainer = TreeTrainer(
        reference_cache=cache,
        callbacks=callbacks,
        **trainer_parts(stage, run, texts, parts, scorer, reference_model),
        **datasets,
    )
    forward = ChooseForward(trainer, run, parts.collator, scorer, [parts.model, reference_model])
    trainer.add_callback(forward)
    add_eval_tasks(trainer, run, texts.template, texts.tokenizer, texts.processor)
    if run.training.do_train:
        metrics = train(trainer, parts.checkpoint)
        if run.finetuning.include_effective_tokens_per_second:
            tokens = effective_tokens(stage, run, datasets["train_dataset"])
            seconds = metrics["train_runtime"] * run.training.world_size
            metrics["effective_tokens_per_sec"] = tokens * metrics["epoch"] / seconds
        finish(trainer, stage, run, metrics)
    if run.training.do_eval:
        forward.choose(trainer.eval_dataset)
        evaluate(trainer)
    lf.create_modelcard_and_push(trainer, run.model, run.data, run.training, run.finetuning)


@dataclass(frozen=True)
class Texts:
    """What a run encodes rows and prompts with.

    Attributes:
        tokenizer: of the model.
        processor: of the model; None for text models.
        template: chat template.
        encoder: the stage's encoder of rows.
        prompts: the same for prompts that are sampled for.
    """

    tokenizer: Any
    processor: Any
    template: Any
    encoder: RowEncoder
    prompts: PromptEncoder


def load_texts(stage: TreeStage, run: RunArguments) -> Texts:
    """Loads tokenizer, processor and template."""
    modules = lf.load_tokenizer(run.model)
    tokenizer, processor = modules["tokenizer"], modules["processor"]
    template = lf.load_template(tokenizer, run.data)
    encoder = stage.row_encoder(lf.row_encoder(template, tokenizer, processor, run.data.cutoff_len), run)
    stops = tuple(sorted(template.get_stop_token_ids(tokenizer)))
    return Texts(tokenizer, processor, template, encoder, PromptEncoder(encoder, stops))


@dataclass(frozen=True)
class Parts:
    """The policy, and what goes with it into every trainer.

    Attributes:
        model: the policy.
        collator: rows of the stage -> a batch.
        checkpoint: to resume from, or None.
    """

    model: Any
    collator: StageCollator
    checkpoint: str | None


def load_parts(stage: TreeStage, run: RunArguments, texts: Texts) -> Parts:
    """Loads the policy."""
    model = lf.load_model(texts.tokenizer, run.model, run.finetuning, run.training.do_train)
    family = lf.family(texts.template, texts.tokenizer, texts.processor, bare_model(model))
    dense = DenseCollator(family, texts.tokenizer.pad_token_id)
    return Parts(
        model=model,
        collator=StageCollator(stage, run, lf.rejected_crop(texts.template.mm_plugin), dense),
        checkpoint=complete_checkpoint(run.training.resume_from_checkpoint, run.training.output_dir),
    )


def trainer_parts(
    stage: TreeStage,
    run: RunArguments,
    texts: Texts,
    parts: Parts,
    scorer: Scorer,
    reference_model: nn.Module | None,
) -> dict[str, Any]:
    """What every trainer of a tree stage is made of."""
    return {
        "stage": stage,
        "run": run,
        "scorer": scorer,
        "reference": reference_maker(stage, run, parts.model, scorer),
        "reference_model": reference_model,
        "feature_cache": feature_cache(run, bare_model(parts.model)),
        "processor": texts.processor,
        "model": parts.model,
        "data_collator": parts.collator,
        "processing_class": texts.tokenizer,
    }


def kept_layers(run: RunArguments) -> int | None:
    """What the run's scorer is told; see `DenseScorer`.

    By default a scorer decides by the tokens of its batch. Where layers are gathered from all ranks when they are
    computed, ranks have to compute the same ones, whatever their batches: one layer is kept then.
    """
    sharded = is_deepspeed_zero3_enabled() or run.training.fsdp or is_fsdp_enabled()
    if run.stage.kept_layers is None and sharded:
        return 1
    count: int | None = run.stage.kept_layers
    return count


def check_reference(stage: TreeStage, run: RunArguments) -> None:
    """Refuses what would make policy and reference differ before the first step.

    That is noise on the embeddings, and a continued adapter: with the adapter off, the reference would be the raw
    base, not this run's start.

    Raises:
        WrongReferenceError: with the two ways out.
    """
    if stage.needs_reference(run) and run.training.neftune_noise_alpha:
        raise WrongReferenceError("neftune_noise_alpha would blur policy and reference differently: remove it.")
    adapters = run.model.adapter_name_or_path
    if not (stage.needs_reference(run) and run.training.do_train and adapters) or run.finetuning.ref_model:
        return
    if run.finetuning.create_new_adapter and (reason := _not_mergeable(run)) is None:
        return
    reason = f"`create_new_adapter` does not take effect here: {reason}. " if run.finetuning.create_new_adapter else ""
    raise WrongReferenceError(
        f"Training would continue adapter {adapters[-1]} while its reference is the model without that adapter, so "
        f"policy and reference would differ before the first step. {reason}Set `create_new_adapter: true` (the old "
        "adapter is merged, a new one starts), or merge it with `llamafactory-cli export` first, or name the "
        "reference with `ref_model` and `ref_model_adapters`."
    )


def _not_mergeable(run: RunArguments) -> str | None:
    """Why LLaMA-Factory would continue the last adapter although a new one was asked for."""
    if run.model.quantization_bit is not None:
        return "the model is quantised, and adapters are not merged into quantised models"
    if is_deepspeed_zero3_enabled():
        return "adapters are not merged under DeepSpeed ZeRO-3"
    if run.model.use_unsloth:
        return "adapters are not merged with unsloth"
    if run.model.use_kt:
        return "adapters are not merged with KTransformers"
    return None


def _splits(datasets: dict[str, Any]) -> dict[str, Any]:
    """Training and evaluation rows by name."""
    evaluated = datasets.get("eval_dataset", {})
    return {"train": datasets["train_dataset"]} | (
        evaluated if isinstance(evaluated, dict) else {"validation": evaluated}
    )


def feature_cache(run: RunArguments, model: nn.Module) -> FeatureCache | None:
    """The cache for features of pictures that the user asked for.

    Raises:
        SettingError: if it would do nothing with this model.
    """
    if not run.stage.vision_cache_mb:
        return None
    reason = None
    if not tower(model):
        reason = "this model has no vision tower that the tree stages know"
    elif model.config.model_type in CROSS:
        reason = "what its tower says about one picture takes up to 100 MB, too much to keep"
    elif not frozen_tower(model):
        reason = "the vision tower or the projector trains or carries adapters"
    elif is_deepspeed_zero3_enabled() or run.training.fsdp or is_fsdp_enabled():
        reason = "the vision tower is sharded, and ranks that find their pictures would leave the others waiting"
    if reason is not None:
        raise SettingError(f"`vision_cache_mb` would do nothing here: {reason}. Remove it.")
    return FeatureCache(run.stage.vision_cache_mb * 2**20)


def check_start(cache: ReferenceCache, run: RunArguments, model: nn.Module, checkpoint: str | None) -> None:
    """Refuses to take a policy that has trained for its own start.

    Raises:
        WrongReferenceError: with the ways out.
    """
    if checkpoint is not None and cache.lacking and _own_start(run, model):
        raise WrongReferenceError(
            f"{checkpoint} has trained already, and {cache.lacking} reference log-probs are not in "
            f"{cache.store.folder}: they can no longer be computed with the policy itself. Start from the beginning "
            "(`overwrite_output_dir: true`), resume with the rows, settings and cache of the first start, or set "
            "`ref_logps: live`."
        )


def _own_start(run: RunArguments, model: nn.Module) -> bool:
    """Whether the reference is the policy as it is loaded, all of its weights about to change."""
    return run.finetuning.ref_model is None and not isinstance(model, PeftModel)


def load_reference(
    stage: TreeStage, run: RunArguments, model: nn.Module, cache: ReferenceCache | None = None
) -> nn.Module | None:
    """The second model that serves as reference, or None where the policy itself can, or a cache does."""
    if not stage.needs_reference(run):
        return None
    if cache is not None and (not cache.lacking or _own_start(run, model)):
        return None
    if run.finetuning.ref_model is not None:
        return lf.create_ref_model(run.model, run.finetuning)
    if run.training.do_train:
        return None if isinstance(model, PeftModel) else lf.create_ref_model(run.model, run.finetuning)
    if run.model.adapter_name_or_path is None:
        logger.warning_rank0(
            "Evaluation without `ref_model` or an adapter: the model is its own reference, so every margin is 0."
        )
        return model
    if isinstance(model, PeftModel):  # quantised models keep their adapter apart
        return None
    *earlier, last = run.model.adapter_name_or_path
    logger.info_rank0(f"The reference of this evaluation is the model without adapter {last}.")
    without = {"ref_model": run.model.model_name_or_path, "ref_model_adapters": ",".join(earlier) or None}
    return lf.create_ref_model(run.model, replace_finetuning(run.finetuning, **without))


def replace_finetuning(finetuning: Any, **changes: Any) -> Any:
    """A copy of finetuning arguments with some values changed, without parsing them again."""
    import copy

    changed = copy.copy(finetuning)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def reference_maker(
    stage: TreeStage, run: RunArguments, model: nn.Module, scorer: Scorer
) -> Callable[[nn.Module | None], Reference | None]:
    """How a trainer makes its reference, once the second model, if there is one, is on its device."""

    def make(reference_model: nn.Module | None) -> Reference | None:
        if not stage.needs_reference(run):
            return None
        if reference_model is not None:
            return FrozenModel(scorer, reference_model)
        return AdapterOff(scorer) if isinstance(model, PeftModel) else Policy(scorer)

    return make


def effective_tokens(stage: TreeStage, run: RunArguments, rows: Iterable[dict[str, Any]]) -> int:
    """Tokens of all sequences that the rows' roles score, contexts included."""
    total = 0
    for row in rows:
        tree = stage.tree(row, run, None)
        total += sum(len(node.ids) for leaf in tree.leaves for node in tree.path(leaf))
    return total


def train(trainer: TreeTrainer, checkpoint: str | None) -> dict[str, float]:
    """Trains and saves the model; returns the trainer's figures."""
    result = trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    metrics: dict[str, float] = result.metrics
    return metrics


def finish(trainer: TreeTrainer, stage: TreeStage, run: RunArguments, metrics: dict[str, float]) -> None:
    """The end of a training: figures, state and plots.

    Args:
        trainer: has trained.
        stage: of the run.
        run: its arguments.
        metrics: figures of the training.
    """
    trainer.log_metrics("train", metrics)
    trainer.save_metrics("train", metrics)
    trainer.save_state()
    if trainer.is_world_process_zero() and run.finetuning.plot_loss:
        keys = ["loss", *stage.plotted(run), *_evaluation_losses(trainer.eval_dataset), *plotted_tasks(run)]
        lf.plot_loss(run.training.output_dir, keys=keys)


def _evaluation_losses(dataset: Any) -> list[str]:
    if dataset is None:
        return []
    return [f"eval_{name}_loss" for name in dataset] if isinstance(dataset, dict) else ["eval_loss"]


def evaluate(trainer: TreeTrainer) -> None:
    """Evaluates at the end of a run."""
    metrics = trainer.evaluate(metric_key_prefix="eval")
    trainer.log_metrics("eval", metrics)
    trainer.save_metrics("eval", metrics)
