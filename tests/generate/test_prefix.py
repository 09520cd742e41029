# SPDX-License-Identifier: Apache-2.0
"""Requests that begin their answer themselves: engines go on from there, with the ids that training has."""

import json

import pytest

from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.hf import HFEngine
from llamafactory_mmself.generate.openai import OpenAIEngine
from llamafactory_mmself.generate.requests import read_requests
from llamafactory_mmself.generate.types import Completion, EngineError, Request, SamplingParams
from llamafactory_mmself.toyworld.training import shipped_base
from llamafactory_mmself.toyworld.world import WorldOptions, write_world


GREEDY = SamplingParams(temperature=0, max_new_tokens=80)


def test_an_answer_goes_on_as_if_it_had_been_sampled_so_far(tmp_path):
    write_world(tmp_path, WorldOptions(train=2, test=0, captions=0))
    rows = json.loads((tmp_path / "train.json").read_text())
    model = shipped_base("qwen2_vl", WorldOptions())
    engine = HFEngine(EngineConfig(model=str(model), template="qwen2_vl", device="cpu"))
    asked = [
        Request.ask(row["id"], "<image>\nDescribe the picture.", [str(tmp_path / row["images"][0])]) for row in rows
    ]
    whole = [found.text for (found,) in engine.generate(asked, GREEDY, 0)]
    cuts = [text[: text.index(".") + 1] for text in whole]  # the blank belongs to the next word
    begun = [Request(item.id, item.messages, item.images, cut) for item, cut in zip(asked, cuts, strict=True)]
    rest = [found.text for (found,) in engine.generate(begun, GREEDY, 0)]
    assert [cut + text for cut, text in zip(cuts, rest, strict=True)] == whole
    assert all(cuts)


def test_prefix_ids_follow_the_prompts(family_engine, shapes):
    encoder = family_engine.encoder
    plain = Request.ask("a", "<image>\nWhat is shown?", [shapes[0]])
    begun = Request.ask("a", "<image>\nWhat is shown?", [shapes[0]], "I see a red")
    given = encoder.rows.tokenizer.encode("I see a red", add_special_tokens=False)
    assert list(encoder.encode(begun).ids) == [*encoder.encode(plain).ids, *given]


def test_a_blank_between_prefix_and_completion_is_kept(family_engine):
    encoder = family_engine.encoder
    begun = Request.ask("a", "What?", (), "I see a red circle.")
    ids = encoder.rows.tokenizer.encode("I see a red circle. It is there", add_special_tokens=False)
    given = encoder.rows.tokenizer.encode("I see a red circle.", add_special_tokens=False)
    assert ids[: len(given)] == given
    rest = ids[len(given) :]
    completion = Completion(encoder.decode(rest), tuple(rest), "stop")
    assert encoder.joined(begun, completion).text == " It is there"
    plain = Request.ask("a", "What?")
    assert encoder.joined(plain, completion) is completion


def test_a_requests_file_holds_prefixes(tmp_path):
    begun, plain = Request.ask("a", "What?", (), "I see"), Request.ask("b", "What?")
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps(item.to_row()) + "\n" for item in (begun, plain)))
    assert read_requests(path) == [begun, plain] and "prefix" not in plain.to_row()
    path.write_text('{"id": "a", "prompt": "What?", "prefix": 3}\n')
    with pytest.raises(ValueError, match="field `prefix`: text is expected"):
        read_requests(path)


def test_an_endpoint_is_not_asked_to_go_on():
    engine = OpenAIEngine(EngineConfig(name="openai", api_base="http://127.0.0.1:9/v1", api_model="m"))
    with pytest.raises(EngineError, match="'a' begins its answer itself"):
        engine.generate([Request.ask("a", "What?", (), "I see")], GREEDY, 0)
