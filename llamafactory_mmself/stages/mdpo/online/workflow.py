# SPDX-License-Identifier: Apache-2.0
"""From arguments to a trained model, for online strategies."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....generate.negatives import NegativeMaker
from ....generate.service_config import load_services
from ....plugin import lf
from ....tree.packed import PackedScorer
from ...base import RunArguments, SettingError
from ...dataset import load_tree_dataset
from ...evaluation import add_eval_tasks
from ...forward import ChooseForward
from ...policy_sampling import PolicySampler
from ...ranks import from_first
from ...responses import filler_ids
from ...workflow import (
    check_reference,
    complete_checkpoint,
    evaluate,
    finish,
    load_parts,
    load_reference,
    load_texts,
    train,
    trainer_parts,
)
from .annotate import Annotator
from .buffer import ExperienceBuffer, Limits
from .clock import Clock, timed
from .engines import engine_of, make_rollouts
from .entries import Group, Outcome
from .journal import Journal
from .pipeline import Pipeline
from .prompts import OnlinePrompt, PromptOrder, load_prompts
from .published import IMAGES, PublishedFiles, claim
from .rows import RowMaker, Sketches
from .sampling import GroupSampler, sampling_params
from .supply import Plan, Supply, read_state
from .trainer import OnlineTrainer


if TYPE_CHECKING:
    from ..stage import MDPOStage


def run_online(stage: MDPOStage, run: RunArguments, callbacks: list[Any]) -> None:
    """Trains on what is sampled, judged and painted while training goes on.

    Raises:
        DataError, FileError: for prompts that cannot be used.
        ServiceDead: a service answers nothing any more; a checkpoint has been written.
        ValueError: for settings that cannot work.
    """
    _claim(run)
    texts = load_texts(stage, run)
    encoder = texts.encoder
    check_reference(stage, run)
    engine = engine_of(run)
    services = load_services(run.stage.services)
    prompts = load_prompts(run, encoder, stage.required_columns(run))
    evaluated = load_tree_dataset(stage, run, encoder) if run.data.eval_dataset else {}
    order = PromptOrder(prompts, None if run.stage.quirks == "published" else run.training.seed)
    parts = load_parts(stage, run, texts)
    reference_model = load_reference(stage, run, parts.model)
    rows = RowMaker(order, encoder, run.stage)
    scorer = PackedScorer(run.stage.kept_layers)
    plan = run_plan(run, len(prompts))
    params = sampling_params(run.stage)

    def make_supply(trainer: OnlineTrainer) -> Supply:
        sampler = PolicySampler(texts.prompts, parts.collator.dense, params, trainer.compute_loss_context_manager)
        sample = GroupSampler(
            rollouts=make_rollouts(engine, sampler, params, Path(run.training.output_dir)),
            model=lambda: trainer.model_wrapped,
            order=order,
            encoder=encoder,
            args=run.stage,
            seed=run.training.seed,
            rank=plan.rank,
            annotate=trainer.annotate,
        )
        return _supply(run, plan, order, services, sample, parts.checkpoint)

    run.training.num_train_epochs = 1  # the loader's one epoch holds all steps
    run.training.ignore_data_skip = True  # a resumed run goes on from the checkpoint's own place
    with services:
        trainer = OnlineTrainer(
            rows=rows,
            supply=make_supply,
            callbacks=callbacks,
            train_dataset=_sketches(prompts, rows, texts.tokenizer),
            **trainer_parts(stage, run, texts, parts, scorer, reference_model),
            **evaluated,
        )
        trainer.add_callback(ChooseForward(trainer, run, parts.collator, scorer, [parts.model, reference_model]))
        add_eval_tasks(trainer, run, texts.template, texts.tokenizer, texts.processor)
        metrics, figures = train(trainer, parts.checkpoint), trainer.supply.figures()
        experience = {name: value for name, value in figures.items() if name.startswith("experience/")}
        finish(trainer, stage, run, {**metrics, **experience})
        if run.training.do_eval:
            evaluate(trainer)
    lf.create_modelcard_and_push(trainer, run.model, run.data, run.training, run.finetuning)


def run_plan(run: RunArguments, prompts: int) -> Plan:
    """How a run is cut up: epochs * ceil(prompts / entries of a step) steps, unless `max_steps` says otherwise.

    Where entries are trained on several times, or groups come in parts, there are as many times more steps.
    """
    args, training = run.stage, run.training
    plan = Plan(
        size=args.exp_per_batch,
        ranks=training.world_size,
        rank=training.process_index,
        accumulation=training.gradient_accumulation_steps,
        steps=training.max_steps,
        positions=None,
        batch=args.rollout_batch_size,
        ahead=args.rollout_ahead,
        sync=args.rollout_sync,
        keep=args.experience_buffer,
    )
    if training.max_steps > 0:
        return plan
    epochs = training.num_train_epochs
    steps = math.ceil(epochs * math.ceil(prompts / plan.need)) * args.updates
    return replace(plan, steps=steps, positions=math.ceil(epochs * prompts))


def _folder(run: RunArguments) -> Path:
    """Where what was sampled is kept."""
    return Path(run.stage.online_data_save_dir or run.training.output_dir)


def _claim(run: RunArguments) -> None:
    """Sees that the folder of samples is this run's, before anything is loaded."""
    training = run.training
    if complete_checkpoint(training.resume_from_checkpoint, training.output_dir) is not None:
        return
    first = training.process_index == 0
    if problem := from_first(claim(_folder(run), Path(training.output_dir)) if first else ""):
        raise SettingError(problem)


def _supply(
    run: RunArguments,
    plan: Plan,
    order: PromptOrder,
    services: Any,
    sample: GroupSampler,
    checkpoint: str | None,
) -> Supply:
    args = run.stage
    folder = _folder(run)
    name = from_first(secrets.token_hex(8)) if checkpoint is None else read_state(Path(checkpoint))["run"]
    journal = Journal(folder, name, plan.rank)
    first = plan.rank == 0
    clock = Clock(plan.rank)
    watched = timed(services, clock)
    annotator = Annotator(
        order, watched.scorer, NegativeMaker(watched, run.training.seed), args, (folder / IMAGES).absolute()
    )

    def annotate(group: Group) -> Outcome:
        outcome = annotator(group)
        journal.finished(outcome)
        return outcome

    limits = Limits(
        size=max(args.experience_size, plan.need),
        replay=args.experience_replay,
        staleness=args.experience_staleness,
        half_life=args.experience_half_life,
        difficulty=args.experience_difficulty,
        seed=run.training.seed,
    )
    supply = Supply(
        plan=plan,
        order=order,
        sample=sample,
        pipeline=Pipeline(annotate, args.rollout_workers),
        buffer=ExperienceBuffer(limits),
        journal=journal,
        files=PublishedFiles(folder) if first else None,
        clock=clock,
        run=name,
    )
    if checkpoint is not None:
        supply.load(Path(checkpoint))
    return supply


def _sketches(prompts: Sequence[OnlinePrompt], rows: RowMaker, tokenizer: Any) -> Sketches:
    return Sketches(prompts, rows, filler_ids(tokenizer))
