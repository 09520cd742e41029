# SPDX-License-Identifier: Apache-2.0
"""LLaMA-Factory, as the rest of the package sees it. No other module imports it."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from llamafactory.chat.hf_engine import HuggingfaceEngine
from llamafactory.data import SFTDataCollatorWith4DAttentionMask, converter, loader
from llamafactory.data.converter import DATASET_CONVERTERS, get_dataset_converter
from llamafactory.data.data_utils import merge_dataset, split_dataset
from llamafactory.data.loader import _load_single_dataset
from llamafactory.data.mm_plugin import BasePlugin
from llamafactory.data.parser import DatasetAttr, get_dataset_list
from llamafactory.data.processor import PackedSupervisedDatasetProcessor, SupervisedDatasetProcessor
from llamafactory.data.template import TEMPLATES, get_template_and_fix_tokenizer
from llamafactory.extras import logging
from llamafactory.extras.constants import DATA_CONFIG, IGNORE_INDEX, MROPE_MODELS
from llamafactory.extras.misc import has_tokenized_data
from llamafactory.extras.ploting import plot_loss
from llamafactory.hparams import get_infer_args, get_train_args, read_args
from llamafactory.model import load_config, load_model, load_tokenizer
from llamafactory.model.model_utils.visual import COMPOSITE_MODELS
from llamafactory.train.callbacks import SaveProcessorCallback
from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer
from llamafactory.train.sft.workflow import run_sft
from llamafactory.train.trainer_utils import (
    create_custom_optimizer,
    create_custom_scheduler,
    create_modelcard_and_push,
    create_ref_model,
)
from PIL import Image
from torch import Tensor
from transformers.models.mllama.processing_mllama import (
    convert_sparse_cross_attention_mask_to_dense,
    get_cross_attention_token_mask,
)

from ..data.encode import RowEncoder
from ..tree.batch import Family, Row
from ..tree.sample import Media
from ..tree.vision import CROSS, SCATTERED
from .contract import ContractError
from .templates import rejected_crop


__all__ = [
    "DATA_CONFIG",
    "IGNORE_INDEX",
    "CustomSeq2SeqTrainer",
    "DatasetAttr",
    "Inference",
    "PackedSupervisedDatasetProcessor",
    "SFTDataCollatorWith4DAttentionMask",
    "SaveProcessorCallback",
    "SupervisedDatasetProcessor",
    "convert_row",
    "create_custom_optimizer",
    "create_custom_scheduler",
    "create_modelcard_and_push",
    "create_ref_model",
    "family",
    "generation_inputs",
    "get_dataset_list",
    "get_logger",
    "get_train_args",
    "has_tokenized_data",
    "load_config",
    "load_inference",
    "load_model",
    "load_policy",
    "load_raw_dataset",
    "load_template",
    "load_tokenizer",
    "merge_dataset",
    "plot_loss",
    "projector_keys",
    "read_args",
    "regular_images",
    "rejected_crop",
    "row_encoder",
    "run_sft_with",
    "split_dataset",
    "supervised_datasets",
    "unexpanded",
]


def get_logger(name: str) -> Any:
    """A logger below LLaMA-Factory's own, so that its handlers and its verbosity hold for ours."""
    return logging.get_logger(f"llamafactory.{name.removeprefix('llamafactory_')}")


@dataclass(frozen=True)
class Inference:
    """What LLaMA-Factory makes of inference arguments; the model is loaded by `load_policy`."""

    model_args: Any
    finetuning_args: Any
    tokenizer: Any
    processor: Any
    template: Any
    cutoff_len: int


def load_template(tokenizer: Any, data_args: Any) -> Any:
    """The chat template of a run, and its special tokens in the tokenizer.

    LLaMA-Factory writes `default_system`, `tool_format` and `enable_thinking` of a run into the registered template,
    where they would hold for all later runs of the process; here they go into a copy.

    Raises:
        ValueError: LLaMA-Factory has no such template.
    """
    name = data_args.template or "empty"
    registered = TEMPLATES.get(name)
    if registered is None:
        return get_template_and_fix_tokenizer(tokenizer, data_args)
    TEMPLATES[name] = copy.copy(registered)
    try:
        return get_template_and_fix_tokenizer(tokenizer, data_args)
    finally:
        TEMPLATES[name] = registered


