# SPDX-License-Identifier: Apache-2.0
"""Prompts have the same token ids in sampling, in stock training and in the tree stages."""

import pytest
from PIL import Image

from llamafactory_mmself.data.encode import encode_pairs
from llamafactory_mmself.data.rows import PreferenceRow, Turn
from llamafactory_mmself.generate.config import PIXELS, EngineConfig
from llamafactory_mmself.generate.encoding import ImageFact, check_requests, estimated_lengths, inspect_images
from llamafactory_mmself.generate.types import EngineError, Message, Request


ANSWER = "A red circle."


def conversation(shapes):
    """Two turns with a system message and a picture."""
    turns = (
        Message("system", "You are kind."),
        Message("user", "<image>\nWhat is shown?"),
        Message("assistant", "A shape."),
        Message("user", "Which one?"),
    )
    return Request("talk", turns, (shapes[0],))


def sft_prompt(engine, request):
    """Ids in front of the answer in a row of LLaMA-Factory's stock `sft`."""
    from llamafactory.data.processor import SupervisedDatasetProcessor
    from llamafactory.hparams import DataArguments

    parts = engine.parts
    arguments = DataArguments(template="unused", cutoff_len=4096, mask_history=True)
    processor = SupervisedDatasetProcessor(parts.template, parts.tokenizer, parts.processor, arguments)
    turns = [{"role": turn.role, "content": turn.content} for turn in request.messages if turn.role != "system"]
    system = "".join(turn.content for turn in request.messages if turn.role == "system")
    ids, labels = processor._encode_data_example(
        turns, [{"role": "assistant", "content": ANSWER}], system, "", list(request.images), [], []
    )
    first = next(place for place, label in enumerate(labels) if label >= 0)
    assert parts.tokenizer.decode(labels[first:], skip_special_tokens=True).strip() == ANSWER
    return ids[:first]


def tree_prompt(engine, request):
    """Ids of the prompt node in our preference stages."""
    system = "".join(turn.content for turn in request.messages if turn.role == "system")
    turns = tuple(Turn(turn.role, turn.content) for turn in request.messages if turn.role != "system")
    row = PreferenceRow("k", "rows.json", 1, system, "", turns, ANSWER, ("Nothing.",), request.images)
    (record,), faults = encode_pairs(row, engine.encoder.rows)
    assert not faults
    return record["prompt"]


@pytest.mark.parametrize("family", ["qwen2_vl", "llava", "mllama"])
def test_prompt_ids_are_those_of_training(family, tiny_engine, mixed, shapes):
    engine = tiny_engine(family)
    for request in [*mixed, conversation(shapes)]:
        ids = list(engine.encoder.encode(request).ids)
        assert ids == sft_prompt(engine, request), request.id
        assert ids == tree_prompt(engine, request), request.id


def test_a_broken_picture_is_named_with_its_request(tmp_path):
    whole = tmp_path / "whole.png"
    Image.new("RGB", (64, 64), "red").save(whole)
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(EngineError, match=r"Request 'b': image .*cut.png cannot be read"):
        inspect_images([Request.ask("a", "<image>", [str(whole)]), Request.ask("b", "<image>", [str(cut)])])
    with pytest.raises(EngineError, match=r"Request 'c': there is no image .*none.png"):
        inspect_images([Request.ask("c", "<image>", [str(tmp_path / "none.png")])])


@pytest.mark.parametrize(
    ("requests", "text"),
    [
        ([], "no requests"),
        ([Request.ask("a", "x"), Request.ask("a", "y")], "'a' comes twice"),
        ([Request.ask("a", "x", ["p.png"])], "'a' has 1 images and 0 <image> placeholders"),
        ([Request("a", ())], "'a': the last message has to be a user's"),
        ([Request("a", (Message("user", "x"), Message("user", "y")))], "'a': user and assistant have to take turns"),
        ([Request("a", (Message("user", "x"), Message("system", "y"), Message("user", "z")))], "have to take turns"),
    ],
)
def test_requests_are_checked(requests, text):
    with pytest.raises(EngineError, match=text):
        check_requests(requests)


def test_lengths_grow_with_text_and_pixels(mixed):
    text, circle, two = estimated_lengths([mixed[2], mixed[0], mixed[4]], inspect_images(mixed), PIXELS)
    assert text < circle < two


def test_lengths_are_those_of_pictures_within_the_limits():
    facts = {"huge": ImageFact("", 4000, 3000), "large": ImageFact("", 768, 768), "dot": ImageFact("", 1, 1)}
    huge, large, dot = (Request.ask(name, "<image>", [name]) for name in facts)
    usual = estimated_lengths([huge, large, dot], facts, EngineConfig().pixels)
    assert usual[0] == usual[1] > 700 and usual[2] < 5
    config = EngineConfig(llamafactory={"image_max_pixels": 28 * 28 * 10, "image_min_pixels": 28 * 28 * 10})
    assert len(set(estimated_lengths([huge, large, dot], facts, config.pixels))) == 1


def test_the_usual_limits_are_those_of_llamafactory():
    from llamafactory.hparams import ModelArguments

    usual = ModelArguments(model_name_or_path="unused")
    assert (usual.image_min_pixels, usual.image_max_pixels) == PIXELS
