# SPDX-License-Identifier: Apache-2.0
"""What a stage is. Importing this module needs neither torch nor transformers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..generate.config import shared_arguments


if TYPE_CHECKING:
    from torch import Tensor

    from ..data.encode import RowEncoder, Segments
    from ..data.faults import Fault
    from ..data.rows import PreferenceRow
    from ..data.schema import DatasetSchema
    from ..losses.types import LossOutput
    from ..tree.sample import SampleTree
    from ..tree.scores import ScoreTable


class SettingError(ValueError):
    """Settings that cannot work together, with the reason."""


@dataclass(frozen=True)
class RunArguments:
    """Everything a run was started with: LLaMA-Factory's dataclasses and the stage's own.

    `generating` is there when a stage of base `sft` runs, and nowhere else.
    """

    model: Any
    data: Any
    training: Any
    finetuning: Any
    stage: Any
    generating: Any = None

    def shared(self) -> dict[str, Any]:
        """LLaMA-Factory's arguments of this run that an engine has to share, as far as they are set."""
        found = shared_arguments({**vars(self.data), **vars(self.model)})
        return {name: ",".join(value) if isinstance(value, list) else value for name, value in found.items()}


def check_eval_tasks(run: RunArguments, given: frozenset[str]) -> None:
    """Refuses settings of `eval_tasks` that cannot work, for every stage; tasks and data are looked at later.

    Raises:
        SettingError: naming the setting and the way out.
    """
    args = run.stage
    if not args.eval_tasks:
        if alone := sorted(name for name in given if name.startswith("eval_tasks_")):
            raise SettingError(f"{', '.join(alone)} would do nothing without `eval_tasks`. Set both, or neither.")
        return
    for name in ("eval_tasks_every", "eval_tasks_limit"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise SettingError(f"{name} is a number from 1 on; it is {value}.")
    if not run.training.do_train:
        raise SettingError("`eval_tasks` is for training; to evaluate a model alone, use `mmself eval`.")
    from transformers.integrations import is_deepspeed_zero3_enabled, is_fsdp_enabled

    reasons = {
        "DeepSpeed ZeRO-3": is_deepspeed_zero3_enabled(),
        "FSDP": bool(run.training.fsdp) or is_fsdp_enabled(),
    }
    for name, used in reasons.items():
        if used:
            raise SettingError(
                f"`eval_tasks` samples from the model in training, and with {name} no rank has all of its weights. "
                "Train without it (ZeRO-2 does), or run `mmself eval` on the checkpoints."
            )
    for name in ("use_unsloth", "use_kt"):
        if getattr(run.model, name):
            raise SettingError(
                f"`eval_tasks` samples with the model's own forward, which `{name}` replaces. Remove one of the two, "
                "or run `mmself eval` on the checkpoints."
            )


@dataclass(frozen=True)
class FormHints:
    """What a form that starts a stage needs to know beside its arguments.

    Attributes:
        title: of the stage, for people; LlamaBoard has room for some 15 letters.
        rows: what its data sets hold: `pairs` of answers, `examples` with one, or `questions` with an id.
        unlisted: arguments that a form leaves out: they do nothing, or nothing yet.
        suggestions: argument -> values that a free text usually has.
        shared: LLaMA-Factory's own preference arguments that the stage reads, such as `pref_beta`.
    """

    title: str
    rows: Literal["pairs", "examples", "questions"]
    unlisted: frozenset[str] = frozenset()
    suggestions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shared: tuple[str, ...] = ()


#: LLaMA-Factory keys that no tree stage looks at.
TREE_INERT_KEYS = frozenset(
    {
        # data
        *("packing", "neat_packing", "train_on_prompt", "mask_history", "eval_num_beams"),
        "ignore_pad_token_for_loss",
        # training
        *("predict_with_generate", "do_predict", "sortish_sampler", "generation_max_length", "generation_num_beams"),
        "lora_dropout",  # dropout is off: policy and reference have to agree
        *("label_smoothing_factor", "train_sampling_strategy", "length_column_name"),
        # losses of other stages
        *("pref_bco_weight", "ld_alpha", "kto_chosen_weight", "kto_rejected_weight", "ppo_buffer_size", "ppo_epochs"),
        *("ppo_score_norm", "ppo_target", "ppo_whiten_rewards", "reward_model", "reward_model_adapters"),
        *("reward_model_quantization_bit", "reward_model_type", "compute_accuracy", "use_dft_loss"),
        *("use_asft_loss", "asft_alpha", "use_eaft_loss", "eaft_alpha"),
        # other back ends
        *("use_mca", "use_hyper_parallel", "hyper_parallel_args"),
        # sampling: stages that sample have rollout_* arguments of their own
        *("do_sample", "temperature", "top_p", "top_k", "num_beams", "max_length", "max_new_tokens"),
        *("repetition_penalty", "length_penalty", "skip_special_tokens"),
    }
)


class Stage(Protocol):
    """What the entry-point group `llamafactory.stages` holds.

    A stage may also have a method `form()` that returns `FormHints` for the web UI.

    Attributes:
        name: canonical name, lower case with underscores.
        base: LLaMA-Factory's stage whose checks and defaults hold for this one.
        arguments: "module:Class" of the arguments dataclass; importing it must be cheap.
        help: one sentence for `llamafactory-cli train -h`.
        inert: LLaMA-Factory keys that would do nothing here and are refused.
        pref_losses: values of `pref_loss` that this stage adds.
    """

    name: str
    base: Literal["sft", "dpo"]
    arguments: str
    help: str
    inert: frozenset[str]
    pref_losses: tuple[str, ...]

    def check(self, run: RunArguments, given: frozenset[str]) -> None:
        """Refuses combinations that cannot work, before anything is loaded; `given` names the keys the user set."""
        ...

    def run(self, run: RunArguments, callbacks: list[Any]) -> None:
        """Trains and evaluates."""
        ...


@dataclass
class EvalTaskArguments:
    """Arguments of evaluation tasks during training, which every stage has."""

    eval_tasks: str | None = field(
        default=None,
        metadata={
            "help": "Tasks of `mmself eval`, separated by commas, that the model in training answers greedily every "
            "`eval_tasks_every` steps and after the last one. Their figures are logged as eval_<task>_<figure>; "
            "answers and scores are in OUTPUT_DIR/eval_tasks/step-<n>. Training itself is the same to the bit. Not "
            "with ZeRO-3 or FSDP."
        },
    )
    eval_tasks_every: int = field(
        default=500, metadata={"help": "Optimizer steps between two evaluations on `eval_tasks`."}
    )
    eval_tasks_data: str | None = field(
        default=None,
        metadata={
            "help": "Folder of the tasks' data, one folder a task, as for `mmself eval --data`. Default: what "
            "MMSELF_BENCHMARKS names. Use data that no training row comes from."
        },
    )
    eval_tasks_limit: int | None = field(
        default=None, metadata={"help": "Items of each task, as for `mmself eval --limit`. Default: all."}
    )
    eval_tasks_judge: str | None = field(
        default=None,
        metadata={
            "help": "YAML of the engine that judges answers, for tasks that need a judge, as for `mmself eval`."
        },
    )


@dataclass
class TreeArguments(EvalTaskArguments):
    """Arguments that every tree stage has."""

    invalid_rows: Literal["error", "drop"] = field(
        default="error",
        metadata={
            "help": "What to do with rows that cannot be trained on (missing pictures, too long, equal answers): "
            "stop with a list of them, or drop and count them."
        },
    )
    tree_forward: Literal["auto", "packed", "dense"] = field(
        default="auto",
        metadata={
            "help": "How a sample's sequences go through the model. packed: as one row that holds what they share "
            "once. dense: each as a row of its own. auto: packed if the model can, token counts promise a gain and "
            "both give the first batch the same log-probs; the log says what was chosen and why."
        },
    )
    ref_logps: Literal["live", "cache"] = field(
        default="live",
        metadata={
            "help": "Where the reference's log-probs come from. live: computed in each step. cache: computed once, "
            "before the first step, for the training and evaluation rows, and kept on disk for this and later runs. "
            "Saves a forward pass in each step, and with full or freeze tuning, or with ref_model once the cache is "
            "full, the memory of the second model."
        },
    )
    ref_logps_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder of the cached log-probs; runs with the same reference and rows share it. All ranks must "
            "see it (with data_shared_file_system false: all ranks of a node). "
            "Default: mmself/ref_logps in the cache of the `datasets` library (HF_DATASETS_CACHE)."
        },
    )
    kept_layers: int | None = field(
        default=None,
        metadata={
            "help": "With gradient checkpointing: decoder layers, from the last one up, whose activations are kept "
            "instead of computed again. 0: none, for the least memory. Default: as many as fit into what "
            "LLaMA-Factory's own stages would take for the same rows, which packed rows and the narrow head leave "
            "free."
        },
    )
    vision_cache_mb: int = field(
        default=0,
        metadata={
            "help": "Megabytes of host memory, per rank, for features of pictures that are kept from step to step, "
            "those used last first. 0: they are kept within a step only. Needs a frozen vision tower and projector "
            "that are not sharded (no ZeRO-3, no FSDP)."
        },
    )


