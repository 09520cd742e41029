# SPDX-License-Identifier: Apache-2.0
"""Writes a tiny model to a folder."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ToyWorldError


if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from .parts import Parts

# The LLaMA-Factory template that fits each family.
TEMPLATES = {
    "qwen2_vl": "qwen2_vl",
    "qwen2_5_vl": "qwen2_vl",
    "qwen3_vl": "qwen3_vl_nothink",
    "llava": "llava",
    "mllama": "mllama",
}
FAMILIES = tuple(TEMPLATES)
MARKER = "toy_model.json"  # names the files that we wrote, so that we only ever replace our own


def build_tiny_model(family: str, out: Path, seed: int = 0) -> Path:
    """Writes a vision-language model with random weights, under 5 million parameters, as a complete checkpoint.

    The same seed gives the same bytes. The caller's random number generators are left alone.

    Args:
        family: one of `FAMILIES`.
        out: the folder to write; a toy model that is there already is replaced, anything else is refused.
        seed: where the weights come from.

    Returns:
        `out`.

    Raises:
        ToyWorldError: the family is not known, or `out` holds something else than a toy model.
    """
    out = Path(out)
    if family not in FAMILIES:
        raise ToyWorldError(f"Unknown model family {family!r}. Choose one of: {', '.join(FAMILIES)}.")
    _refuse_foreign(out)
    parts = _parts(family)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        fresh = Path(scratch) / "new"
        model = _random_model(parts.config, seed)
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            setattr(model.config, name, getattr(parts.processor.tokenizer, name))
            setattr(model.generation_config, name, parts.generation.get(name))
        model.save_pretrained(fresh)
        parts.processor.save_pretrained(fresh)
        marker = {"family": family, "seed": seed, "files": sorted({MARKER, *os.listdir(fresh)})}
        (fresh / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
        if out.exists():
            out.rename(Path(scratch) / "old")
        fresh.rename(out)
    return out


def _parts(family: str) -> Parts:
    if family == "llava":
        from .llava import llava_parts

        return llava_parts()
    if family == "mllama":
        from .mllama import mllama_parts

        return mllama_parts()
    from .qwen import qwen_parts

    return qwen_parts(family)


def _random_model(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForImageTextToText

    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed the GPUs
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("gate", "gate_attn", "gate_ffn")):
                parameter.fill_(0.5)  # Mllama starts with closed gates: the image would change nothing
    return model


def _refuse_foreign(out: Path) -> None:
    if not out.exists():
        return
    remedy = "Choose another folder, or move it away first."
    if not out.is_dir():
        raise ToyWorldError(f"{out} is a file, not a folder for a toy model. {remedy}")
    present = {path.name for path in out.iterdir()}
    if not present:
        return
    if MARKER not in present:
        raise ToyWorldError(f"{out} is not empty and holds no toy model (no {MARKER}). {remedy}")
    ours = json.loads((out / MARKER).read_text(encoding="utf-8"))["files"]
    if foreign := sorted(present - set(ours)):
        raise ToyWorldError(f"{out} holds files beside the toy model: {', '.join(foreign)}. {remedy}")
