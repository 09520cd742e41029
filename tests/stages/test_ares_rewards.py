# SPDX-License-Identifier: Apache-2.0
"""From sentences to rewards of tokens, and from a buffer to advantages."""

import json
import pickle
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from llamafactory_mmself.data.questions import Question
from llamafactory_mmself.generate.client import Refused
from llamafactory_mmself.generate.teacher import Lesson, Scored
from llamafactory_mmself.generate.types import EngineError
from llamafactory_mmself.stages.ares_ppo import collector, rewards
from llamafactory_mmself.stages.ares_ppo.advantages import with_advantages
from llamafactory_mmself.stages.ares_ppo.alarms import alarms, figures
from llamafactory_mmself.stages.ares_ppo.arguments import AresPPOArguments
from llamafactory_mmself.stages.ares_ppo.collector import Collector
from llamafactory_mmself.stages.ares_ppo.loader import Place, RolloutLoader, Shape
from llamafactory_mmself.stages.ares_ppo.rewards import Custom, Rewarder, Taught
from llamafactory_mmself.stages.ares_ppo.rollouts import Response, Rollout
from llamafactory_mmself.stages.base import SettingError
from llamafactory_mmself.toyworld.teacher import exact


QUESTION = Question("q", "Is it red?", "B", (), ("yes", "no"))


def decode(ids):
    return "".join(map(chr, ids))


def response(text, finish="stop", **more):
    return Response(tuple(map(ord, text)), text, finish, **more)


class Fixed:
    """A teacher that says what it is told; None fails."""

    name = "fixed"

    def __init__(self, *answers):
        self.answers = list(answers)

    def score(self, lessons):
        found = [self.answers.pop(0) for _ in lessons]
        return [Scored(None, "format") if item is None else Scored(tuple(item)) for item in found]

    def counts(self):
        return {}


def rewarded(teacher, *texts, finish="stop", **changes):
    args = AresPPOArguments(**changes)
    rewarder = Rewarder(Taught(teacher, args), args, decode)
    responses = [response(text, finish) for text in texts]
    answers = [rewarder.answered(QUESTION, number, item) for number, item in enumerate(responses)]
    return rewarder.reward(answers, responses), rewarder


def refused():
    return Refused("http://teacher answered HTTP 401: no such key.", 401, "no such key.")


def test_the_first_rank_tells_the_others_why_nobody_gets_a_reward(monkeypatch):
    sent = []
    monkeypatch.setattr(collector, "from_first", lambda value: sent.append(pickle.dumps(value)) or value)
    rewarder = SimpleNamespace(answered=lambda *_: None, reward=Mock(side_effect=refused()))
    first = Collector(run=None, asked=[], sampler=None, rewarder=rewarder, scorer=None)
    with pytest.raises(Refused, match="HTTP 401"):
        first._rewarded([], [])

    monkeypatch.setattr(collector, "from_first", lambda value: pickle.loads(sent[0]))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    with pytest.raises(EngineError, match="http://teacher answered HTTP 401: no such key"):
        first._rewarded([], [])


def test_scores_go_to_the_tokens_that_end_sentences():
    (found,), _ = rewarded(Fixed([1.0, 0.2]), "Red. No it is blue. The answer is (B).")
    assert found.rewards == {3: pytest.approx(0.5), 18: pytest.approx(-0.3)}
    assert found.scores == (1.0, 0.2)


def test_the_mean_does_not_favour_many_sentences():
    (found,), _ = rewarded(Fixed([1.0, 1.0]), "Red. Blue.", sentence_reward="mean")
    assert sum(found.rewards.values()) == pytest.approx(0.5)


def test_answers_without_a_sentence_score_nothing():
    (found,), _ = rewarded(Fixed(), "Answer: B")
    assert found.rewards == {8: -0.5}


def test_failures_take_no_part_and_are_counted():
    (bad, good), rewarder = rewarded(Fixed(None, [0.5]), "Red.", "Blue.")
    assert (bad.rewards, bad.reason, good.rewards) == (None, "format", {4: 0.0})
    assert rewarder.failed == {"format": 1}


def test_cut_responses():
    (kept,), _ = rewarded(Fixed([1.0]), "Red. And th", finish="length", cut_reward=-1.0)
    assert kept.rewards == {3: 0.5, 10: -1.0}
    (dropped,), rewarder = rewarded(Fixed([1.0]), "Red. And th", finish="length", cut_responses="drop")
    assert dropped.rewards is None
    assert rewarder.failed == {"cut": 1}


def custom(function, text="Red."):
    args = AresPPOArguments(reward="x:y")
    rewarder = Rewarder(Custom("x:y", function), args, decode)
    answer = rewarder.answered(QUESTION, 0, response(text))
    return rewarder.reward([answer], [response(text)])[0]


def test_a_function_of_the_users():
    assert custom(lambda answers: [[(1, 0.5), (99, 1.0)]]).rewards == {0: 0.5, 3: 1.0}
    for wrong in ([], [[1.0]], [[(1, float("nan"))]]):
        with pytest.raises(SettingError):
            custom(lambda answers, wrong=wrong: wrong)


def test_the_toy_worlds_teacher_is_exact():
    from random import Random

    from llamafactory_mmself.toyworld.choices import random_question, scene_of
    from llamafactory_mmself.toyworld.forms import solution
    from llamafactory_mmself.toyworld.scenes import random_scene
    from llamafactory_mmself.verify.sentences import sentences

    rng, teacher = Random(0), exact()
    for number in range(30):
        row = random_question(rng, random_scene(rng, 2, 2), f"q{number}")
        text = solution(row, scene_of(row))
        said = tuple(span.text for span in sentences(text))
        (found,) = teacher.score([Lesson("x", row, text, said)])
        assert set(found.scores) == {1.0}, (said, found.scores)
        (found,) = teacher.score([Lesson("x", row, text, (said[0], said[0], "Bananas are tasty."))])
        assert found.scores == (1.0, 0.0, 0.0)
        assert teacher.correct([Lesson("x", row, "no", ("no",))])[0].text == text
    (lost,) = teacher.score([Lesson("x", QUESTION, "Red.", ("Red.",))])
    assert lost.scores is None


