# SPDX-License-Identifier: Apache-2.0
"""R3V's builders against what the published ones built from the same samples."""

import json
from dataclasses import replace

import pytest

from llamafactory_mmself.data.questions import Question
from llamafactory_mmself.generate.types import Completion, Sample
from llamafactory_mmself.recipes import r3v
from llamafactory_mmself.recipes.examples import Example
from llamafactory_mmself.recipes.r3v import R3VOptions
from llamafactory_mmself.recipes.records import Checked, verify_samples


VARIANTS = {
    "build_qwen2vl_train": ("geoqa", "geoqa"),
    "build_chartqa": ("chartqa", "chartqa"),
    "build_clevr": ("clevr", "clevr"),
    "build_tabmwp": ("tabmwp", "tabmwp"),
}
QUIRKS = ("fixed", "published")


@pytest.fixture(scope="module")
def cases(shared_golden) -> dict[str, list]:
    groups: dict[str, list] = {}
    for case in json.loads((shared_golden / "r3v.json").read_text(encoding="utf-8"))["vectors"]:
        groups.setdefault(case["group"], []).append(case)
    return groups


def records(cases, group: str) -> list:
    """The cases of a group that are about one question; another one sums up."""
    return [case for case in cases[group] if "qid" in case["input"]]


def question_of(record) -> Question:
    choices = record.get("choices")
    gold = record["gold"]
    if choices and gold in choices:
        gold = "ABCDEFGH"[choices.index(gold)]
    unit = {"unit": record["unit"]} if record.get("unit") else {}
    return Question(record["qid"], record["question"], gold, (), tuple(choices) if choices else None, unit)


def pool_of(record, profile: str) -> list[Checked]:
    question, pool = question_of(record), []
    for item in record["samples"]:
        sample = Sample(item["sid"], question.id, item["k"], "policy", Completion(item["text"], (), "stop"))
        pool += verify_samples([question], [sample], profile, item["iteration"])
    return pool


def build(record, group: str, quirks: str, prompts, **options) -> list[Example]:
    variant, profile = VARIANTS[group]
    pool = pool_of(record, profile if quirks == "fixed" else f"{profile}-published")
    settings = replace(R3VOptions(variant=variant, quirks=quirks), **options)
    return r3v.build([question_of(record)], pool, settings, prompts, seed=0)


def summary(examples: list[Example]) -> dict:
    def of(kind: str) -> list[Example]:
        return [example for example in examples if example.kind == kind]

    def shown(example: Example) -> list[str]:
        return [item["id"] for item in example.provenance["shown"]]

    refined = [{"negative_shown": shown(item), "target": item.provenance["target"]["id"]} for item in of("refine")]
    selected = [{"candidates_unordered": sorted(shown(item)), "target": item.target} for item in of("select")]
    cot = [item.provenance["target"]["id"] for item in of("cot")]
    assert len(cot) <= 1 and len(refined) <= 1
    return {
        "cot": cot[0] if cot else None,
        "refine": refined[0] if refined else None,
        "select": sorted(selected, key=str),
    }


@pytest.mark.parametrize("quirks", QUIRKS)
@pytest.mark.parametrize("group", VARIANTS)
def test_same_samples_in_the_same_places(cases, prompts, group, quirks):
    assert records(cases, group)
    for case in records(cases, group):
        wanted = case["seed_result"]
        built = summary(build(case["input"], group, quirks, prompts))
        expected = {"cot": wanted["cot"], "refine": wanted["refine"], "select": sorted(wanted["select"], key=str)}
        assert built == expected, case["id"]


@pytest.mark.parametrize("quirks", QUIRKS)
def test_same_samples_are_right(cases, quirks):
    for case in records(cases, "build_qwen2vl_train"):
        pool = pool_of(case["input"], "geoqa" if quirks == "fixed" else "geoqa-published")
        assert {item.sample.id: item.verdict.correct for item in pool} == case["seed_result"]["correct"], case["id"]


def test_targets_are_the_samples_texts(cases, prompts):
    for group in VARIANTS:
        for case in records(cases, group):
            texts = {item["sid"]: item["text"].strip() for item in case["input"]["samples"]}
            for example in build(case["input"], group, "fixed", prompts):
                if example.kind in ("cot", "refine"):
                    assert example.target == texts[example.provenance["target"]["id"]]
                for item in example.provenance.get("shown", []):
                    assert texts[item["id"]] in example.prompt


def test_a_test_question_shows_all_candidates(cases, prompts):
    (case,) = cases["build_qwen2vl_test_select"]
    shown = {item["qid"]: item for item in case["seed_result"]["per_question"]}
    known = [item["input"] for item in records(cases, "build_qwen2vl_train") if item["input"]["qid"] in shown]
    assert known
    questions = [question_of(record) for record in known]
    candidates = {record["qid"]: [item["text"] for item in record["samples"][:3]] for record in known}
    requests = r3v.select_requests(questions, candidates, prompts, seed=0)
    assert [request.id for request in requests] == [question.id for question in questions]
    for request, record in zip(requests, known, strict=True):
        texts = {item["sid"]: item["text"] for item in record["samples"][:3]}
        (message,) = request.messages
        found = [sid for sid, text in texts.items() if text in message.content]
        assert found == shown[request.id]["candidates_unordered"]
        letter = question_of(record)
        assert R3VOptions(variant="geoqa").rules.target(letter, []) == shown[request.id]["gold_carried"]


@pytest.mark.parametrize("quirks", QUIRKS)
def test_drawn_sets_keep_the_published_invariants(cases, prompts, quirks):
    for case in records(cases, "build_qwen2vl_train"):
        right = {item.sample.id for item in pool_of(case["input"], "geoqa") if item.verdict.correct}
        for seed in range(10):
            variant = R3VOptions(variant="geoqa", quirks=quirks, select_candidates=(2, 3, 4, 5, 6))
            pool = pool_of(case["input"], "geoqa")
            rows = [
                item
                for item in r3v.build([question_of(case["input"])], pool, variant, prompts, seed)
                if item.kind == "select"
            ]
            sizes = [len(item.provenance["shown"]) for item in rows]
            assert all(2 <= size <= 6 and sizes.count(size) <= 3 for size in sizes)
            for row in rows:
                ids = [item["id"] for item in row.provenance["shown"]]
                assert len(set(ids)) == len(ids)
                assert right & set(ids) and set(ids) - right
                assert row.target == f"Answer:\n {case['input']['gold']}"


def test_question_block(cases):
    for case in records(cases, "build_tabmwp"):
        if not case["input"]["choices"]:  # how options are shown is wording
            assert question_of(case["input"]).block == case["seed_result"]["question_block_without_instruction"]
