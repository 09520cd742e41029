# SPDX-License-Identifier: Apache-2.0
"""Who takes the steps. Each contender trains as its users start it, and asks a gate before every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from naive import NaiveTrainer, Sample, Sequence_

from llamafactory_mmself.files import read_json

from .jobs import LEARNING_RATE, Job


#: What TRL 0.24 needs to train LLaVA with transformers 5.5: none of it changes what a step computes.
TRL_REPAIRS = (
    "`from trl import DPOTrainer` ends with `No module named 'mergekit'`: transformers' `_is_package_available` "
    "returns a pair, which TRL takes for true. Importing LLaMA-Factory first mends it.",
    "`DPOTrainer.__init__` writes to `model.warnings_issued`, which models of transformers 5 do not have: an empty "
    "dict is put there.",
    "With `remove_unused_columns` at its default, `pixel_values` is dropped and LLaVA trains on placeholders without "
    "a picture, silently: it is set to false.",
)


class Gate(Protocol):
    """Lets steps through one by one and times them."""

    def ready(self) -> None:
        """Model and optimizer are there; waits for the first step to be asked for."""

    def stepped(self) -> None:
        """A step is over; waits for the next one, if there is one."""

    def finished(self, losses: Sequence[float]) -> None:
        """All steps are over; these were their losses."""


def run(job: Job, gate: Gate) -> None:
    """Trains, step by step as the gate says."""
    runners: dict[str, Callable[[Job, Gate], None]] = {"naive": run_naive, "trl": run_trl}
    runners.get(job.contender, run_llamafactory)(job, gate)


def run_llamafactory(job: Job, gate: Gate) -> None:
    """LLaMA-Factory's entry function: its stock `dpo`, or a stage of ours."""
    from llamafactory.train.tuner import run_exp

    if job.setting.method == "group":
        from llamafactory_mmself.stages.workflow import run_tree_stage

        run_tree_stage(job.stage(), job.run_arguments(), [gate_callback(gate)])
    else:
        run_exp(job.arguments(), [gate_callback(gate)])


def run_naive(job: Job, gate: Gate) -> None:
    """The frozen baseline, on a model that LLaMA-Factory loads."""
    import torch

    from llamafactory_mmself.plugin import lf
    from llamafactory_mmself.stages.workflow import load_reference

    run, samples = job.run_arguments(), [as_sample(tree) for tree in job.trees()]
    modules = lf.load_tokenizer(run.model)
    lf.load_template(modules["tokenizer"], run.data)
    model = lf.load_model(modules["tokenizer"], run.model, run.finetuning, True)
    reference = load_reference(job.stage(), run, model)
    for part in (model, reference):
        if part is not None:
            part.to(job.device)
    autocast = torch.bfloat16 if run.training.bf16 else None
    trainer = NaiveTrainer(model, reference, modules["processor"], job.setting.method, LEARNING_RATE, autocast)
    fill_states(trainer.optimizer)
    gate.ready()
    losses = []
    for step in range(job.steps):
        losses.append(trainer.step(samples[step * job.setting.batch :][: job.setting.batch]))
        gate.stepped()
    gate.finished(losses)


def run_trl(job: Job, gate: Gate) -> None:
    """TRL's DPOTrainer on the same model and tokens, with the repairs of `TRL_REPAIRS`."""
    import llamafactory.train.tuner  # noqa: F401, makes `trl` importable
    from datasets import Dataset, Features, Image, Value
    from torch.utils.data import SequentialSampler
    from trl import DPOConfig, DPOTrainer

    from llamafactory_mmself.plugin import lf
    from llamafactory_mmself.tree.unwrap import bare_model

    class InOrder(DPOTrainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
            return SequentialSampler(range(len(rows)))

    run = job.run_arguments()
    modules = lf.load_tokenizer(run.model)
    processor = modules["processor"]
    rows = [
        {
            "prompt": _prompt_text(tree, processor),
            "chosen": row["chosen"]["value"],
            "rejected": row["rejected"]["value"],
            "images": row["images"],
        }
        for row, tree in zip(read_json(job.data / "rows.json"), job.trees(), strict=True)
    ]
    texts = {name: Value("string") for name in ("prompt", "chosen", "rejected")}
    model = lf.load_model(modules["tokenizer"], run.model, run.finetuning, True)
    bare_model(model).warnings_issued = {}
    config = DPOConfig(
        str(job.out),
        remove_unused_columns=False,
        max_length=None,
        max_prompt_length=None,
        per_device_train_batch_size=job.setting.batch,
        max_steps=job.steps,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        gradient_checkpointing=job.setting.checkpointing,
        bf16=run.training.bf16,
        use_cpu=job.device == "cpu",
        logging_steps=1,
        disable_tqdm=True,
        save_strategy="no",
        report_to="none",
        seed=0,
    )
    InOrder(
        model,
        args=config,
        train_dataset=Dataset.from_list(rows, features=Features({**texts, "images": [Image()]})),
        processing_class=processor,
        callbacks=[gate_callback(gate)],
    ).train()


def _prompt_text(tree: Any, processor: Any) -> str:
    """A prompt as text, with one placeholder where its picture stands: what a processor takes."""
    ids = [token for node in tree.path(tree.roles["cc"].leaf)[:-1] for token in node.ids]
    image = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    kept = [token for place, token in enumerate(ids) if token != image or ids[place - 1] != image]
    text: str = processor.tokenizer.decode(kept)
    return text


def as_sample(tree: Any) -> Sample:
    """A tree as the baseline takes it: each role a sequence of its own."""
    sequences = []
    for name, role in tree.roles.items():
        path = tree.path(role.leaf)
        ids = [token for node in path for token in node.ids]
        media = [medium for node in path for medium in node.media]
        pictures = [(medium.source, medium.view is not None) for medium in media]
        sequences.append(Sequence_(name, ids, role.scored, pictures))
    advantages = tree.side.get("advantages")
    return Sample(
        sequences,
        weight=float(tree.side.get("weight", 1.0)),
        advantages={} if advantages is None else dict(zip(tree.roles, advantages.tolist(), strict=True)),
    )


def gate_callback(gate: Gate) -> Any:
    """A callback of transformers' Trainer that puts a gate before each step."""
    from transformers import TrainerCallback

    class GateCallback(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            fill_states(kwargs["optimizer"])
            gate.ready()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            gate.stepped()

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            gate.finished([entry["loss"] for entry in state.log_history if "loss" in entry])

    return GateCallback()


def fill_states(optimizer: Any) -> None:
    """Gives AdamW the moments that it would make in its first step: they belong to the memory of the loaded model."""
    import torch

    for group in optimizer.param_groups:
        for weight in group["params"]:
            moments = {name: torch.zeros_like(weight).fill_(0.0) for name in ("exp_avg", "exp_avg_sq")}
            optimizer.state[weight] = {"step": torch.zeros((), device=weight.device), **moments}