def load_inference(arguments: Mapping[str, Any]) -> Inference:
    """Tokenizer, processor and template, as `llamafactory-cli chat` loads them.

    Raises:
        ValueError: LLaMA-Factory refuses an argument; OSError: the model's files are not there.
    """
    model_args, data_args, finetuning_args, _ = get_infer_args(dict(arguments))
    modules = load_tokenizer(model_args)
    template = load_template(modules["tokenizer"], data_args)
    return Inference(
        model_args, finetuning_args, modules["tokenizer"], modules["processor"], template, data_args.cutoff_len
    )


def load_policy(parts: Inference, device: str | None = None) -> Any:
    """The model in evaluation mode, adapters merged.

    Args:
        parts: from `load_inference`.
        device: where to put it; None spreads it over all GPUs.
    """
    if device is not None:
        parts.model_args.device_map = {"": torch.device(device)}
    return load_model(parts.tokenizer, parts.model_args, parts.finetuning_args, is_trainable=False)


def unexpanded(parts: Inference) -> Inference:
    """The same parts with a template that puts one placeholder for each picture, as vLLM wants its prompts."""
    template = copy.copy(parts.template)
    template.mm_plugin = copy.copy(template.mm_plugin)
    template.mm_plugin.expand_mm_tokens = False
    return replace(parts, template=template)


def regular_images(parts: Inference, images: Sequence[str]) -> list[Image.Image]:
    """Pictures as the template hands them to the processor: opened, in RGB, within the limits of pixels."""
    model = parts.model_args
    limits = {"image_max_pixels": model.image_max_pixels, "image_min_pixels": model.image_min_pixels}
    pictures: list[Image.Image] = parts.template.mm_plugin._regularize_images(list(images), **limits)["images"]
    return pictures


def generation_inputs(
    parts: Inference, model: Any, messages: Sequence[Any], images: list[str], params: Any
) -> tuple[dict[str, Any], int]:
    """Arguments for a model's own `generate` on one prompt, as LLaMA-Factory's chat builds them for every family.

    The chat leaves out which tokens are pictures, so that models with M-RoPE would count positions as if all was text;
    here they are told.

    Args:
        parts: from `load_inference`.
        model: the bare model.
        messages: with `role` and `content`, an optional system message first.
        images: paths.
        params: sampling parameters with vLLM's names.

    Returns:
        the arguments, and the number of prompt tokens.
    """
    system = "".join(message.content for message in messages if message.role == "system")
    turns = [{"role": turn.role, "content": turn.content} for turn in messages if turn.role != "system"]
    sampled = params.temperature > 0
    settings = {
        "do_sample": sampled,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k if sampled else None,
        "repetition_penalty": params.repetition_penalty,
        "length_penalty": 1.0,
        "skip_special_tokens": True,
        "max_new_tokens": params.max_new_tokens,
    }
    chosen: Any = {"num_return_sequences": params.n if sampled else 1, "do_sample": sampled}
    inputs, length = HuggingfaceEngine._process_args(
        model, parts.tokenizer, parts.processor, parts.template, settings, turns, system, None, images,
        input_kwargs=chosen,
    )  # fmt: skip
    if "mm_token_type_ids" in inspect.signature(model.forward).parameters:
        ids = inputs["inputs"]
        kinds = torch.zeros_like(ids)
        for token, kind in _token_types(parts.template.mm_plugin, parts.tokenizer).items():
            kinds[ids == token] = kind
        inputs["mm_token_type_ids"] = kinds
    return inputs, length


def row_encoder(template: Any, tokenizer: Any, processor: Any, cutoff_len: int) -> RowEncoder:
    """An encoder of rows for a template; media tokens include the marks that a family puts around a picture."""
    plugin = template.mm_plugin
    names = ("image_token", "video_token", "vision_bos_token", "vision_eos_token")
    tokens = [vars(plugin).get(name, type(plugin).__dict__.get(name)) for name in names]
    ids = {tokenizer.convert_tokens_to_ids(token) for token in tokens if token is not None}
    return RowEncoder(template, tokenizer, processor, cutoff_len, frozenset(ids - {None}))