class TreeStage(ABC):
    """A stage that scores responses under several contexts: a tree builder plus a loss."""

    name: str
    base: Literal["sft", "dpo"] = "dpo"
    arguments: str
    help: str
    inert: frozenset[str] = TREE_INERT_KEYS
    pref_losses: tuple[str, ...] = ()

    def check(self, run: RunArguments, given: frozenset[str]) -> None:
        """See `Stage.check`; refuses what no tree stage can do. Stages with checks of their own do those first."""
        check_eval_tasks(run, given)
        args = run.stage
        if args.ref_logps not in ("live", "cache"):
            raise SettingError(f"Unknown ref_logps `{args.ref_logps}`; use live or cache.")
        if args.ref_logps == "cache" and not self.needs_reference(run):
            raise SettingError("`ref_logps: cache` would do nothing here: this loss has no reference. Remove it.")
        if args.ref_logps == "cache" and not run.training.do_train:
            raise SettingError("`ref_logps: cache` is for training: an evaluation alone looks at each row once.")
        if args.ref_logps == "live" and args.ref_logps_dir is not None:
            raise SettingError("`ref_logps_dir` would do nothing without `ref_logps: cache`. Set both, or neither.")
        if args.kept_layers is not None and args.kept_layers < 0:
            raise SettingError(f"kept_layers is a number of layers, 0 or more; it is {args.kept_layers}.")
        if args.vision_cache_mb < 0:
            raise SettingError(f"vision_cache_mb is a size, 0 or more; it is {args.vision_cache_mb}.")

    @abstractmethod
    def needs_reference(self, run: RunArguments) -> bool:
        """Whether the loss compares with a reference."""

    def schema(self, schema: DatasetSchema, run: RunArguments) -> DatasetSchema:
        """How to read a data set: its entry in dataset_info.json, changed by what the run's arguments say."""
        return schema

    def row_encoder(self, encoder: RowEncoder, run: RunArguments) -> RowEncoder:
        """The encoder that `encode` gets: the given one, or one that also knows this run's prompts."""
        return encoder

    def fingerprint(self, run: RunArguments) -> Mapping[str, str]:
        """What encoded rows depend on besides the rows, the model's processor and the template: part -> digest."""
        return {}

    @abstractmethod
    def encode(self, row: PreferenceRow, encoder: RowEncoder) -> tuple[list[Segments], list[Fault]]:
        """Token ids of a row, the same for all settings of the stage; or the faults that forbid it."""

    @abstractmethod
    def segment_types(self) -> Mapping[str, Any]:
        """Column -> Arrow type of what `encode` returns."""

    def required_columns(self, run: RunArguments) -> frozenset[str]:
        """Optional columns without which a row cannot be used: `rejected_images`, `prefix`, `weights`."""
        return frozenset()

    def samples(self, row: PreferenceRow, run: RunArguments) -> list[PreferenceRow]:
        """The rows that a row stands for; by default one for each rejected answer."""
        return [replace(row, rejected=(text,)) for text in row.rejected]

    @abstractmethod
    def tree(self, segments: Segments, run: RunArguments, rejected_crop: tuple[float, float] | None) -> SampleTree:
        """The tree of one row."""

    @abstractmethod
    def loss(
        self, policy: ScoreTable, reference: ScoreTable | None, side: Mapping[str, Tensor], run: RunArguments
    ) -> LossOutput:
        """The loss of a batch without filler samples."""

    def plotted(self, run: RunArguments) -> Sequence[str]:
        """Metrics that `plot_loss` draws beside the loss."""
        return ()

    def run(self, run: RunArguments, callbacks: list[Any]) -> None:
        """See `Stage.run`."""
        from .workflow import run_tree_stage

        run_tree_stage(self, run, callbacks)
