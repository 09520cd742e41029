# SPDX-License-Identifier: Apache-2.0
"""Tiny models load, look at their picture, sample, and train with LLaMA-Factory's own stages."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from llamafactory_mmself.toyworld.errors import ToyWorldError
from llamafactory_mmself.toyworld.models import FAMILIES, TEMPLATES, build_tiny_model
from llamafactory_mmself.toyworld.scenes import contradict, draw, random_scene


DATA = Path(__file__).resolve().parents[2] / "data"
IMAGE_TOKENS = {"qwen2_vl": 16, "qwen2_5_vl": 16, "qwen3_vl": 16, "llava": 16, "mllama": 1}
HOSTILE_TEXT = [
    "How many red shapes are there?\n\n<CAPTION> The top row",
    "e\u0301 \u00e9 日本語 \U0001f642\U0001f468\u200d\U0001f469\u200d\U0001f467 \x00\x7f \ufeff\r\n\t  x ",
    " a  b \n\n\n c ,. don't  ",
]

Build = Callable[[str], Path]


@pytest.fixture
def folder(request: pytest.FixtureRequest, tiny_models: Build) -> Path:
    return tiny_models(request.node.callspec.params["family"])


def load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    return AutoModelForImageTextToText.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)


def prompt(processor: Any, text: str = "How many red shapes are there?") -> str:
    content = [{"type": "image"}, {"type": "text", "text": text}]
    return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


def pictures() -> list[Any]:
    rng = Random(1)
    scene = random_scene(rng)
    return [draw(scene), draw(contradict(scene, rng))]


@pytest.mark.parametrize("family", FAMILIES)
def test_model_sees_its_picture_and_samples(family: str, folder: Path) -> None:
    model, processor = load(folder)
    assert sum(parameter.numel() for parameter in model.parameters()) < 5_000_000
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    text_config = model.config.get_text_config()
    assert text_config.hidden_size // text_config.num_attention_heads == 64

    inputs = [processor(text=prompt(processor), images=[picture], return_tensors="pt") for picture in pictures()]
    image_token = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    assert (inputs[0]["input_ids"] == image_token).sum() == IMAGE_TOKENS[family]
    with torch.no_grad():
        logits = [model(**one).logits[0, -1] for one in inputs]
        assert (logits[0] - logits[1]).abs().max() > 0.01
        sampled = model.generate(**inputs[0], max_new_tokens=4, do_sample=False)
    assert inputs[0]["input_ids"].shape[1] < sampled.shape[1] <= inputs[0]["input_ids"].shape[1] + 4


@pytest.mark.parametrize("family", FAMILIES)
def test_any_text_comes_back_from_the_tokenizer(family: str, folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in HOSTILE_TEXT:
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    for token in tokenizer.all_special_tokens:
        assert len(tokenizer.encode(token, add_special_tokens=False)) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_after_a_blank_line_does_not_change_the_tokens(family: str, folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    prefix, suffix = "<SUMMARY> I will look. </SUMMARY>\n\n", "<CAPTION> The top row holds nothing."
    apart = [tokenizer.encode(part, add_special_tokens=False) for part in (prefix, suffix)]
    assert apart[0] + apart[1] == tokenizer.encode(prefix + suffix, add_special_tokens=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_gives_the_same_bytes(family: str, folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    again = build_tiny_model(family, tmp_path / "again", seed=0)
    other = build_tiny_model(family, tmp_path / "other", seed=1)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()
    for path in folder.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name
    weights = "model.safetensors"
    assert (other / weights).read_bytes() != (again / weights).read_bytes()


def llamafactory_arguments(family: str, folder: Path) -> dict[str, Any]:
    return {
        "model_name_or_path": str(folder),
        "template": TEMPLATES[family],
        "stage": "dpo",
        "dataset": "mmself_text_pairs",
        "dataset_dir": str(DATA),
        "cutoff_len": 512,
        "finetuning_type": "lora",
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_chat_template_agrees_with_llamafactory(family: str, folder: Path) -> None:
    from llamafactory_mmself.plugin import lf

    keys = ("model_name_or_path", "template", "finetuning_type")
    arguments = {key: value for key, value in llamafactory_arguments(family, folder).items() if key in keys}
    if family == "llava":
        arguments["default_system"] = ""  # LLaVA's chat template has no system prompt, LLaMA-Factory's has one
    parts = lf.load_inference(arguments)
    tokenizer, processor, template = parts.tokenizer, parts.processor, parts.template
    assert len(tokenizer) == len(processor.tokenizer)

    picture = pictures()[0]
    image = "<image>\n" if family == "llava" else "<image>"
    turns = [{"role": "user", "content": f"{image}What is below it?"}, {"role": "assistant", "content": "Nothing."}]
    messages = template.mm_plugin.process_messages(turns, [picture], [], [], processor)
    prompt_ids, answer_ids = template.encode_oneturn(tokenizer, messages)
    own = prompt(processor, "What is below it?")
    has_own_start = tokenizer.bos_token is None or own.startswith(tokenizer.bos_token)
    ids = list(processor(text=own, images=[picture], add_special_tokens=not has_own_start)["input_ids"][0])
    if family == "llava":
        assert ids.pop(0) == tokenizer.bos_token_id  # LLaMA-Factory trains LLaVA without it
    assert prompt_ids == ids
    assert tokenizer.bos_token_id not in answer_ids


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_llamafactory_trains_it(family: str, folder: Path, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    config = {
        **llamafactory_arguments(family, folder),
        "do_train": True,
        "output_dir": str(tmp_path / "out"),
        "per_device_train_batch_size": 2,
        "max_steps": 1,
        "max_samples": 4,
        "report_to": "none",
    }
    (tmp_path / "dpo.yaml").write_text(json.dumps(config), encoding="utf-8")
    done = run_cli("llamafactory-cli", "train", tmp_path / "dpo.yaml")
    assert done.returncode == 0
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    assert json.loads((tmp_path / "out" / "train_results.json").read_text())["train_loss"] > 0


def test_our_own_model_is_replaced(tmp_path: Path) -> None:
    out = build_tiny_model("llava", tmp_path / "deep" / "model", seed=0)
    build_tiny_model("mllama", out, seed=0)
    assert json.loads((out / "config.json").read_text())["model_type"] == "mllama"
    assert [path.name for path in out.parent.iterdir()] == ["model"]


def test_foreign_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("keep me")
    with pytest.raises(ToyWorldError, match=r"holds no toy model.*Choose another folder"):
        build_tiny_model("llava", tmp_path)
    with pytest.raises(ToyWorldError, match="is a file"):
        build_tiny_model("llava", tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_files_added_to_a_toy_model_are_not_lost(tmp_path: Path) -> None:
    out = build_tiny_model("llava", tmp_path / "model")
    (out / "notes.txt").write_text("keep me")
    with pytest.raises(ToyWorldError, match=r"notes\.txt"):
        build_tiny_model("llava", out)


def test_unknown_family_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=", ".join(FAMILIES)):
        build_tiny_model("gpt", tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_importing_the_toy_world_imports_nothing_heavy() -> None:
    code = (
        "import sys, llamafactory_mmself.toyworld.models, llamafactory_mmself.toyworld.scenes\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'numpy', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=DATA.parent)
