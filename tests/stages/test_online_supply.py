# SPDX-License-Identifier: Apache-2.0
"""The supply of a run: what is sampled when, what a step gets, and what a resumed run does again (nothing)."""

import json
import threading
from dataclasses import replace

import pytest

from llamafactory_mmself.data.rows import PreferenceRow
from llamafactory_mmself.data.turns import Turn
from llamafactory_mmself.generate.services import ServiceDead
from llamafactory_mmself.stages.checkpoints import CheckpointError
from llamafactory_mmself.stages.mdpo.online.buffer import ExperienceBuffer, Limits
from llamafactory_mmself.stages.mdpo.online.clock import Clock
from llamafactory_mmself.stages.mdpo.online.entries import Answer, Entry, Group, Outcome
from llamafactory_mmself.stages.mdpo.online.journal import Journal
from llamafactory_mmself.stages.mdpo.online.pipeline import Pipeline
from llamafactory_mmself.stages.mdpo.online.prompts import OnlinePrompt, PromptOrder
from llamafactory_mmself.stages.mdpo.online.published import PublishedFiles
from llamafactory_mmself.stages.mdpo.online.supply import Plan, Supply


PLAN = Plan(size=2, ranks=1, rank=0, accumulation=1, steps=99, positions=10, sync=True)


def prompts(count=10):
    return [
        OnlinePrompt(
            PreferenceRow(str(n), "f", n, "", "", (Turn("user", f"<image>\nq{n}"),), "ref", ("",)), (n,), (), (0,)
        )
        for n in range(count)
    ]


class Bench:
    """A supply with a sampler and an annotator that note what they are asked for."""

    def __init__(self, folder, plan=PLAN, run="run", fruitless=(), gate=None, fails=None, **limits):
        self.sampled, self.annotated, self.broken = [], [], False
        self.gate, self.fails, self.fruitless = gate, fails, set(fruitless)
        self.journal = Journal(folder, run, 0)
        self.supply = Supply(
            plan=plan,
            order=PromptOrder(prompts(), seed=1),
            sample=self,
            pipeline=Pipeline(self.annotate, workers=2),
            buffer=ExperienceBuffer(Limits(**limits)),
            journal=self.journal,
            files=PublishedFiles(folder),
            clock=Clock(0),
            run=run,
        )

    def refresh(self, step):
        pass

    def close(self):
        pass

    def __call__(self, positions, step):
        if self.broken:
            raise ValueError("no memory")
        self.sampled += positions
        return [Group(position, step, 0, (Answer(f"a{position}", (1,)),)) for position in positions]

    def annotate(self, group):
        if self.gate is not None:
            self.gate.wait(10)
        if group.position == self.fails:
            raise ServiceDead("painter", "The painter is dead.")
        self.annotated.append(group.position)
        number = f"{group.position}.0"
        made = (Entry(number, group.position, group.step, (*group.answers, Answer("b", (2,))), "gap", negative="n"),)
        found = Outcome(
            group.position, group.step, 0, ("t",), (5.0,), () if group.position in self.fruitless else made
        )
        self.journal.finished(found)
        return found

    def take(self, step):
        portion = self.supply.take(step)
        return None if portion is None else [item.position for batch in portion.batches for item in batch]


def test_in_turn_a_wave_at_a_time_and_the_end_of_the_prompts(tmp_path):
    bench = Bench(tmp_path, fruitless=[1, 2, 4])
    assert bench.take(0) == [0, 3]
    assert bench.sampled == [0, 1, 2, 3]
    assert bench.take(1) == [5, 6]
    assert bench.take(2) == [7, 8]
    assert bench.take(3) == [9]  # fewer than a step wants
    assert bench.take(4) is None
    assert bench.supply.counts["prompts"] == 10 and bench.supply.figures()["experience/accepted"] == 7


def test_ahead_of_training_within_bounds(tmp_path):
    gate = threading.Event()
    bench = Bench(tmp_path, replace(PLAN, sync=False, ahead=2), gate=gate)
    threading.Timer(0.2, gate.set).start()
    assert len(bench.take(0)) == 2
    assert sorted(bench.sampled) == list(range(len(bench.sampled)))
    assert 6 <= len(bench.sampled) <= 8  # this step's, and two steps' ahead
    assert bench.supply.clock.figures()["time/wait"] > 0.1


