# SPDX-License-Identifier: Apache-2.0
"""LLaMA-Factory, as the rest of the package sees it. No other module imports it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from llamafactory.data.converter import DATASET_CONVERTERS, get_dataset_converter
from llamafactory.data.data_utils import merge_dataset
from llamafactory.data.loader import _load_single_dataset
from llamafactory.data.mm_plugin import BasePlugin
from llamafactory.data.parser import DatasetAttr, get_dataset_list
from llamafactory.data.template import get_template_and_fix_tokenizer
from llamafactory.extras import logging
from llamafactory.extras.constants import DATA_CONFIG, MROPE_MODELS
from llamafactory.extras.ploting import plot_loss
from llamafactory.hparams import get_train_args, read_args
from llamafactory.model import load_model, load_tokenizer
from llamafactory.train.callbacks import SaveProcessorCallback
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
from .templates import rejected_crop


__all__ = [
    "DATA_CONFIG",
    "DatasetAttr",
    "SaveProcessorCallback",
    "convert_row",
    "create_custom_optimizer",
    "create_custom_scheduler",
    "create_modelcard_and_push",
    "create_ref_model",
    "family",
    "get_dataset_list",
    "get_logger",
    "get_template_and_fix_tokenizer",
    "get_train_args",
    "load_model",
    "load_raw_dataset",
    "load_tokenizer",
    "merge_dataset",
    "plot_loss",
    "read_args",
    "rejected_crop",
    "row_encoder",
]


def get_logger(name: str) -> Any:
    """A logger below LLaMA-Factory's own, so that its handlers and its verbosity hold for ours."""
    return logging.get_logger(f"llamafactory.{name.removeprefix('llamafactory_')}")


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

    types = {plugin.image_token: 1, plugin.video_token: 2}
    return Family(
        image_inputs=image_inputs,
        cross_inputs=_cross_inputs(plugin, processor) if kind in CROSS else None,
        shares_tower=kind in SCATTERED,
        rope_index=model.model.get_rope_index if kind in MROPE_MODELS else None,
        token_types={tokenizer.convert_tokens_to_ids(token): value for token, value in types.items() if token},
        filler=_filler(plugin, tokenizer, processor),
    )


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
