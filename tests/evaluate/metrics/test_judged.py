# SPDX-License-Identifier: Apache-2.0
"""Metrics whose numbers come from a judge: rubrics, replies, and replies that cannot be read."""

import inspect
import math

import pytest

from llamafactory_mmself.evaluate.metrics import METRICS, Judged, MetricError, metric
from llamafactory_mmself.evaluate.metrics.judged import joined, separated
from llamafactory_mmself.evaluate.metrics.llava_bench import Pair, published_pair
from llamafactory_mmself.evaluate.metrics.mmhal import TYPES, Rating
from llamafactory_mmself.prompts import PromptError


JUDGED = sorted(name for name, made in METRICS.items() if inspect.isclass(made) and issubclass(made, Judged))


def test_these_metrics_ask_a_judge():
    assert JUDGED == ["hallusion", "llava_bench", "mathvista", "mmhal", "mmvet", "object_hal", "win_rate"]


@pytest.mark.parametrize("name", JUDGED)
def test_rubrics_are_packaged_and_can_be_replaced(name, tmp_path):
    made = METRICS[name]
    rubric = made.rubric(made)
    assert rubric.version == "1" and rubric.file.endswith(made.prompt)
    own = tmp_path / "own.txt"
    own.write_text("version: 2\n\n" + " ".join(f"{{{word}}}" for word in (*made.placeholders, *made.form.values)))
    assert made.rubric(made, own).version == "2"
    own.write_text("version: 2\n\nRate it.")
    with pytest.raises(PromptError, match="does not use"):
        made.rubric(made, own)


TRUTH = {
    "answer": "Two.",
    "reference": "There are two.",
    "context": ["two dogs", "a cat"],
    "baseline": "One.",
    "capabilities": ["rec"],
    "image_content": ["Dog", "Cat"],
    "details": "Two dogs.",
    "images": ["a.png"],
}


@pytest.mark.parametrize("name", JUDGED)
def test_questions_fill_the_rubric(name, answers):
    options = {"object_hal": {"synonyms": "x"}, "hallusion": {"judge": True}, "mathvista": {"judge": True}}.get(
        name, {}
    )
    scorer = metric(name, **options)
    asked = scorer.questions(answers((TRUTH, ""))[0].item, "I count three dogs.")
    assert len(asked) == (2 if name == "win_rate" else 1)
    for one in asked:
        text = scorer.rubric().fill(**scorer.form.values, **one.values)
        assert "I count three dogs." in text and set(one.values) == set(scorer.placeholders)
        assert one.images == (("a.png",) if name in ("mmhal", "win_rate") else ())


def test_judges_read_the_question_without_instructions(answers):
    truth = TRUTH | {"question": "How many dogs?", "prompt": "How many dogs? Be short."}
    item = answers((truth, ""))[0].item
    for name in ("mmhal", "llava_bench", "mmvet", "win_rate"):
        assert metric(name).question(item, "Two.").values["question"] == "How many dogs?"


def test_verdicts_hold_one_reply_or_several():
    assert joined([]) is None and joined(["yes"]) == "yes"
    assert separated(joined(["A", "B\n"]), 2) == ("A", "B\n")
    assert separated("yes", 1) == ("yes",)
    for verdict in (None, "yes", '["A"]', "[1, 2]", "{}"):
        assert separated(verdict, 2) is None


@pytest.mark.parametrize(
    ("text", "fixed", "loose"),
    [
        ("Rating: 5", 5, 5),
        ("**Rating**: 4, somewhat informative", 4, 4),
        ("**Rating:** 3", 3, 3),
        ("rating: 2\nSo, Rating: 2.", 2, 2),
        ("Rating: 6/6", 6, 6),
        ("Rating: 10", None, 1),
        ("Rating: 3.5", None, 3),
        ("Rating: 2, or Rating: 4", None, None),
        ("Rating: 7", None, None),
        ("5", None, None),
        ("", None, None),
    ],
)
def test_ratings(text, fixed, loose):
    assert (Rating().parse(text), Rating(loose=True).parse(text)) == (fixed, loose)


def mmhal(rating, kind):
    return {"answer": "x", "question_type": kind}, "text", rating if rating is None else f"Rating: {rating}"


def test_mmhal(scores):
    rows = [mmhal(6, "counting"), mmhal(3, "counting"), mmhal(2, "other"), mmhal(0, "other"), mmhal("none", "other")]
    found = scores("mmhal", rows)
    assert (found["score"], found["hallucination_rate"], found["informativeness"]) == (11 / 4, 50, 50)
    assert (found["score/counting"], found["score/other"], found["hallucination_rate/other"]) == (4.5, 1, 100)
    found = scores("mmhal", rows, quirks="published")
    assert (found["score"], found["hallucination_rate"], found["informativeness"]) == (11 / 5, 60, 40)


