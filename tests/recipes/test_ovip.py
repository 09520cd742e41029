# SPDX-License-Identifier: Apache-2.0
"""OViP's offline set: from samples to rows with two pictures, also after a kill."""

import base64
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from llamafactory_mmself.cli import main
from llamafactory_mmself.files import write_json, write_jsonl
from llamafactory_mmself.generate.services import NegativeCheck, PaintFailure, Picture, ServiceDead, Services
from llamafactory_mmself.generate.types import Completion, Message, Sample
from llamafactory_mmself.recipes.ovip import OvipOptions, build, prompt_requests, write_rows
from llamafactory_mmself.recipes.ovip_prompts import read_prompts
from llamafactory_mmself.recipes.records import RecipeError
from llamafactory_mmself.toyworld.scenes import caption, contradict
from llamafactory_mmself.toyworld.seeing import look
from llamafactory_mmself.toyworld.world import WorldOptions, write_world
from tests.generate.fake_server import FakeServer, choices


@dataclass
class Scripted:
    """A judge that finds the score in the response ("... 7"), and a painter of colours; dies when it is told to."""

    policy: str = "scripted 1"
    dies_after: int | None = None
    size: int = 8
    scored: list = field(default_factory=list)
    described: list = field(default_factory=list)
    painted: list = field(default_factory=list)

    def score(self, items):
        if self.dies_after is not None and len(self.scored) >= self.dies_after:
            raise ServiceDead("judge", "The judge is dead.")
        self.scored += items
        last = [item.response.split()[-1] for item in items]
        return [float(word) if word.isdigit() else None for word in last]

    def describe(self, items):
        self.described += items
        return [f"like {item.rejected}" for item in items]

    def paint(self, requests):
        self.painted += requests
        return [self._paint(item) for item in requests]

    def _paint(self, item):
        if "unpaintable" in item.prompt:
            return PaintFailure("no")
        out = io.BytesIO()
        Image.new("RGB", (self.size, self.size), (item.seed % 256, 0, 0)).save(out, format="PNG")
        return Picture(out.getvalue())

    def check(self, items):
        return [NegativeCheck("ugly" not in item.description, "too ugly", {"difference": 0.5}) for item in items]

    def counts(self):
        return {"asked": len(self.scored)}


def services(script):
    return Services(script, script, script, script, attempts=2)


@pytest.fixture
def prompts(tmp_path, shapes):
    """Three of OViP's rows; two are the same."""

    def row(question, chosen, image):
        return {
            "conversations": [{"from": "human", "value": f"<image>\n{question}"}],
            "chosen": {"from": "gpt", "value": chosen},
            "rejected": {"from": "gpt", "value": "..."},
            "images": [image, image],
        }

    rows = [row("What is it?", "A truth.", shapes[0]), row("Where?", "There.", shapes[1])]
    write_json(tmp_path / "ovip.json", [*rows, rows[0]])
    return read_prompts(tmp_path / "ovip.json")


def sampled(prompts, *groups):
    return [
        Sample(f"{request.id}#{k}", request.id, k, "policy-1", Completion(text, (), "stop"))
        for request, texts in zip(prompt_requests(prompts), groups, strict=True)
        for k, text in enumerate(texts)
    ]


GROUPS = (
    ["good 9", "bad 1", "good 9", "fine 8", "no score", " ", "shows <image> 3"],
    ["ugly 2", "best 10"],
    ["unpaintable 1", "weak 4"],
)


def test_requests_have_ids_of_their_own(prompts):
    first, second, third = prompt_requests(prompts)
    assert third.id == f"{first.id}~2"
    assert first.messages == (Message("user", "<image>\nWhat is it?"),)
    assert len(first.images) == len(second.images) == 1