def family(template: Any, tokenizer: Any, processor: Any, model: Any) -> Family:
    """How the model takes its media.

    Args:
        template: chat template with its multimodal plugin.
        tokenizer: the tokenizer.
        processor: the processor, or None for text models.
        model: the bare transformers model.

    Raises:
        ValueError: for a family whose inputs the tree stages do not know how to build.
    """
    plugin = template.mm_plugin
    kind = model.config.model_type
    if kind not in SCATTERED | CROSS and _own_inputs(plugin):
        raise ValueError(
            f"Models of type `{kind}` take their pictures in a form that the tree stages do not build. "
            f"Supported: {', '.join(sorted(SCATTERED | CROSS))}, and families with plain pixel inputs (llava_next)."
        )

    def image_inputs(pictures: list[Image.Image], videos: list[str]) -> dict[str, Tensor]:
        counts = [len(pictures)], [len(videos)], [0]
        return dict(plugin.get_mm_inputs(pictures, videos, [], *counts, [[]], processor))

    return Family(
        image_inputs=image_inputs,
        cross_inputs=_cross_inputs(plugin, processor) if kind in CROSS else None,
        shares_tower=kind in SCATTERED,
        rope_index=model.model.get_rope_index if kind in MROPE_MODELS else None,
        token_types=_token_types(plugin, tokenizer),
        filler=_filler(plugin, tokenizer, processor),
    )


def _token_types(plugin: Any, tokenizer: Any) -> dict[int, int]:
    """Placeholder token -> 1 for pictures, 2 for videos, as M-RoPE counts them."""
    types = {plugin.image_token: 1, plugin.video_token: 2}
    return {tokenizer.convert_tokens_to_ids(token): value for token, value in types.items() if token}


def _own_inputs(plugin: Any) -> bool:
    """Whether a plugin builds its inputs from more than the pictures (token types, bounds, masks)."""
    return type(plugin).get_mm_inputs is not BasePlugin.get_mm_inputs


def _filler(plugin: Any, tokenizer: Any, processor: Any) -> Row | None:
    """A row with one small white picture: a batch without pictures runs the vision tower on it."""
    if plugin.image_token is None:
        return None
    media = Media("image", "blank:64x64")
    picture = Image.new("RGB", (64, 64), (255, 255, 255))
    message = {"role": "user", "content": "<image>"}
    (message,) = plugin.process_messages([message], [picture], [], [], processor)
    ids = tokenizer.encode(message["content"], add_special_tokens=False)
    ids, _ = plugin.process_token_ids(ids, None, [picture], [], [], tokenizer, processor)
    return Row(tuple(ids), (media,))


def _cross_inputs(
    plugin: Any, processor: Any
) -> Callable[[list[list[Image.Image]], list[int], list[Sequence[int]], int], dict[str, Tensor]]:
    """Inputs of models with cross-attention: pixels of each distinct set, and who may look at which tile."""

    def inputs(
        sets: list[list[Image.Image]], places: list[int], ids: list[Sequence[int]], length: int
    ) -> dict[str, Tensor]:
        pictures = [picture for images in sets for picture in images]
        built = dict(plugin._get_mm_inputs(pictures, [], [], processor, [len(images) for images in sets]))
        tiles = built.pop("num_tiles")
        image_token = processor.image_token_id
        token_masks = [get_cross_attention_token_mask(list(row), image_token) for row in ids]
        dense = convert_sparse_cross_attention_mask_to_dense(
            token_masks,
            num_tiles=[tiles[place] if place >= 0 else [] for place in places],
            max_num_tiles=processor.image_processor.max_image_tiles,
            length=max(len(row) for row in ids),
        )
        mask = torch.from_numpy(dense)
        most = built["pixel_values"].shape[1]
        padding = (0, 0, 0, most - mask.shape[2], 0, length - mask.shape[1])
        return built | {"cross_attention_mask": F.pad(mask, padding)}

    return inputs


def _refuse_binary(value: Any) -> Any:
    raise ValueError(
        f"A row holds {type(value).__name__} data. The tree stages take pictures as files: save them to a folder and "
        "put their paths into the rows."
    )


