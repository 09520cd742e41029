# SPDX-License-Identifier: Apache-2.0
"""Sherlock's rows: samples A and B, corrections, draws and noise, pairs and their gates, online agreement."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llamafactory_mmself.data.questions import Question, read_questions
from llamafactory_mmself.data.schema import read_dataset_info
from llamafactory_mmself.data.validate import validate_dataset
from llamafactory_mmself.generate.types import Completion, Request, Sample
from llamafactory_mmself.recipes import sherlock, sherlock_online, sherlock_pairs
from llamafactory_mmself.recipes.lengths import TokenLimit
from llamafactory_mmself.recipes.noise import add_noise, disturb
from llamafactory_mmself.recipes.prompts import SherlockPrompts
from llamafactory_mmself.recipes.records import RecipeError
from llamafactory_mmself.recipes.sherlock_options import PRESETS, SherlockOptions, weight_of


PROMPTS = SherlockPrompts.load()
OPTIONS = SherlockOptions(n=2)
CHOICES = ("red", "green", "blue")


def tagged(letter: str, thought: str = "I look at it for a while") -> str:
    """A whole response that answers a letter."""
    return (
        "<SUMMARY> I will look. </SUMMARY>\n\n<CAPTION> There is a shape. </CAPTION>\n\n"
        f"<REASONING> {thought}. </REASONING>\n\n<CONCLUSION> ({letter}) </CONCLUSION>"
    )


def annotated(folder: Path, count: int = 6) -> list[Question]:
    """Questions with pictures whose answer is A, B, C in turn, each with its response."""
    made = []
    for number in range(count):
        image = folder / f"{number}.png"
        Image.new("RGB", (16, 12), (40 * number, 255, 0)).save(image)
        letter = "ABC"[number % 3]
        extra = {"response": tagged(letter, f"I look at picture {number} and think of it")}
        made.append(Question(f"q{number}", f"Which colour has shape {number}?", letter, (str(image),), CHOICES, extra))
    return made


@pytest.fixture
def questions(tmp_path):
    return annotated(tmp_path)


# Draws, weights, noise.


def test_published_weights(shared_golden) -> None:
    golden = json.loads((shared_golden / "sherlock.json").read_text())
    for case in golden["weight_table"]:
        assert weight_of(case["i"], case["eps"], case["n"]) == pytest.approx(case["weight"], abs=1e-9)
        assert 0.25 * weight_of(case["i"], case["eps"], case["n"]) == pytest.approx(case["paper_beta"], abs=1e-9)


def test_noise_is_clipped_where_the_published_code_wraps(shared_golden) -> None:
    cases = json.loads((shared_golden / "sherlock.json").read_text())["noise_pixels"]["cases"]
    wrapped = 0
    for case in cases:
        pixels = np.array([[[case["pixel"]]]], dtype=np.uint8)
        assert add_noise(pixels, np.array([[[case["noise"]]]])).item() == case["clip"]
        wrapped += case["seed"] != case["clip"]
    assert wrapped


def test_a_white_picture_gets_darker_by_no_more_than_the_noise(tmp_path) -> None:
    Image.new("RGB", (64, 64), "white").save(tmp_path / "white.png")
    disturb(tmp_path / "white.png", tmp_path / "out" / "noisy.png", 0.2, seed=1)
    changed = 255 - np.asarray(Image.open(tmp_path / "out" / "noisy.png"), dtype=float)
    assert changed.mean() == pytest.approx(20.7, abs=1)  # 125.8 in the published code
    disturb(tmp_path / "white.png", tmp_path / "again.png", 0.2, seed=1)
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "out" / "noisy.png").read_bytes()


def test_random_pixels_take_the_place_of_a_picture(tmp_path) -> None:
    Image.new("L", (32, 48), 255).save(tmp_path / "white.png")
    disturb(tmp_path / "white.png", tmp_path / "noise.png", 0.2, seed=1, replace=True)
    pixels = np.asarray(Image.open(tmp_path / "noise.png"))
    assert pixels.shape == (48, 32, 3) and abs(pixels.mean() - 127.5) < 5


def test_a_picture_that_cannot_be_disturbed_is_named(tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "huge.png")
    (tmp_path / "text.png").write_text("no picture")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for name in ("huge.png", "text.png", "gone.png"):
        with pytest.raises(RecipeError, match=name):
            disturb(tmp_path / name, tmp_path / "out.png", 0.2, seed=1)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_draws_what_its_source_draws(preset) -> None:
    options = SherlockOptions(preset=preset)
    draws = [options.draw(0, f"q{number}") for number in range(400)]
    assert {draw.cut for draw in draws} == set(PRESETS[preset].cuts)
    low, high = PRESETS[preset].noise
    assert all(low <= draw.noise <= high for draw in draws)
    assert min(draw.noise for draw in draws) < low + 0.1 * (high - low)
    assert {draw.cut for draw in draws if draw.replaced} == set(PRESETS[preset].replaced)
    assert all(draw.weight == weight_of(draw.cut, draw.noise) for draw in draws)
    assert options.draw(0, "q7") == draws[7] != options.draw(1, "q7")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cuts": [5]}, "places from 1 to 4"),
        ({"cuts": []}, "places from 1 to 4"),
        ({"noise": [0.5, 0.2]}, "two strengths from 0 to 1"),
        ({"tags": ["A", "A"]}, "two or more different names"),
        ({"gates": ["tag"]}, "Option `gates`"),
        ({"n": 0}, "at least 1"),
        ({"cut": [1]}, "Did you mean `cuts`"),
    ],
)
def test_options_that_cannot_work_are_told(values, message) -> None:
    with pytest.raises(RecipeError, match=message):
        SherlockOptions.from_dict(values)


# Supervised rows.


def test_two_disjoint_samples_whatever_the_order(questions) -> None:
    found = sherlock.split(questions, 2, seed=3)
    assert sherlock.split(questions[::-1], 2, seed=3) == found != sherlock.split(questions, 2, seed=4)
    ids = [question.id for part in found for question in part]
    assert len(found.a) == len(found.b) == 2 and sorted(ids) == [f"q{number}" for number in range(6)]
    with pytest.raises(RecipeError, match="need 8 questions, there are 6"):
        sherlock.split(questions, 4, seed=0)


def test_a_sample_can_be_trained_on_and_read_again(questions, tmp_path) -> None:
    path = sherlock.write_split(tmp_path / "data", "mine_a", questions[:2], PROMPTS)
    (row, _) = json.loads(path.read_text())
    assert row["conversations"][1]["value"] == questions[0].extra["response"]
    assert row["conversations"][0]["value"] == sherlock.ask_prompt(questions[0], PROMPTS)
    assert read_questions(path) == questions[:2]
    assert "mine_a" in json.loads((tmp_path / "data" / "dataset_info.json").read_text())


def test_direct_and_correction_rows_stay_adjacent(questions, sample) -> None:
    answers = [sample(question.id, tagged("C")) for question in questions]
    built = sherlock.correction_rows(questions, answers, OPTIONS, PROMPTS, seed=5)
    rows = built.examples
    assert len(rows) == 12 and not built.skipped
    assert [row.kind for row in rows] == ["answer", "correction"] * 6
    assert all(rows[place].pair == rows[place + 1].pair for place in range(0, 12, 2))
    assert [row.pair for row in rows[::2]] != [question.id for question in questions]
    again = sherlock.correction_rows(questions[::-1], answers[::-1], OPTIONS, PROMPTS, seed=5)
    assert again.examples == rows
    direct, correction = rows[:2]
    assert direct.target == correction.target and direct.prompt != correction.prompt
    assert tagged("C") in correction.prompt and correction.prompt.startswith("<image>")
    assert correction.provenance["shown"] == [{"iteration": 1, "id": f"{direct.pair}#0", "policy": "p0"}]


def test_answers_that_are_not_whole_are_left_out_with_their_pair(questions, sample) -> None:
    answers = [
        sample("q0", questions[0].extra["response"]),
        sample("q1", "Answer: B"),
        sample("q2", tagged("A"), finish="length"),
        sample("q3", tagged("A") + " <image>"),
        sample("q4", tagged("B")),
    ]
    built = sherlock.correction_rows(questions, answers, OPTIONS, PROMPTS, seed=0)
    assert sorted(row.question for row in built.examples) == ["q0", "q0", "q4", "q4"]  # q0's is kept as it is
    assert built.skipped == {
        "answer: cut by the token limit": 1,
        "answer: holds a media placeholder": 1,
        "answer: no sections": 1,
        "no answer": 1,
    }


def test_broken_annotations_and_long_rows_are_left_out(questions) -> None:
    broken = replace(questions[0], extra={"response": "Green."})
    built = sherlock.direct_rows([broken, *questions[1:]], OPTIONS, PROMPTS, seed=0)
    assert len(built.examples) == 5 and built.skipped == {"annotated response: no sections": 1}
    limit = TokenLimit(lambda prompt, target, images: len(target), 10)
    assert not sherlock.direct_rows(questions, OPTIONS, PROMPTS, seed=0, limit=limit).examples
    with pytest.raises(RecipeError, match="no annotated response in its field `response`"):
        sherlock.direct_rows([replace(questions[0], extra={})], OPTIONS, PROMPTS, seed=0)


def test_the_correction_prompt_is_that_of_the_stage(questions, tiny_models) -> None:
    from llamafactory_mmself.data.rows import PreferenceRow
    from llamafactory_mmself.data.turns import Turn
    from llamafactory_mmself.generate.config import EngineConfig
    from llamafactory_mmself.generate.encoding import load_encoder
    from llamafactory_mmself.stages.sherlock_dpo.encode import SherlockEncoder

    encoder = load_encoder(EngineConfig(model=str(tiny_models("qwen2_vl")), template="qwen2_vl"))
    question, response = questions[0], tagged("B")
    row = PreferenceRow(
        "", "", 0, "", "", (Turn("user", sherlock.ask_prompt(question, PROMPTS)),), response, (), question.images
    )
    asked = Request.ask("x", sherlock.correction_prompt(question, response, PROMPTS), question.images)
    trained = SherlockEncoder.of(encoder.rows, PROMPTS.correction).correction_prompt(row, response)
    assert list(encoder.encode(asked).ids) == trained


# Offline pairs.


def beginnings(questions, tmp_path, options=OPTIONS, seed=0):
    begun, _ = sherlock_pairs.annotated_beginnings(questions, options)
    tails = sherlock_pairs.make_tails(begun, tmp_path / "disturbed", options, PROMPTS, seed)
    return {tail.question: tail for tail in tails}


def continued(tail, text: str, k: int = 0, finish: str = "stop") -> Sample:
    """A continuation such that the whole response is `text` behind the same beginning."""
    id = tail.request.id
    return Sample(f"{id}#{k}", id, k, "sft", Completion(text, (1,), finish))


def test_beginnings_show_a_disturbed_picture_and_the_first_part(questions, tmp_path) -> None:
    tails = beginnings(questions, tmp_path)
    assert set(tails) == {question.id for question in questions}
    for question in questions:
        tail = tails[question.id]
        assert question.extra["response"].startswith(tail.request.prefix)
        assert tail.draw == OPTIONS.draw(0, question.id)
        shown, real = (Image.open(path) for path in (tail.request.images[0], question.images[0]))
        assert shown.size == real.size and shown.tobytes() != real.tobytes()
    path = tmp_path / "tails.jsonl"
    sherlock_pairs.write_tails(path, tails.values())
    assert sherlock_pairs.read_tails(path) == list(tails.values())


@pytest.mark.parametrize("place", [1, 2, 3, 4])
def test_offline_rows_share_their_beginning_and_record_the_draw(questions, tmp_path, place) -> None:
    options = SherlockOptions(cuts=(place,))
    tails = beginnings(questions, tmp_path, options)
    samples = [continued(tail, _wrong_end(tail, questions)) for tail in tails.values()]
    better = sherlock_pairs.annotated_better(sherlock_pairs.annotated_beginnings(questions, options)[0])
    built = sherlock_pairs.build_pairs(
        "offline", better, list(tails.values()), samples, options, PROMPTS, "toy", 0, iteration=2
    )
    assert len(built.pairs) == 6 and not built.skipped
    path = sherlock_pairs.write_pairs(tmp_path / "data", "offline", built.pairs)
    for row in json.loads(path.read_text()):
        question = next(item for item in questions if row["id"].startswith(item.id))
        assert row["chosen"]["value"] == question.extra["response"]
        assert row["prefix"] == row["prefix_l"] == tails[question.id].request.prefix
        assert row["rejected"]["value"].startswith(row["prefix"]) and row["cut"] == place
        assert row["weights"] == weight_of(row["cut"], row["noise"])
        provenance = json.loads(row["provenance"])
        assert provenance["rejected"] == {"iteration": 2, "id": f"{question.id}@tail#0", "policy": "sft"}
    report = validate_dataset(
        read_dataset_info(path.parent, ["offline"])["offline"],
        path.parent,
        path.parent,
        require=frozenset({"prefix", "weights"}),
    )
    assert report.ok and report.good == 6


def _wrong_end(tail, questions) -> str:
    """What a model says that goes on from a beginning to a wrong answer."""
    truth = next(item for item in questions if item.id == tail.question)
    whole = tagged("A" if truth.answer != "A" else "B", "It is quite another thing")
    closed = tail.request.prefix.count("</")
    if tail.request.prefix.count("<") > 2 * closed:  # within the reasoning
        return " something else. </REASONING>\n\n" + whole[whole.index("<CONCLUSION>") :]
    return whole.split("\n\n", closed)[-1]


def test_gates_take_the_first_continuation_that_passes(questions, tmp_path) -> None:
    options = SherlockOptions(cuts=(1,))
    tails = beginnings(questions, tmp_path, options)
    q = [tails[f"q{number}"] for number in range(6)]
    samples = [
        continued(q[0], tagged("A", "Another way to say it")),  # right
        continued(q[0], tagged("B"), k=1),
        continued(q[1], questions[1].extra["response"]),  # the chosen one
        continued(q[2], tagged("A")[:-13]),  # no closing tag, and none is added
        continued(q[3], tagged("B"), finish="length"),
        continued(q[4], tagged("A").replace("(A)", "none of them")),
    ]
    better = sherlock_pairs.annotated_better(sherlock_pairs.annotated_beginnings(questions, options)[0])

    def build(options, limit=None):
        return sherlock_pairs.build_pairs(
            "offline", better, list(tails.values()), samples, options, PROMPTS, "toy", 0, iteration=2, limit=limit
        )

    built = build(options)
    assert [(pair.question.id, pair.provenance["rejected"]["id"]) for pair in built.pairs] == [("q0", "q0@tail#1")]
    assert built.skipped == {
        "no continuation": 1,
        "rejected: CONCLUSION is not closed": 1,
        "rejected: cut by the token limit": 1,
        "rejected: the same as the chosen one": 1,
        "rejected: without an answer": 1,
    }
    free = build(replace(options, gates=()))
    assert {pair.question.id for pair in free.pairs} == {"q0", "q2", "q4"}
    assert free.pairs[-1].rejected and all(pair.rejected != pair.chosen for pair in free.pairs)
    limit = TokenLimit(lambda prompt, target, images: len(prompt), 10)
    assert build(options, limit).skipped["rejected: right"] == 1


def test_files_that_do_not_belong_together_are_told(questions, tmp_path) -> None:
    options = SherlockOptions(cuts=(2,))
    tails = beginnings(questions, tmp_path, options)
    moved = [replace(tail, request=replace(tail.request, prefix="<SUMMARY> Other.")) for tail in tails.values()]
    better = sherlock_pairs.annotated_better(sherlock_pairs.annotated_beginnings(questions, options)[0])

    def build(tails, samples):
        return sherlock_pairs.build_pairs("offline", better, tails, samples, options, PROMPTS, "toy", 0, iteration=2)

    with pytest.raises(RecipeError, match="begins otherwise"):
        build(moved, [])
    with pytest.raises(RecipeError, match="not among the 6 questions"):
        build(list(tails.values()), [Sample("x@tail#0", "x@tail", 0, "p", Completion("", (), "stop"))])


# Online rounds.


class Policy:
    """Answers by script: question -> letters of the first answer and its corrections, "?" for a broken response."""

    def __init__(self, letters: dict[str, str], verdicts: dict[str, str] | None = None) -> None:
        self.letters, self.verdicts = letters, verdicts or {}
        self.jobs: dict[str, list[Request]] = {}

    def ask(self, name: str, requests: Sequence[Request]) -> list[Sample]:
        self.jobs[name] = list(requests)
        return [self._sample(request) for request in requests]

    def _sample(self, request: Request) -> Sample:
        id, _, what = request.id.partition("@")
        if what == "judge":
            text = self.verdicts[id]
        else:
            letter = self.letters.get(id, "AAAA")[int(what)]
            text = "No sections." if letter == "?" else tagged(letter, f"Turn {what} of {id} goes like that")
        return Sample(f"{request.id}#0", request.id, 0, "p", Completion(text, (1,), "stop"))


def gather(questions, policy: Policy, judged: bool = False, **changes):
    options = SherlockOptions(**{"chunk": 10, **changes})
    unlabelled = sherlock_online.unlabelled(questions)
    judge = policy.ask if judged else None
    return sherlock_online.gather(unlabelled, policy.ask, options, PROMPTS, "toy", 0, judge=judge)


def test_no_annotation_reaches_an_online_round(questions) -> None:
    for question in sherlock_online.unlabelled(questions):
        assert question.answer == "" and not question.extra


def test_corrections_in_the_same_words_agree_without_a_judge(questions) -> None:
    policy = Policy({"q0": "ABBB", "q1": "BABA", "q2": "?AAA", "q3": "AB?B", "q4": "CABB"})
    found = gather(questions, policy)
    assert {chain.question: chain.answer for chain in found.chains} == {"q0": "B", "q5": "A"}
    assert found.counts == {
        "asked": 6,
        "first answer: no sections": 1,
        "correction: no sections": 1,
        "corrections differ": 2,
        "agreed in the same words": 2,
        "agreed by the judge": 0,
    }
    assert len(policy.jobs["0000-turn3"]) == 2  # what differs is not corrected any more


def test_each_turn_shows_the_question_and_the_last_response_alone(questions) -> None:
    policy = Policy({})
    gather(questions[:1], policy)
    first, second, third = (policy.jobs[f"0000-turn{turn}"][0].messages for turn in (0, 1, 2))
    assert first[0].content == sherlock.ask_prompt(questions[0], PROMPTS)
    assert len(second) == len(third) == 1
    assert "Turn 0 of q0" in second[0].content and "Turn 1 of q0" in third[0].content
    assert "Turn 0 of q0" not in third[0].content


def test_a_judge_is_asked_only_where_words_differ(questions) -> None:
    verdicts = {"q1": "They name different options.\nVerdict: no", "q2": "Verdict: yes", "q3": "Yesterday, maybe."}
    policy = Policy({"q1": "AABA", "q2": "AABB", "q3": "AABA"}, verdicts)
    found = gather(questions, policy, judged=True)
    asked = [request.id for request in policy.jobs["0000-judge"]]
    assert sorted(asked) == ["q1@judge", "q2@judge", "q3@judge"]
    assert {chain.question for chain in found.chains} == {"q0", "q2", "q4", "q5"}
    assert found.counts["the judge cannot be read"] == 1  # "yes" within a word is no verdict
    chain = next(chain for chain in found.chains if chain.question == "q2")
    assert chain.judge is not None and chain.judge.id == "q2@judge#0"


def test_it_stops_when_enough_agree(questions) -> None:
    policy = Policy({})
    found = gather(questions, policy, chunk=2, pairs=3)
    assert len(found.chains) == 3 and found.counts["asked"] == 4
    assert not any(name.startswith("0002") for name in policy.jobs)


def test_online_rows_choose_the_last_correction_over_what_goes_on_from_the_first_answer(questions, tmp_path) -> None:
    options = SherlockOptions(cuts=(3,))
    found = gather(questions, Policy({"q0": "ABBB"}))
    path = tmp_path / "chains.jsonl"
    sherlock_online.write_chains(path, found.chains)
    chains = sherlock_online.read_chains(path)
    assert chains == found.chains
    asked = sherlock_online.unlabelled(questions)
    begun = sherlock_online.chain_beginnings(chains, asked, options)
    tails = sherlock_pairs.make_tails(begun, tmp_path / "disturbed", options, PROMPTS, 0)
    end = "<REASONING> So it seems to me. </REASONING>\n\n<CONCLUSION> (C) </CONCLUSION>"
    samples = [continued(tail, end) for tail in tails]
    better = sherlock_online.chain_better(chains, asked, options, 3)
    built = sherlock_pairs.build_pairs("online", better, tails, samples, options, PROMPTS, "toy", 0, iteration=3)
    pair = next(pair for pair in built.pairs if pair.question.id == "q0")
    assert pair.chosen == tagged("B", "Turn 3 of q0 goes like that")
    assert pair.prefix == pair.chosen[: pair.chosen.index("<REASONING>")] and pair.rejected == pair.prefix_l + end
    samples_of_run = {sample.id for chain in chains for sample in chain.samples} | {sample.id for sample in samples}
    named = [
        pair.provenance["chosen"],
        pair.provenance["first"],
        pair.provenance["rejected"],
        *pair.provenance["agreed"],
    ]
    assert {reference["id"] for reference in named} <= samples_of_run
    assert pair.provenance["chosen"]["id"] == "q0@3#0" and pair.provenance["first"]["id"] == "q0@0#0"
    agreed = [continued(tail, end.replace("(C)", "(A)")) for tail in tails]
    built = sherlock_pairs.build_pairs("online", better, tails, agreed, options, PROMPTS, "toy", 0, iteration=3)
    assert [pair.question.id for pair in built.pairs] == ["q0"]  # others agreed on A