def rollouts():
    def one(text, rewards, value):
        count = len(text)
        return response(
            text, rewards=rewards, logps=(-1.0,) * count, ref_logps=(-1.5,) * count, values=(value,) * count
        )

    first = (one("abc", {1: 0.5, 2: 0.5}, 0.1), one("ab", {1: -0.5}, 0.2))
    second = (one("abcd", None, 0.3), one("a", {0: 0.25}, 0.0))
    return [Rollout("x", (1, 2), (), first), Rollout("y", (1, 2), (), second)]


@pytest.mark.parametrize("advantage", ["gae", "rloo", "group"])
def test_advantages_of_a_buffer(advantage):
    args = AresPPOArguments(advantage=advantage, kl_coef=0.0, whiten_advantages=False)
    first, second = with_advantages(rollouts(), args)
    assert [len(row) for row in first.advantages] == [3, 2]
    assert second.advantages[0] == (0.0,) * 4
    assert first.advantages[0][0] > 0 > first.advantages[1][0]
    if advantage == "gae":
        assert first.returns[1] == pytest.approx((-0.5 * 0.95 + 0.2 * 0.05, -0.5), abs=1e-6)
    else:
        assert not first.returns


def test_whitened_advantages_and_the_penalty():
    args = AresPPOArguments(kl_coef=0.1, whiten_advantages=True)
    found = with_advantages(rollouts(), args)
    rows = [pair for item in found for pair in zip(item.advantages, item.responses, strict=True)]
    flat = torch.tensor([value for row, item in rows if item.kept for value in row])
    assert flat.mean().item() == pytest.approx(0, abs=1e-6)
    assert flat.var(unbiased=False).item() == pytest.approx(1, abs=1e-4)
    plain = AresPPOArguments(kl_coef=0.1, whiten_advantages=False)
    first = with_advantages(rollouts(), plain)[0]
    published = with_advantages(rollouts(), AresPPOArguments(kl_coef=0.1, whiten_advantages=False, quirks="published"))
    assert published[0].advantages[0][0] - first.advantages[0][0] == pytest.approx(
        0.05
    )  # the first token pays nothing


def test_rollouts_survive_a_file():
    for rollout in with_advantages(rollouts(), AresPPOArguments(whiten_advantages=True)):
        assert Rollout.from_row(json.loads(json.dumps(rollout.to_row()))) == rollout


def test_figures_and_alarms():
    now = figures(rollouts())
    assert now["failed"] == 0.25
    assert now["reference_kl"] == pytest.approx(0.5)
    assert any("no reward" in text for text in alarms(now, now, 1e-3))
    longer = {**now, "response_tokens": 100.0, "failed": 0.0, "sampling_gap": 1.0}
    assert len(alarms(longer, now, 1e-3)) == 2


def test_the_published_order(shared_golden):
    for case in json.loads((shared_golden / "ares.json").read_text())["batch_sampler"]:
        shape = Shape(case["n"], 1, 1, case["batch_size"], 1, 1)
        order = shape.order(None)
        assert [shape.share(order, batch, 0) for batch in range(shape.batches)] == case["batches"]
        assert shape.batches == case["length"]


def numbers(loader):
    return [[row["n"] for row in batch if "_filler" not in row] for batch in loader]


def make_loader(shape, rank=0, fills=None):
    filled = [] if fills is None else fills
    rows = [{"n": number} for number in range(shape.prompts)]
    return RolloutLoader(shape, rank, 3, filled.append, lambda: rows, list, rows)


def test_ranks_share_what_one_would_take():
    alone = numbers(make_loader(Shape(5, 2, 2, 1, 1, 2)))
    ranks = [numbers(make_loader(Shape(5, 2, 2, 1, 2, 1), rank)) for rank in (0, 1)]
    steps = [sorted(alone[place] + alone[place + 1]) for place in range(0, len(alone), 2)]
    assert [sorted(one + other) for one, other in zip(*ranks, strict=True)] == steps
    assert sorted(number for batch in alone[:6] for number in batch) == [0, 1, 2, 3, 4]


def test_a_loader_goes_on_where_it_was():
    shape = Shape(4, 2, 2, 2, 1, 1)
    fills, again = [], []
    loader = make_loader(shape, fills=fills)
    whole, places = [], []
    for batch in loader:
        whole.append(batch)
        places.append(Place(**loader.place.to_dict()))
    assert fills == [0, 1]
    for done in (1, 3, 4, 5):
        rest = make_loader(shape, fills=again)
        rest.place = places[done - 1]
        assert list(rest) == whole[done:]
    assert again == [1, 1, 1]


def test_a_guard_ends_the_passes():
    fills = []
    loader = make_loader(Shape(4, 2, 3, 1, 1, 2), fills=fills)
    batches = 0
    for _ in loader:
        batches += 1
        loader.place.stopped = True
    assert (batches, fills) == (4, [0, 1])


def test_a_remote_teachers_answers_are_kept_in_the_run_unless_it_says_where(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(rewards, "load_teacher", lambda spec, answers: kept.append((spec, answers)))
    rewards.make_source(AresPPOArguments(teacher="teacher.yaml"), tmp_path)
    assert kept == [("teacher.yaml", tmp_path / "teacher.jsonl")]
