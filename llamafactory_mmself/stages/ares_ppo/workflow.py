# SPDX-License-Identifier: Apache-2.0
"""From arguments to a trained model, for stage `ares_ppo`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...plugin import lf
from ...tree.actor_critic import ActorCriticScorer
from ..base import RunArguments
from ..forward import ChooseForward
from ..policy_sampling import PolicySampler
from ..responses import filler_ids
from ..workflow import check_reference, finish, load_parts, load_reference, load_texts, train, trainer_parts
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
    texts = load_texts(stage, run)
    check_reference(stage, run)
    asked = load_asked(run, texts.prompts)
    source = make_source(args, Path(run.training.output_dir))
    parts = load_parts(stage, run, texts)
    reference_model = load_reference(stage, run, parts.model)
    if args.advantage == "gae":
        attach_critic(parts.model, run.training.seed, adapter=args.critic == "adapter")
    scorer = ActorCriticScorer(
        entropy_gradient=args.entropy_coef > 0,
        detach_critic=args.critic == "head",
        critic_apart=args.critic == "adapter",
        kept_layers=args.kept_layers,
    )
    sampler: FileSampler | QuestionSampler
    if args.rollout_samples is not None:
        sampler = FileSampler(Path(args.rollout_samples), args.rollout_n, texts.encoder.media_tokens)
    else:
        dense, params = parts.collator.dense, sampling_params(args)
        sampler = QuestionSampler(
            PolicySampler(texts.prompts, dense, params, lambda: trainer.compute_loss_context_manager())
        )
    shape = run_shape(run, len(asked))
    run.training.num_train_epochs = 1  # the loader's one epoch holds all rounds
    run.training.ignore_data_skip = True  # a resumed run goes on from the checkpoint's own place
    trainer = AresPPOTrainer(
        collector=Collector(run, asked, sampler, Rewarder(source, args, texts.prompts.decode), scorer),
        shape=shape,
        callbacks=callbacks,
        train_dataset=_sketches(asked, run, texts.tokenizer),
        **trainer_parts(stage, run, texts, parts, scorer, reference_model),
    )
    trainer.add_callback(ChooseForward(trainer, run, parts.collator, scorer, [parts.model, reference_model]))
    if parts.checkpoint is not None:
        trainer.resume(parts.checkpoint)
    metrics = train(trainer, parts.checkpoint)
    last = {f"last_{name}": value for name, value in trainer.buffer.figures.items()}
    finish(trainer, stage, run, {**metrics, **last})
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
