# SPDX-License-Identifier: Apache-2.0
"""What the log-probs of a reference depend on, besides the sample: weights, precision, pictures' processing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from peft import PeftModel
from torch import nn

from ..files import FileError, digest, read_json, write_json
from ..tree.unwrap import bare_model
from .base import RunArguments
from .ranks import from_first


#: Changes whenever cached log-probs change their meaning.
CACHE_VERSION = 1

#: Model arguments that change log-probs. What a model's files, adapters and processor are is looked at apart.
MODEL_ARGUMENTS = (
    *("resize_vocab", "add_tokens", "add_special_tokens", "new_special_tokens_config", "init_special_tokens"),
    *("rope_scaling", "flash_attn", "shift_attn", "mixture_of_depths", "train_from_scratch", "compute_dtype"),
    *("use_unsloth", "enable_liger_kernel", "use_v1_kernels", "use_kt", "upcast_layernorm", "upcast_lmhead_output"),
    *("quantization_method", "quantization_bit", "quantization_type", "double_quantization"),
)
#: Parts of the encoded rows' fingerprint that say how pictures become pixels, and what computes with them.
ENCODING_PARTS = ("processor", "image_pixels", "video", "packages")

#: Files of a model or adapter that its log-probs depend on.
MODEL_FILES = ("config.json", "adapter_config.json", "*.safetensors", "*.bin", "*.gguf", "*.py")
#: Digests of such files by path, size and time, so that they are read once a machine.
DIGESTS_FILE = "weights.json"


def reference_key(run: RunArguments, encoding: Mapping[str, str], model: nn.Module, folder: Path) -> dict[str, Any]:
    """The parts of a reference's key: name -> what is JSON.

    Args:
        run: arguments of the run.
        encoding: the fingerprint of the encoded rows.
        model: the policy as it was loaded.
        folder: of all caches; digests of weights are remembered there.
    """
    model_args, finetuning, training = run.model, run.finetuning, run.training
    if finetuning.ref_model is not None:
        kind, base, adapters = "ref_model", finetuning.ref_model, _names(finetuning.ref_model_adapters)
    else:
        kind = "adapter off" if isinstance(model, PeftModel) else "policy"
        base, adapters = model_args.model_name_or_path, model_args.adapter_name_or_path or []
    reads = training.process_index == 0  # tens of gigabytes: one process is enough
    weights = from_first([_model_digest(name, model_args, folder) for name in (base, *adapters)] if reads else [])
    config: Any = bare_model(model).config
    random = model_args.resize_vocab or model_args.train_from_scratch
    key = {
        "version": CACHE_VERSION,
        "reference": kind,
        "weights": weights,
        "attention": config._attn_implementation,
        "precision": {name: vars(training)[name] for name in ("bf16", "fp16", "tf32")}
        | {"pure_bf16": finetuning.pure_bf16, "device": training.device.type},
        "seed of random weights": training.seed if random else None,
        "length that positions are scaled for": model_args.model_max_length if model_args.rope_scaling else None,
        **{name: vars(model_args)[name] for name in MODEL_ARGUMENTS},
        **{part: encoding[part] for part in ENCODING_PARTS},
    }
    if kind == "ref_model":
        key["quantization_bit"] = finetuning.ref_model_quantization_bit
    plain: dict[str, Any] = json.loads(json.dumps(key, default=str))
    return plain


def _names(adapters: str | None) -> list[str]:
    return [name.strip() for name in adapters.split(",")] if adapters else []


def _model_digest(name: str, model_args: Any, folder: Path) -> list[str]:
    """The digests of a model's or adapter's files, without their paths: a copy elsewhere is the same model."""
    where = Path(name)
    if not where.is_dir():
        revision, cache = model_args.model_revision, model_args.cache_dir
        where = Path(snapshot_download(name, revision=revision, cache_dir=cache, local_files_only=True))
    files = sorted({file for pattern in MODEL_FILES for file in where.glob(pattern)})
    known = _known_digests(folder / DIGESTS_FILE)
    found = {}
    for file in files:
        stat = os.stat(file)
        entry = f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns}"
        found[entry] = known.get(entry) or digest(file)
    if not known.keys() >= found.keys():
        write_json(folder / DIGESTS_FILE, {**_known_digests(folder / DIGESTS_FILE), **found})
    return [f"{file.name} {value}" for file, value in zip(files, found.values(), strict=True)]


def _known_digests(path: Path) -> dict[str, str]:
    try:
        known: dict[str, str] = read_json(path)
    except FileError:  # not there yet, or damaged: it only saves time
        return {}
    return known