def test_without_a_buffer_leftovers_are_dropped(tmp_path):
    bench = Bench(tmp_path, replace(PLAN, size=3, keep=False), fruitless=[0])
    assert bench.take(0) == [1, 2, 3]
    assert not len(bench.supply.buffer) and bench.take(1) == [6, 7, 8]


def test_with_max_steps_prompts_come_again_until_none_makes_a_pair(tmp_path):
    bench = Bench(tmp_path, replace(PLAN, positions=None))
    assert [bench.take(step) for step in range(6)][-1] == [10, 11]
    barren = Bench(tmp_path / "barren", replace(PLAN, positions=None), fruitless=range(99))
    assert barren.take(0) is None and len(barren.sampled) == 10


@pytest.mark.parametrize("sync", [True, False])
def test_a_resumed_run_goes_on_without_sampling_again(tmp_path, sync):
    plan = replace(PLAN, sync=sync, ahead=1)
    whole = Bench(tmp_path / "whole", plan)
    expected = [whole.take(step) for step in range(6)]
    bench = Bench(tmp_path / "run", plan)
    seen = [bench.take(0), bench.take(1)]
    bench.supply.save(tmp_path / "checkpoint", True)
    bench.take(2)  # done, and lost with the process
    again = Bench(tmp_path / "run", plan)
    again.supply.load(tmp_path / "checkpoint")
    while (found := again.take(len(seen))) is not None:
        seen.append(found)
    assert not set(bench.sampled) & set(again.sampled)
    assert sorted(bench.sampled + again.sampled) == list(range(10))
    if sync:
        assert [*seen, None] == expected
    assert sorted(place for step in seen for place in step) == list(range(10))
    lines = [json.loads(line) for line in (tmp_path / "run" / "online_sample_data.jsonl").read_text().splitlines()]
    assert sorted(line["position"] for line in lines) == list(range(10))
    pairs = [json.loads(line)["id"] for line in (tmp_path / "run" / "data.jsonl").read_text().splitlines()]
    assert len(pairs) == len(set(pairs)) == 10


def test_what_was_under_way_is_in_the_checkpoint(tmp_path):
    gate = threading.Event()
    bench = Bench(tmp_path / "run", replace(PLAN, sync=False, ahead=2), gate=gate)
    bench.supply._sample_wave(0)
    bench.supply.save(tmp_path / "checkpoint", True)
    gate.set()
    again = Bench(tmp_path / "elsewhere", PLAN)  # without the journal
    again.supply.load(tmp_path / "checkpoint")
    assert again.take(0) == [0, 1] and again.sampled == []


def test_a_dead_service_stops_the_run_and_loses_nothing(tmp_path):
    bench = Bench(tmp_path / "run", fails=5)
    assert bench.take(0) == [0, 1]
    assert bench.take(1) == [2, 3]
    with pytest.raises(ServiceDead, match="painter is dead") as caught:
        bench.take(2)
    assert caught.value.service == "painter"
    bench.supply.save(tmp_path / "checkpoint", True)
    again = Bench(tmp_path / "run")
    again.supply.load(tmp_path / "checkpoint")
    assert [again.take(2), again.take(3)] == [[4, 5], [6, 7]]
    assert 5 not in again.sampled


def test_a_sampling_error_is_told_and_its_prompts_come_again(tmp_path):
    bench = Bench(tmp_path / "run")
    bench.broken = True
    with pytest.raises(ValueError, match="no memory"):
        bench.take(0)
    bench.supply.save(tmp_path / "checkpoint", True)
    again = Bench(tmp_path / "run")
    again.supply.load(tmp_path / "checkpoint")
    assert again.take(0) == [0, 1]


def test_checkpoints_of_other_strategies_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="online strategy"):
        Bench(tmp_path).supply.load(tmp_path)


def test_the_published_order_is_the_same_in_every_pass():
    published, ours = PromptOrder(prompts(), None), PromptOrder(prompts(), 7)

    def keys(order, start):
        return [order[start + place].row.key for place in range(10)]

    assert keys(published, 0) == keys(published, 10) != keys(ours, 0)
    assert sorted(keys(ours, 0)) == sorted(keys(ours, 10)) and keys(ours, 0) != keys(ours, 10)