def test_mmhals_types_go_by_place_as_published(scores):
    rows = [mmhal(place % 7, "one") for place in range(16)]
    found = scores("mmhal", rows, quirks="published")
    for place, kind in enumerate(TYPES):
        assert found[f"score/{kind}"] == (place % 7 + (place + 8) % 7) / 2
    assert math.isnan(scores("mmhal", rows[:3], quirks="published")["score/other"])


def test_mmhal_without_ratings(scores, answers):
    assert math.isnan(scores("mmhal", [mmhal("?", "other")])["score"])
    with pytest.raises(MetricError, match=r"mmhal needs a judge.*the first is item 'q0'"):
        scores("mmhal", [mmhal(None, "other")])
    assert metric("mmhal").columns(answers(mmhal(None, "x"), mmhal(1, "x")))["parsed"].tolist() == [0, 1]
    asked = metric("mmhal", picture=False).question(answers(({"answer": "x", "images": ["a.png"]}, ""))[0].item, "t")
    assert asked.images == () and asked.values["contents"] == "not told"


@pytest.mark.parametrize(
    ("text", "fixed", "published"),
    [
        ("8 7\nBoth are good.", (8, 7), (8, 7)),
        ("8.5 9", (8.5, 9), (8.5, 9)),
        ("8, 7\nx", (8, 7), (-1, -1)),
        ("8,7", (8, 7), (8, 7)),
        ("Scores: 8 7", (8, 7), (-1, -1)),
        ("**8 7**", (8, 7), (-1, -1)),
        ("\n8 7", (8, 7), (-1, -1)),
        ("80 7", None, (80, 7)),
        ("8 seven", None, (-1, -1)),
        ("8", None, (-1, -1)),
        ("", None, (-1, -1)),
    ],
)
def test_pairs_of_scores(text, fixed, published):
    assert Pair().parse(text) == fixed and published_pair(text) == published


def llava(category, verdict):
    return {"category": category, "reference": "r", "context": "c"}, "text", verdict


def test_llava_bench(scores):
    rows = [llava("conv", "8 6"), llava("conv", "10 9"), llava("detail", "9 9"), llava("detail", "Good.")]
    found = scores("llava_bench", rows)
    assert found["relative"] == pytest.approx(100 * 24 / 27) and (found["answer"], found["reference"]) == (8, 9)
    assert found["relative/conv"] == pytest.approx(100 * 15 / 18) and found["relative/detail"] == 100
    found = scores("llava_bench", rows, quirks="published")
    assert (found["relative"], found["relative/detail"], found["answer"]) == (88.5, 100, 5.75)
    # -1 and -1 in the means: (9 - 1) / (8 - 1)
    found = scores("llava_bench", [llava("conv", "8 9"), llava("conv", "?")], quirks="published")
    assert found["relative"] == 114.3
    with pytest.raises(MetricError, match="no 'context'"):
        scores("llava_bench", [({"reference": "r"}, "", "1 2")])


def mmvet(capabilities, verdict):
    return {"answer": "-1<AND>-5", "capabilities": capabilities}, "text", verdict


def test_mmvet(scores, answers):
    rows = [
        mmvet(["math", "ocr"], "Correctness: 0.5"),
        mmvet(["ocr", "math"], "1"),
        mmvet(["ocr"], "**Correctness: 0.0**"),
        mmvet(["ocr"], "Correctness: 1.5"),
    ]
    found = scores("mmvet", rows)
    assert found == {"score": 50, "score/math": 75, "score/math+ocr": 75, "score/ocr": 50}
    asked = metric("mmvet").question(answers(rows[0])[0].item, "-1")
    assert asked.values["reference"] == "-1 <AND> -5"
    found = scores(
        "mmvet",
        [mmvet(["rec"], verdict) for verdict in ("0.3", "1.0 is right", "2", "", "1", "x")],
        quirks="published",
    )
    assert found == {"score": 38.3, "score/rec": 38.3}
    with pytest.raises(MetricError, match=r"'capabilities' is a list such as .* not 'ocr'"):
        scores("mmvet", [mmvet("ocr", "1")])


def rationale(first, second, **truth):
    verdict = None if first is None else joined([f"Choice: {first}", f"Choice: {second}"])
    return {"baseline": "theirs"} | truth, "ours", verdict


def test_win_rate(scores, answers):
    rows = [
        rationale("A", "B"),  # ours, both times
        rationale("A", "B"),
        rationale("B", "A"),  # theirs
        rationale("A", "A"),  # whichever stands first
        rationale("tie", "B"),
        rationale("A", "both"),
    ]
    found = scores("win_rate", rows)
    assert found == {"win_rate": 60, "win": 40, "tie": 40, "lose": 20}
    first, second = metric("win_rate").questions(answers(rows[0])[0].item, "ours")
    assert (first.values["first"], first.values["second"]) == ("ours", "theirs")
    assert (second.values["first"], second.values["second"]) == ("theirs", "ours")
    with pytest.raises(MetricError, match="win_rate needs a judge"):
        scores("win_rate", [rationale(None, None)])
    with pytest.raises(MetricError, match="no 'baseline'"):
        scores("win_rate", [({}, "ours", "x")])
