# SPDX-License-Identifier: Apache-2.0
"""What is timed: methods, contenders, and the suites of settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args


MethodName = Literal["dpo", "ovip", "svco", "svco_single", "group", "sherlock"]
Contender = Literal["naive", "llamafactory", "trl", "dense", "packed", "auto"]
METHODS: tuple[MethodName, ...] = get_args(MethodName)
CONTENDERS: tuple[Contender, ...] = get_args(Contender)

#: Method -> the stage that trains it and what the stage is told. The group is a stage of the benchmark's own.
STAGES: dict[str, dict[str, Any]] = {
    "dpo": {"stage": "mdpo", "strategy": "dpo"},
    "ovip": {"stage": "mdpo", "strategy": "orm"},
    "svco": {"stage": "mdpo", "strategy": "svco-ref", "vtcl_mode": "sameBatch"},
    "svco_single": {"stage": "mdpo", "strategy": "svco-ref"},
    "group": {"stage": "mdpo", "strategy": "dpo"},
    "sherlock": {"stage": "sherlock_dpo", "weigh_dpo": True},  # as in the published code
}


@dataclass(frozen=True)
class Setting:
    """One row of the result.

    Attributes:
        method: what is trained.
        shape: the model, one of `shapes.SHAPES`.
        image: side of the square pictures in pixels; the CLIP tower of LLaVA scales them to its own size.
        question: tokens of the question, without picture and template.
        answer: tokens of each answer, end of turn included.
        batch: samples in a micro-batch.
        answers: answers to a prompt, for `group`.
        tuning: LoRA on all linear layers of the language model, or all of its weights; the tower is frozen.
        checkpointing: gradient checkpointing, LLaMA-Factory's default.
    """

    method: MethodName
    shape: str
    image: int = 448
    question: int = 64
    answer: int = 100
    batch: int = 1
    answers: int = 8
    tuning: Literal["lora", "full"] = "lora"
    checkpointing: bool = True

    @property
    def name(self) -> str:
        """A name for files and tables."""
        method = f"{self.method}{self.answers}" if self.method == "group" else self.method
        sizes = f"{self.image}px-q{self.question}-a{self.answer}-b{self.batch}"
        rest = ("" if self.tuning == "lora" else "-full") + ("" if self.checkpointing else "-kept")
        return f"{method}-{self.shape}-{sizes}{rest}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def tree_forwards() -> tuple[Contender, ...]:
    """The engines that this version has: `dense`, and all three where the stages have the argument."""
    from llamafactory_mmself.stages.base import TreeArguments

    named = any(field.name == "tree_forward" for field in fields(TreeArguments))
    return ("dense", "packed", "auto") if named else ("dense",)


def contenders_of(setting: Setting, wanted: Sequence[str]) -> list[Contender]:
    """Who takes part: stock trainers know plain DPO only, and TRL's knows LLaVA only."""
    known: list[Contender] = ["naive"]
    if setting.method == "dpo":
        known.append("llamafactory")
        if setting.shape.startswith("llava"):
            known.append("trl")
    return [name for name in (*known, *tree_forwards()) if name in wanted]


def bar(**changes: Any) -> list[Setting]:
    """The settings that the project's bar is about: 256 image tokens, 64-token question, 100-token answers."""
    base = replace(Setting("dpo", "qwen2-vl-56m"), **changes)
    return [replace(base, method=method) for method in METHODS]


def prompts(**changes: Any) -> list[Setting]:
    """Prompts of about 256 to 4,096 tokens, of which a picture takes 64."""
    base = replace(Setting("dpo", "qwen2-vl-9m", image=224), **changes)
    return [replace(base, method=method, question=tokens - 96) for method in METHODS for tokens in (256, 1024, 4096)]


def images(**changes: Any) -> list[Setting]:
    """Pictures of 224 to 1,024 pixels: 64 to 1,369 image tokens."""
    base = replace(Setting("dpo", "qwen2-vl-9m"), **changes)
    return [replace(base, method=method, image=side) for method in METHODS for side in (224, 448, 1024)]


def groups(**changes: Any) -> list[Setting]:
    """Groups of 2 to 32 answers."""
    base = replace(Setting("group", "qwen2-vl-9m"), **changes)
    return [replace(base, answers=answers) for answers in (2, 4, 8, 16, 32)]


def batches(**changes: Any) -> list[Setting]:
    """Micro-batches of 1 to 8 samples, for DPO and OViP."""
    base = replace(Setting("dpo", "qwen2-vl-9m"), **changes)
    return [replace(base, method=method, batch=batch) for method in METHODS[:2] for batch in (1, 2, 4, 8)]


def llava(**changes: Any) -> list[Setting]:
    """Plain DPO on LLaVA, where TRL's trainer can be compared with."""
    return [replace(Setting("dpo", "llava-63m"), **changes)]


def quick(**changes: Any) -> list[Setting]:
    """Two settings on the tiny model that only show that everything runs."""
    base = replace(Setting("dpo", "qwen2-vl-tiny", image=112, question=16, answer=12, answers=4), **changes)
    return [base, replace(base, method="group")]


SUITES: dict[str, Callable[..., list[Setting]]] = {
    "bar": bar,
    "prompts": prompts,
    "images": images,
    "groups": groups,
    "batches": batches,
    "llava": llava,
    "quick": quick,
}