def test_rows_and_counts(prompts, tmp_path, shapes):
    script = Scripted()
    built = build(prompts, sampled(prompts, *GROUPS), services(script), OvipOptions(), tmp_path, "set", 0)
    assert built.counts == {
        "prompts": 3,
        "responses": 11,
        "different responses": 8,
        "without a score": 1,
        "prompts without a pair": 0,
        "pairs: gap": 2,
        "pairs: reference": 1,
        "left out: too ugly": 1,
        "left out: not painted": 1,
        "rows": 1,
    }
    (row,) = built.rows
    assert (row.chosen, row.rejected) == ("good 9", "bad 1")
    assert len(script.painted) == 5  # the others twice
    assert script.scored[0].question == "What is it?" and script.scored[0].reference == "A truth."
    path = write_rows(tmp_path, "set", built.rows)
    (written,) = json.loads(path.read_text())
    assert written["images"] == [shapes[0]] and written["rejected_images"][0].startswith("set_images/")
    provenance = json.loads(written["provenance"])
    first = prompt_requests(prompts)[0].id
    assert provenance["chosen"] == {"sample": f"{first}#0", "score": 9.0}
    assert provenance["rejected"] == {"sample": f"{first}#1", "score": 1.0}
    assert provenance["description"] == "like bad 1"
    assert provenance["figures"] == {"difference": 0.5}
    assert provenance["services"]["painter"] == "scripted 1"
    assert main(["validate", "set", "--dataset_dir", str(tmp_path)]) == 0


def test_the_reference_stands_in_for_a_chosen_response(prompts, tmp_path):
    built = build(prompts[:1], sampled(prompts[:1], ["bad 1"]), services(Scripted()), OvipOptions(), tmp_path, "s", 0)
    assert (built.rows[0].chosen, built.rows[0].provenance["chosen"]) == (
        "A truth.",
        {"sample": "reference", "score": 11.0},
    )
    alone = OvipOptions(online_only=True)
    built = build(prompts[:1], sampled(prompts[:1], ["bad 1"]), services(Scripted()), alone, tmp_path, "s", 0)
    assert not built.rows and built.counts["prompts without a pair"] == 1


def test_a_build_that_died_goes_on(prompts, tmp_path):
    samples = sampled(prompts, ["good 9", "bad 1"], ["fine 8", "poor 0"], ["best 10", "worst 0"])
    options = OvipOptions(chunk=1)
    whole = build(prompts, samples, services(Scripted()), options, tmp_path / "whole", "set", 0)
    dying = Scripted(dies_after=2)
    with pytest.raises(ServiceDead):
        build(prompts, samples, services(dying), options, tmp_path / "killed", "set", 0)
    with open(tmp_path / "killed" / "set_pairs.jsonl", "a") as file:
        file.write('{"key": "torn')  # as a kill leaves it
    again = Scripted()
    built = build(prompts, samples, services(again), options, tmp_path / "killed", "set", 0)
    assert len(dying.scored) == 2 and len(again.scored) == 4
    assert built.counts == whole.counts
    assert [row.provenance for row in built.rows] == [row.provenance for row in whole.rows]
    names = [[Path(row.negative).name for row in part.rows] for part in (built, whole)]
    assert names[0] == names[1] and len(names[0]) == 3
    once_more = Scripted()
    assert build(prompts, samples, services(once_more), options, tmp_path / "killed", "set", 0).counts == built.counts
    assert not once_more.scored
    Path(built.rows[1].negative).unlink()  # a picture that is gone is painted again
    build(prompts, samples, services(once_more), options, tmp_path / "killed", "set", 0)
    assert len(once_more.scored) == 2 and Path(built.rows[1].negative).is_file()
    other = Scripted(size=30)  # a painter that does not paint the same again
    Path(built.rows[1].negative).unlink()
    painted = build(prompts, samples, services(other), options, tmp_path / "killed", "set", 0).rows[1].negative
    assert painted != built.rows[1].negative and Path(painted).is_file()


