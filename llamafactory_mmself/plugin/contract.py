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


class ContractError(ValueError):
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
        uses: global names that it has to use, because we run it with other objects under them.
    """

    module: str
    name: str
    kind: Literal["replaced", "called"]
    why: str
    parameters: tuple[str, ...] | None = None
    part: Part = "stages"
    uses: tuple[str, ...] = ()

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
        for name in self.uses:
            if name not in found_object.__code__.co_names:
                return (
                    f"{self.module}.{self.name} does not use `{name}` any more; this plugin needs that to {self.why}."
                )
        return None


_PARSER = "llamafactory.hparams.parser"
_TUNER = "llamafactory.train.tuner"
_CONVERTER = "llamafactory.data.converter"
_LOADER = "llamafactory.data.loader"
_TEMPLATE = "llamafactory.data.template"
_PLUGIN = "llamafactory.data.mm_plugin"
_SFT = "llamafactory.train.sft.workflow"
_UTILS = "llamafactory.train.trainer_utils"
_WEB = "llamafactory.webui"

_MEDIA = ("images", "videos", "audios")
_PROCESSOR = ("data_args", "stage", "template", "tokenizer", "processor", "do_generate")
_LOADED = ("model_args", "data_args", "training_args")

_CALLED: tuple[tuple[str, str, str, tuple[str, ...] | None], ...] = (
    (_PARSER, "_parse_args", "parse", ("parser", "args", "allow_extra_keys")),
    (_PARSER, "read_args", "see which keys were given", ("args",)),
    ("llamafactory.hparams", "read_args", "see which keys were given", ("args",)),
    ("llamafactory.hparams", "get_train_args", "read arguments of training", ("args",)),
    ("llamafactory.hparams", "get_infer_args", "read arguments of inference", ("args",)),
    (_CONVERTER, "register_dataset_converter", "add formats", ("name", "dataset_converter")),
    (_CONVERTER, "DATASET_CONVERTERS", "see which formats there are", None),
    (_LOADER, "_get_dataset_processor", "tokenise rows as stage sft does", _PROCESSOR),
    (_TEMPLATE, "get_template_and_fix_tokenizer", "make the chat template", ("tokenizer", "data_args")),
    (_TEMPLATE, "Template.encode_oneturn", "tokenise rows", ("self", "tokenizer", "messages", "system", "tools")),
    (_TEMPLATE, "Template.get_stop_token_ids", "know where answers end", ("self", "tokenizer")),
    (_TEMPLATE, "Template.get_thought_word_ids", "know empty thoughts", ("self", "tokenizer")),
    (_PLUGIN, "BasePlugin", "know families with plain inputs", None),
    (_PLUGIN, "BasePlugin.process_messages", "expand placeholders", ("self", "messages", *_MEDIA, "processor")),
    (
        _PLUGIN,
        "BasePlugin.process_token_ids",
        "expand placeholders",
        ("self", "input_ids", "labels", *_MEDIA, "tokenizer", "processor"),
    ),
    (
        _PLUGIN,
        "BasePlugin.get_mm_inputs",
        "make pixels",
        ("self", *_MEDIA, "imglens", "vidlens", "audlens", "batch_ids", "processor"),
    ),
    (
        _PLUGIN,
        "BasePlugin._get_mm_inputs",
        "make tiles of Llama 3.2 Vision",
        ("self", *_MEDIA, "processor", "imglens"),
    ),
    (_PLUGIN, "BasePlugin._regularize_images", "open pictures for vLLM", ("self", "images", "kwargs")),
    ("llamafactory.data.parser", "DatasetAttr", "describe data sets", None),
    ("llamafactory.data.parser", "get_dataset_list", "read data sets", ("dataset_names", "dataset_dir")),
    ("llamafactory.data.data_utils", "merge_dataset", "mix data sets", ("all_datasets", "data_args", "seed")),
    (
        "llamafactory.data.data_utils",
        "split_dataset",
        "split data sets",
        ("dataset", "eval_dataset", "data_args", "seed"),
    ),
    ("llamafactory.data", "SFTDataCollatorWith4DAttentionMask", "collate rows of stage reflection_sft", None),
    *(
        ("llamafactory.data.processor", f"{name}{method}", "tokenise rows of stage reflection_sft", parameters)
        for name in ("SupervisedDatasetProcessor", "PackedSupervisedDatasetProcessor")
        for method, parameters in (
            ("", None),
            ("._encode_data_example", ("self", "prompt", "response", "system", "tools", *_MEDIA)),
        )
    ),
    (
        "llamafactory.chat.hf_engine",
        "HuggingfaceEngine._process_args",
        "build prompts for `generate`",
        (
            *("model", "tokenizer", "processor", "template", "generating_args", "messages", "system", "tools"),
            *(*_MEDIA, "input_kwargs"),
        ),
    ),
    ("llamafactory.extras.constants", "DATA_CONFIG", "find data sets", None),
    ("llamafactory.extras.constants", "IGNORE_INDEX", "mask labels", None),
    ("llamafactory.extras.constants", "MROPE_MODELS", "know models with M-RoPE", None),
    ("llamafactory.extras.logging", "get_logger", "log", ("name",)),
    ("llamafactory.extras.misc", "has_tokenized_data", "load tokenised data sets", ("path",)),
    ("llamafactory.extras.ploting", "plot_loss", "plot", ("save_dictionary", "keys")),
    ("llamafactory.model", "load_config", "read the model's configuration", ("model_args",)),
    ("llamafactory.model", "load_tokenizer", "load the tokenizer", ("model_args",)),
    (
        "llamafactory.model",
        "load_model",
        "load the model",
        ("tokenizer", "model_args", "finetuning_args", "is_trainable", "add_valuehead"),
    ),
    ("llamafactory.model.model_utils.visual", "COMPOSITE_MODELS", "know a model's projector", None),
    ("llamafactory.train.callbacks", "SaveProcessorCallback", "save the processor", ("processor",)),
    ("llamafactory.train.sft.trainer", "CustomSeq2SeqTrainer", "train stage reflection_sft", None),
    (_UTILS, "create_ref_model", "load a reference", ("model_args", "finetuning_args", "add_valuehead")),
    (
        _UTILS,
        "create_custom_optimizer",
        "offer LLaMA-Factory's optimizers",
        ("model", "training_args", "finetuning_args"),
    ),
    (
        _UTILS,
        "create_custom_scheduler",
        "offer its schedulers",
        ("training_args", "num_training_steps", "optimizer"),
    ),
    (_UTILS, "create_modelcard_and_push", "write the model card", ("trainer", *_WORKFLOW)),
)

#: Functions that stage reflection_sft runs with other objects under some of their global names.
_REBOUND = (
    (
        _SFT,
        "run_sft",
        "run stage reflection_sft",
        (*_WORKFLOW, "generating_args", "callbacks"),
        (
            *("get_dataset", "load_model", "SFTDataCollatorWith4DAttentionMask"),
            *("CustomSeq2SeqTrainer", "plot_loss"),
        ),
    ),
    (
        _LOADER,
        "get_dataset",
        "read rows of stage reflection_sft",
        ("template", *_LOADED, "stage", "tokenizer", "processor"),
        ("_get_merged_dataset", "split_dataset", "_get_preprocessed_dataset"),
    ),
    (
        _LOADER,
        "_get_merged_dataset",
        "know each row's kind",
        ("dataset_names", *_LOADED, "stage", "return_dict"),
        ("get_dataset_list", "_load_single_dataset"),
    ),
    (
        _LOADER,
        "_load_single_dataset",
        "load data sets from hubs",
        ("dataset_attr", *_LOADED),
        ("align_dataset",),
    ),
    (
        _LOADER,
        "_get_preprocessed_dataset",
        "carry kinds through tokenising and packing",
        (*("dataset", "data_args", "training_args", "stage"), *("template", "tokenizer", "processor", "is_eval")),
        ("_get_dataset_processor",),
    ),
    (
        _CONVERTER,
        "align_dataset",
        "keep the columns kind and pair",
        ("dataset", "dataset_attr", "data_args", "training_args"),
        ("get_dataset_converter",),
    ),
)

SYMBOLS: tuple[Symbol, ...] = (
    Symbol(_PARSER, "_parse_train_args", "replaced", "add the arguments of our stages", ("args",)),
    Symbol(_PARSER, "_TRAIN_ARGS", "replaced", "accept our stage names in training"),
    Symbol(_PARSER, "_INFER_ARGS", "replaced", "accept our stage names in export and chat"),
    Symbol(_TUNER, "run_sft", "replaced", "run stages of base sft", (*_WORKFLOW, "generating_args", "callbacks")),
    Symbol(_TUNER, "run_dpo", "replaced", "run stages of base dpo", (*_WORKFLOW, "callbacks")),
    Symbol(
        _CONVERTER,
        "get_dataset_converter",
        "replaced",
        "find data-set formats of installed packages",
        ("name", "dataset_attr", "data_args"),
    ),
    Symbol(_TEMPLATE, "TEMPLATES", "replaced", "add our templates"),
    *(Symbol(module, name, "called", why, parameters) for module, name, why, parameters in _CALLED),
    *(Symbol(module, name, "called", why, parameters, uses=uses) for module, name, why, parameters, uses in _REBOUND),
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
            ("common", "DEFAULT_CACHE_DIR", "called", "find where the UI keeps its settings", None),
            ("components.data", "PAGE_SIZE", "called", "show as many rows a page", None),
            ("common", "load_dataset_info", "called", "see which data sets there are", ("dataset_dir",)),
        )
    ),
    Symbol("llamafactory.extras.ploting", "smooth", "called", "smooth curves", ("scalars",), "web UI"),
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
