# SPDX-License-Identifier: Apache-2.0
"""From arguments to a trained model, for stage `ares_ppo`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...generate.encoding import PromptEncoder
from ...plugin import lf
from ...tree.actor_critic import ActorCriticScorer
from ...tree.batch import DenseCollator
from ...tree.unwrap import bare_model
from ..base import RunArguments
from ..collating import StageCollator
from ..forward import ChooseForward
from ..policy_sampling import PolicySampler
from ..responses import filler_ids
from ..workflow import check_reference, complete_checkpoint, feature_cache, load_reference, reference_maker
from .buffer import Sketches
from .collector import Collector
from .critic import attach_critic
from .loader import Shape
from .prompts import Asked, load_asked
from .rewards import Rewarder, make_source
from .sampling import FileSampler, QuestionSampler, sampling_params
from .trainer import AresPPOTrainer


if TYPE_CHECKING:
    from .stage import AresPPOStage

logger = lf.get_logger(__name__)


def run_ares_ppo(stage: AresPPOStage, run: RunArguments, callbacks: list[Any]) -> None:
    """Trains with rollouts, feedback and passes over them.

    Raises:
        DataError: for questions that cannot be asked.
        ValueError: for settings that cannot work.
    """
    args = run.stage
    modules = lf.load_tokenizer(run.model)
    tokenizer, processor = modules["tokenizer"], modules["processor"]
    template = lf.load_template(tokenizer, run.data)
    rows = lf.row_encoder(template, tokenizer, processor, run.data.cutoff_len)
    encoder = PromptEncoder(rows, tuple(sorted(template.get_stop_token_ids(tokenizer))))
    check_reference(stage, run)
    asked = load_asked(run, encoder)
    source = make_source(args)
    model = lf.load_model(tokenizer, run.model, run.finetuning, run.training.do_train)
    bare = bare_model(model)
    reference_model = load_reference(stage, run, model)
    if args.advantage == "gae":
        attach_critic(model, run.training.seed, adapter=args.critic == "adapter")
    dense = DenseCollator(lf.family(template, tokenizer, processor, bare), tokenizer.pad_token_id)
    collator = StageCollator(stage, run, None, dense)
    scorer = ActorCriticScorer(
        entropy_gradient=args.entropy_coef > 0,
        detach_critic=args.critic == "head",
        critic_apart=args.critic == "adapter",
        kept_layers=args.kept_layers,
    )
    shape = run_shape(run, len(asked))
    checkpoint = complete_checkpoint(run.training.resume_from_checkpoint, run.training.output_dir)
    sampler: FileSampler | QuestionSampler
    if args.rollout_samples is not None:
        sampler = FileSampler(Path(args.rollout_samples), args.rollout_n, rows.media_tokens)
    else:
        sampler = QuestionSampler(
            PolicySampler(encoder, dense, sampling_params(args), lambda: trainer.compute_loss_context_manager())
        )
    collector = Collector(run, asked, sampler, Rewarder(source, args, encoder.decode), scorer)
    run.training.num_train_epochs = 1  # the loader's one epoch holds all rounds
    run.training.ignore_data_skip = True  # a resumed run goes on from the checkpoint's own place
    trainer = AresPPOTrainer(
        collector=collector,
        shape=shape,
        stage=stage,
        run=run,
        scorer=scorer,
        reference=reference_maker(stage, run, model, scorer),
        reference_model=reference_model,
        feature_cache=feature_cache(run, bare),
        processor=processor,
        model=model,
        data_collator=collator,
        callbacks=callbacks,
        processing_class=tokenizer,
        train_dataset=_sketches(asked, run, tokenizer),
    )
    trainer.add_callback(ChooseForward(trainer, run, collator, scorer, [model, reference_model]))
    if checkpoint is not None:
        trainer.resume(checkpoint)
    _train(trainer, stage, run, checkpoint)
    lf.create_modelcard_and_push(trainer, run.model, run.data, run.training, run.finetuning)


def run_shape(run: RunArguments, questions: int) -> Shape:
    """How a run is cut up into rounds, passes and micro-batches."""
    args, training = run.stage, run.training
    wanted = args.rollout_prompts or questions
    shape = Shape(
        prompts=wanted,
        rounds=max(1, math.ceil(training.num_train_epochs * questions / wanted)),
        passes=run.finetuning.ppo_epochs,
        size=training.per_device_train_batch_size,
        ranks=training.world_size,
        accumulation=training.gradient_accumulation_steps,
    )
    if training.max_steps <= 0:
        return shape
    steps = shape.passes * shape.batches // shape.accumulation
    return replace(shape, rounds=math.ceil(training.max_steps / steps))


def _sketches(asked: Sequence[Asked], run: RunArguments, tokenizer: Any) -> Sketches:
    return Sketches(asked, run.stage.rollout_n, run.stage.rollout_max_new_tokens // 2, filler_ids(tokenizer))


def _train(trainer: AresPPOTrainer, stage: AresPPOStage, run: RunArguments, checkpoint: str | None) -> None:
    result = trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    metrics = {**result.metrics, **{f"last_{name}": value for name, value in trainer.buffer.figures.items()}}
    trainer.log_metrics("train", metrics)
    trainer.save_metrics("train", metrics)
    trainer.save_state()
    if trainer.is_world_process_zero() and run.finetuning.plot_loss:
        lf.plot_loss(run.training.output_dir, keys=["loss", *stage.plotted(run)])
