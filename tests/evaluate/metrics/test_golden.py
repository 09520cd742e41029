# SPDX-License-Identifier: Apache-2.0
"""The published code's cases: all of them under `published`, and those that rest on no defect by default, too."""

import json

import pytest

from llamafactory_mmself.evaluate.metrics import Answer, Item, metric
from llamafactory_mmself.evaluate.metrics.columns import harmonic
from llamafactory_mmself.evaluate.metrics.indexes import HRI, hri
from llamafactory_mmself.evaluate.metrics.llava_bench import Pair, published_pair
from llamafactory_mmself.evaluate.metrics.rationale import bleu, rouge_l
from llamafactory_mmself.evaluate.metrics.reading import RULES


def graded(rule, text, answer, prompt="?"):
    return bool(RULES[rule][1](Answer(Item("1", prompt, (), {"answer": answer}), text)).right)


def test_cvbench(golden):
    for label, text, right in golden("ovip.json", "graders")["cvbench"]:
        assert graded("cvbench", text, label) == right, (label, text)


def test_realworldqa(golden):
    for prompt, label, text, right in golden("ovip.json", "graders")["realworldqa"]:
        assert graded("realworldqa", text, label, prompt) == right, (prompt, label, text)


def test_llava_bench_pairs(golden):
    for text, pair in golden("ovip.json", "graders")["llavabench_pair"]:
        assert list(published_pair(text)) == pair, text
        if pair != [-1, -1]:
            assert list(Pair().parse(text)) == pair, text


def test_f1_of_the_summary(golden):
    cases = golden("ovip.json", "graders")["summary_f1"]
    amber, out = cases["amber_gen_in"], cases["amber_gen_out_[CHAIR,Cover,Hal,Cog,F1]"]
    assert harmonic(100 - amber["CHAIR"], amber["Cover"]) == pytest.approx(out[-1], abs=1e-6)
    coco, out = cases["objecthal_in"], cases["objecthal_out_[CHAIRs,F1,len]"]
    assert harmonic(coco["object_correct"], coco["object_recall"]) == pytest.approx(out[1], abs=1e-6)


@pytest.fixture
def amber(golden, tmp_path):
    case = golden("ovip.json", "graders")["amber_official"]
    (tmp_path / "relation.json").write_text(json.dumps(case["association"]))
    (tmp_path / "safe_words.txt").write_text("\n".join(case["global_safe_words"]))
    pairs = [set(pair) for pair in case["similar_pairs_above_threshold"] if isinstance(pair, list)]
    options = {
        "association": tmp_path / "relation.json",
        "safe_words": tmp_path / "safe_words.txt",
        "nouns": lambda text: case["nouns_per_response"][text],
        "similarity": lambda one, other: float(one == other or {one, other} in pairs),
    }
    printed = {}
    section = ""
    for line in case["stdout"]:
        name, _, value = line.partition(":")
        if value.strip():
            printed[section, name] = float(value)
        elif name:
            section = name
    return case, options, printed


@pytest.mark.parametrize("quirks", ["published", "fixed"])
def test_amber_descriptions(amber, quirks):
    case, options, printed = amber
    notes = [note for note in case["annotations"] if note["type"] == "generative"]
    answers = [Answer(Item(str(note["id"]), "", (), note), str(note["id"])) for note in notes]
    scorer = metric("amber_generative", quirks=quirks, **options)
    found = scorer.figures(scorer.columns(answers))
    names = {"CHAIR": "chair", "Cover": "cover", "Hal": "hal", "Cog": "cog"}
    for name, figure in names.items():
        within = 0 if quirks == "published" else 0.1
        assert found[figure] == pytest.approx(printed["Generative Task", name], abs=within), name


def test_amber_questions(amber):
    case, _, printed = amber
    answers = [
        Answer(Item(str(note["id"]), "", (), {"answer": note["truth"], "type": note["type"]}), text)
        for note in case["annotations"]
        if (text := case["discriminative_answers"].get(str(note["id"])))
    ]
    assert len(answers) == 8
    scorer = metric("amber_discriminative", quirks="published")
    found = scorer.figures(scorer.columns(answers))
    parts = {"Descriminative Task": "", "Exsitence": "/existence", "Attribute": "/attribute", "State": "/state"}
    parts |= {"Number": "/number", "Action": "/action", "Relation": "/relation"}
    for section, part in parts.items():
        for name in ("Accuracy", "Precision", "Recall", "F1"):
            assert found[f"{name.lower()}{part}"] == printed[section, name], (section, name)
    right = metric("amber_discriminative")
    found = right.figures(right.columns(answers))
    assert (found["accuracy"], found["precision"], found["recall"], found["f1"]) == (75, 80, 80, pytest.approx(80))
    assert found["precision/attribute"] == 75 and found["f1/existence"] == 100 and found["f1/relation"] == 0


def test_hri(golden):
    case = golden("ovip.json", "hri_definition")
    base, scores = dict(zip(HRI, case["base_7b"], strict=True)), dict(zip(HRI, case["ovip_1epoch_7b"], strict=True))
    example = case["example_with_hypothetical_ref"]
    reference = dict(zip(HRI, example["ref"], strict=True))
    assert hri(scores, base, reference) == pytest.approx(example["hri"], abs=1e-6)
    assert hri(reference, base, reference) == pytest.approx(10) and hri(base, base, reference) == 0


def test_scienceqa_extraction(golden):
    for case in golden("ares.json", "answer_extraction"):
        for letter in "ABCDEF":
            read = RULES["scienceqa"][1](Answer(Item("1", "", (), {"answer": letter}), case["text"]))
            # A letter beyond E gets a random option in the original, and none here.
            assert bool(read.right) == (letter == case["result"] != "F"), case


@pytest.mark.parametrize("quirks", ["published", "fixed"])
def test_scienceqa_breakdown(golden, quirks):
    case = golden("ares.json", "accuracy_breakdown")
    answers = [
        Answer(
            Item(number, "", (), case["problems"][number] | {"choices": list("wxyz")}),
            f"The answer is ({'ABCD'[said]}).",
        )
        for number, said in case["predictions"].items()
    ]
    scorer = metric("scienceqa", quirks=quirks)
    found = scorer.figures(scorer.columns(answers))
    for name, value in case["answer_scores"].items():
        kind = name.removeprefix("acc_").removeprefix("has_")
        figure = "accuracy" if kind == "average" else f"accuracy/{kind}"
        assert f"{found[figure]:.2f}" == value, name


def test_text_overlap(golden):
    for case in golden("ares.json", "text_overlap"):
        pair = case["reference"], case["prediction"]
        assert bleu(*pair, 1) == pytest.approx(case["bleu1"], abs=1e-7)
        assert bleu(*pair, 4) == pytest.approx(case["bleu4"], abs=1e-7)
        assert rouge_l(*pair, published=True) == pytest.approx(case["rouge_l_f"], abs=1e-7)
        assert rouge_l(*pair) == pytest.approx(case["rouge_l_f"], abs=1e-7)