class _Unchanged:
    """A data-set converter that hands rows through as they are."""

    def __init__(self, dataset_attr: Any, data_args: Any) -> None:
        pass

    def __call__(self, example: dict[str, Any]) -> dict[str, Any]:
        return {"raw": json.dumps(dict(example), ensure_ascii=False, default=_refuse_binary)}


def load_raw_dataset(attr: DatasetAttr, model_args: Any, data_args: Any, training_args: Any) -> list[dict[str, Any]]:
    """Rows of a data set that is not a local JSON file, through LLaMA-Factory's own loaders (hubs, scripts, cloud)."""
    DATASET_CONVERTERS.setdefault("mmself_raw", _Unchanged)
    attr = copy.copy(attr)
    attr.formatting = "mmself_raw"
    return [json.loads(row["raw"]) for row in _load_single_dataset(attr, model_args, data_args, training_args)]


def convert_row(row: dict[str, Any], attr: DatasetAttr, data_args: Any) -> dict[str, Any]:
    """A raw row through the converter that its `formatting` names, into LLaMA-Factory's aligned form."""
    aligned: dict[str, Any] = get_dataset_converter(attr.formatting, attr, data_args)(row)
    return aligned


def projector_keys(model_type: str) -> list[str]:
    """Names of the parts that LLaMA-Factory calls the multimodal projector; none for text models."""
    composite = COMPOSITE_MODELS.get(model_type)
    return [] if composite is None else list(composite.projector_keys)


def _rebound(function: Any, **parts: Any) -> Callable[..., Any]:
    """A copy of a function that finds other things under some of its global names; the original stays as it is.

    Raises:
        ContractError: if the function does not use such a name.
    """
    for name in parts:
        if name not in function.__code__.co_names:
            where = f"{function.__module__}.{function.__qualname__}"
            raise ContractError(f"{where} does not use `{name}` any more; this plugin replaces it there.")
    rebound = FunctionType(
        function.__code__, {**function.__globals__, **parts}, function.__name__, function.__defaults__
    )
    rebound.__kwdefaults__ = function.__kwdefaults__
    return rebound


def run_sft_with(run: Any, callbacks: list[Any], **parts: Any) -> None:
    """LLaMA-Factory's workflow of stage `sft`, with some of its parts replaced.

    Args:
        run: `RunArguments`, with generating arguments.
        callbacks: of the trainer.
        parts: name in the workflow -> replacement: `get_dataset`, `load_model`, `SFTDataCollatorWith4DAttentionMask`,
            `CustomSeq2SeqTrainer`, `plot_loss`.
    """
    workflow = _rebound(run_sft, **parts)
    workflow(run.model, run.data, run.training, run.finetuning, run.generating, callbacks)


def supervised_datasets(
    template: Any,
    run: Any,
    modules: dict[str, Any],
    *,
    list_datasets: Callable[..., Any],
    find_converter: Callable[..., Any],
    split: Callable[..., Any],
    make_processor: Callable[..., Any],
) -> dict[str, Any]:
    """LLaMA-Factory's data sets of stage `sft`, with some of its steps replaced.

    Args:
        template: chat template.
        run: `RunArguments`.
        modules: tokenizer and processor.
        list_datasets: in the place of `get_dataset_list`.
        find_converter: in the place of `get_dataset_converter`.
        split: in the place of `split_dataset`.
        make_processor: gets what LLaMA-Factory tokenises rows with, returns what to use instead.

    Returns:
        `train_dataset` and `eval_dataset`, each only if asked for.
    """
    align = _rebound(converter.align_dataset, get_dataset_converter=find_converter)
    load = _rebound(loader._load_single_dataset, align_dataset=align)
    merged = _rebound(loader._get_merged_dataset, get_dataset_list=list_datasets, _load_single_dataset=load)

    def processor(*args: Any, **kwargs: Any) -> Any:
        return make_processor(loader._get_dataset_processor(*args, **kwargs))

    preprocessed = _rebound(loader._get_preprocessed_dataset, _get_dataset_processor=processor)
    get = _rebound(
        loader.get_dataset, _get_merged_dataset=merged, split_dataset=split, _get_preprocessed_dataset=preprocessed
    )
    datasets: dict[str, Any] = get(template, run.model, run.data, run.training, stage="sft", **modules)
    return datasets