@pytest.mark.parametrize("changed", ["seed", "options", "judge", "samples"])
def test_what_a_row_depends_on_makes_it_anew(prompts, tmp_path, changed):
    samples = sampled(prompts[:1], ["good 9", "bad 1"])
    build(prompts[:1], samples, services(Scripted()), OvipOptions(), tmp_path, "set", 0)
    script = Scripted(policy="scripted 2" if changed == "judge" else "scripted 1")
    options = OvipOptions(pair_rule="paper") if changed == "options" else OvipOptions()
    if changed == "samples":
        samples = sampled(prompts[:1], ["good 9", "bad 0"])
    build(prompts[:1], samples, services(script), options, tmp_path, "set", int(changed == "seed"))
    assert len(script.scored) == 2


def test_what_cannot_be_built_is_told(prompts, tmp_path):
    with pytest.raises(RecipeError, match="answers none of the prompts"):
        build(
            prompts,
            [Sample("x#0", "x", 0, "p", Completion("a", (), "stop"))],
            services(Scripted()),
            OvipOptions(),
            tmp_path,
            "set",
            0,
        )
    with pytest.raises(RecipeError, match="`chunk`"):
        OvipOptions(chunk=0)
    with pytest.raises(ValueError, match="pair_rule"):
        OvipOptions(pair_rule="mine")
    write_json(tmp_path / "text.json", [{"id": "a", "question": "Why?", "answer": "So."}])
    with pytest.raises(RecipeError, match="a prompt with pictures"):
        prompt_requests(read_prompts(tmp_path / "text.json"))


def test_the_command_writes_requests(prompts, tmp_path, capsys):
    line = ["build", "ovip", "--ds_path", str(tmp_path / "ovip.json"), "--out", str(tmp_path), "--name", "set"]
    assert main([*line, "--requests", str(tmp_path / "asked.jsonl")]) == 0
    assert len((tmp_path / "asked.jsonl").read_text().splitlines()) == 3
    assert main(line) == 2
    assert "Give --services" in capsys.readouterr().err


def test_the_command_samples_scores_and_paints(tmp_path, capsys):
    write_world(tmp_path / "world", WorldOptions(train=1, test=1, captions=2))
    rng = Random(0)

    def answer(body, number):
        """The picture's caption, and one of a scene with two other things."""
        _, _, data = body["messages"][0]["content"][0]["image_url"]["url"].partition(",")
        scene = look(base64.b64decode(data))
        return choices(caption(scene), caption(contradict(contradict(scene, rng), rng)))

    server = FakeServer(answer)
    line = ["build", "ovip", "--ds_path", str(tmp_path / "world" / "captions.json"), "--services", "toy"]
    line += ["--engine", "openai", "--api_base", server.base, "--api_model", "m", "--n", "2", "--max_new_tokens", "64"]
    line += ["--pair_rule", "published", "--out", str(tmp_path / "set"), "--name", "set"]
    try:
        assert main(line) == 0
        assert main(line) == 0
    finally:
        server.close()
    assert len(server.bodies) == 2  # the second time everything is there already
    assert {body["temperature"] for body in server.bodies} == {1.2}
    told = capsys.readouterr().out
    assert "prompts: 2\nresponses: 4\n" in told and "judge: asked 4" in told and "judge: asked 0" in told
    rows = json.loads((tmp_path / "set" / "set.json").read_text())
    assert rows
    for row in rows:
        assert caption(look(row["images"][0])) == row["chosen"]["value"]
        assert caption(look(tmp_path / "set" / row["rejected_images"][0])) == row["rejected"]["value"]


def test_published_rows_become_a_set(shared_data, tmp_path):
    path = shared_data / "ovip_sample" / "data" / "ovip_sample.json"
    prompts = read_prompts(path)
    samples = sampled(prompts, *([row.chosen + " 9", "Nothing at all 1"] for row in prompts))
    built = build(prompts, samples, services(Scripted()), OvipOptions(), tmp_path, "set", 0)
    assert len(built.rows) == 12 and len({row.id for row in built.rows}) == 12
    write_rows(tmp_path, "set", built.rows)
    assert main(["validate", "set", "--dataset_dir", str(tmp_path)]) == 0
    write_jsonl(tmp_path / "rows.jsonl", [row.to_row(tmp_path) for row in built.rows])
