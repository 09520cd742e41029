# SPDX-License-Identifier: Apache-2.0
"""What we rely on inside LLaMA-Factory, written down so that it can be checked.

If a symbol we replace has another signature than here, nothing of its module is replaced: stock stages go on as if the
plugin were not there, with one warning, and one of our stages ends at once with the reason.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal


TESTED_VERSION = "0.9.5"

Part = Literal["stages", "web UI"]

_WORKFLOW = ("model_args", "data_args", "training_args", "finetuning_args")


class ContractError(RuntimeError):
    """LLaMA-Factory is not as this plugin needs it."""


@dataclass(frozen=True)
class Symbol:
    """A name inside LLaMA-Factory.

    Attributes:
        module: where it lives.
        name: what it is called; with a dot for a method.
        kind: `replaced` by us, or only `called`.
        why: what for.
        parameters: names of its parameters in order, or None where it is not a function.
        part: what does without it if it is another one: the `stages`, or only our additions to the `web UI`.
    """

    module: str
    name: str
    kind: Literal["replaced", "called"]
    why: str
    parameters: tuple[str, ...] | None = None
    part: Part = "stages"

    def problem(self, module: ModuleType | None = None) -> str | None:
        """What is wrong with it, naming both sides, or None."""
        try:
            module = module or importlib.import_module(self.module)
        except Exception as error:
            return f"{self.module} cannot be imported: {error!r}"
        found_object: Any = module
        for part in self.name.split("."):
            found_object = getattr(found_object, part, None)
        if found_object is None:
            return f"{self.module}.{self.name} is gone; this plugin needs it to {self.why}."
        if self.parameters is None:
            return None
        found = tuple(inspect.signature(found_object).parameters)
        if found != self.parameters:
            return (
                f"{self.module}.{self.name} takes ({', '.join(found)}); "
                f"this plugin was written for ({', '.join(self.parameters)}), to {self.why}."
            )
        return None


_PARSER = "llamafactory.hparams.parser"
_TUNER = "llamafactory.train.tuner"
_CONVERTER = "llamafactory.data.converter"
_LOADER = "llamafactory.data.loader"
_TEMPLATE = "llamafactory.data.template"
_UTILS = "llamafactory.train.trainer_utils"
_WEB = "llamafactory.webui"

SYMBOLS: tuple[Symbol, ...] = (
    Symbol(_PARSER, "_parse_train_args", "replaced", "add the arguments of our stages", ("args",)),
    Symbol(_PARSER, "_TRAIN_ARGS", "replaced", "accept our stage names in training"),
    Symbol(_PARSER, "_INFER_ARGS", "replaced", "accept our stage names in export and chat"),
    Symbol(_PARSER, "_parse_args", "called", "parse", ("parser", "args", "allow_extra_keys")),
    Symbol(_PARSER, "read_args", "called", "see which keys were given", ("args",)),
    Symbol(_TUNER, "run_sft", "replaced", "run stages of base sft", (*_WORKFLOW, "generating_args", "callbacks")),
    Symbol(_TUNER, "run_dpo", "replaced", "run stages of base dpo", (*_WORKFLOW, "callbacks")),
    Symbol(
        _CONVERTER,
        "get_dataset_converter",
        "replaced",
        "find data-set formats of installed packages",
        ("name", "dataset_attr", "data_args"),
    ),
    Symbol(_CONVERTER, "register_dataset_converter", "called", "add formats", ("name", "dataset_converter")),
    Symbol(_CONVERTER, "DATASET_CONVERTERS", "called", "see which formats there are"),
    Symbol(_TEMPLATE, "TEMPLATES", "replaced", "add our templates"),
    Symbol("llamafactory.data.mm_plugin", "BasePlugin", "called", "know families with plain inputs"),
    Symbol(
        "llamafactory.data.parser", "get_dataset_list", "called", "read data sets", ("dataset_names", "dataset_dir")
    ),
    Symbol("llamafactory.data.data_utils", "merge_dataset", "called", "mix", ("all_datasets", "data_args", "seed")),
    Symbol(
        _LOADER,
        "_load_single_dataset",
        "called",
        "load data sets from hubs",
        ("dataset_attr", "model_args", "data_args", "training_args"),
    ),
    Symbol(
        _LOADER,
        "get_dataset",
        "called",
        "read rows of stage reflection_sft",
        (*("template", "model_args", "data_args", "training_args"), *("stage", "tokenizer", "processor")),
    ),
    Symbol(
        _LOADER,
        "_get_merged_dataset",
        "called",
        "know each row's kind",
        ("dataset_names", "model_args", "data_args", "training_args", "stage", "return_dict"),
    ),
    Symbol(
        _LOADER,
        "_get_preprocessed_dataset",
        "called",
        "carry kinds through tokenising and packing",
        (*("dataset", "data_args", "training_args", "stage"), *("template", "tokenizer", "processor", "is_eval")),
    ),
    Symbol(
        _LOADER,
        "_get_dataset_processor",
        "called",
        "tokenise rows as stage sft does",
        ("data_args", "stage", "template", "tokenizer", "processor", "do_generate"),
    ),
    Symbol(
        _CONVERTER,
        "align_dataset",
        "called",
        "keep the columns kind and pair",
        ("dataset", "dataset_attr", "data_args", "training_args"),
    ),
    Symbol("llamafactory.model.loader", "load_tokenizer", "called", "load the tokenizer", ("model_args",)),
    Symbol(
        "llamafactory.model.loader",
        "load_model",
        "called",
        "load the model",
        ("tokenizer", "model_args", "finetuning_args", "is_trainable", "add_valuehead"),
    ),
    Symbol(
        _UTILS, "create_ref_model", "called", "load a reference", ("model_args", "finetuning_args", "add_valuehead")
    ),
    Symbol(
        _UTILS,
        "create_custom_optimizer",
        "called",
        "offer LLaMA-Factory's optimizers",
        ("model", "training_args", "finetuning_args"),
    ),
    Symbol(
        _UTILS,
        "create_custom_scheduler",
        "called",
        "offer its schedulers",
        ("training_args", "num_training_steps", "optimizer"),
    ),
    *(
        Symbol(f"{_WEB}.{module}", name, kind, why, parameters, "web UI")  # type: ignore[arg-type]
        for module, name, kind, why, parameters in (
            ("interface", "create_train_tab", "replaced", "add our arguments and previews", ("engine",)),
            ("interface", "create_footer", "replaced", "add the tab Self-improve before it", ()),
            ("components.train", "TRAINING_STAGES", "replaced", "list our stages", None),
            ("components.train", "change_stage", "replaced", "keep data sets that fit", ("training_stage",)),
            (
                *("components.train", "list_datasets", "replaced", "list data sets with our columns"),
                ("dataset_dir", "training_stage"),
            ),
            ("control", "TRAINING_STAGES", "replaced", "know our stages", None),
            ("runner", "TRAINING_STAGES", "replaced", "start our stages", None),
            ("runner", "get_trainer_info", "replaced", "draw our losses", ("lang", "output_path", "do_train")),
            ("runner", "Runner._parse_train_args", "replaced", "pass preference arguments on", ("self", "data")),
            ("locales", "LOCALES", "replaced", "add our labels in five languages", None),
            ("manager", "Manager.get_elem_by_id", "called", "find its fields", ("self", "elem_id")),
            ("common", "load_dataset_info", "called", "see which data sets there are", ("dataset_dir",)),
        )
    ),
)


def problems(module: ModuleType | None = None, kind: str | None = None, part: Part | None = None) -> list[str]:
    """Everything that does not hold.

    Args:
        module: look at this module's symbols only.
        kind: look at `replaced` or `called` symbols only.
        part: look at the symbols of the stages or of the web UI only.
    """
    chosen = [
        symbol
        for symbol in SYMBOLS
        if (module is None or symbol.module == module.__name__)
        and (kind is None or symbol.kind == kind)
        and (part is None or symbol.part == part)
    ]
    return [problem for symbol in chosen if (problem := symbol.problem(module))]
