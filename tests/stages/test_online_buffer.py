# SPDX-License-Identifier: Apache-2.0
"""The experience buffer, its journal, and how a step is dealt out."""

from collections import Counter

import pytest

from llamafactory_mmself.stages.mdpo.online.buffer import ExperienceBuffer, Limits, shares
from llamafactory_mmself.stages.mdpo.online.entries import Answer, Entry, Group, Outcome
from llamafactory_mmself.stages.mdpo.online.journal import Journal
from llamafactory_mmself.stages.mdpo.online.published import claim


def entry(position, step=0, difficulty=0.5):
    answers = (Answer("good", (1, 2), score=9.0), Answer("bad", (3,), score=1.0))
    return Entry(f"{position}.0", position, step, answers, "gap", rule="robust", difficulty=difficulty)


def filled(count, **limits):
    buffer = ExperienceBuffer(Limits(**limits))
    buffer.add(entry(position) for position in range(count))
    return buffer


def names(entries):
    return [item.position for item in entries]


def test_entries_are_taken_once_in_their_order():
    buffer = filled(5)
    assert names(buffer.take(2, 0)) == [0, 1]
    assert names(buffer.take(9, 1)) == [2, 3, 4]
    assert not len(buffer) and buffer.take(1, 2) == []


def test_replayed_entries_wait_for_the_others():
    buffer = filled(3, replay=2)
    assert [names(buffer.take(2, step)) for step in range(3)] == [[0, 1], [2, 0], [1, 2]]
    assert buffer.counts["replayed"] == 3 and not len(buffer)


def test_old_entries_are_dropped_and_counted():
    buffer = filled(2, staleness=3)
    buffer.add([entry(7, step=2)])
    buffer.drop_stale(3)
    assert len(buffer) == 3
    buffer.drop_stale(4)
    assert names(buffer.take(9, 4)) == [7] and buffer.counts["stale"] == 2


def test_a_full_buffer_lets_go_of_the_most_used_then_the_oldest():
    buffer = filled(3, size=3, replay=5)
    buffer.take(1, 0)
    buffer.add([entry(3, step=1)])
    assert names(item.entry for item in buffer.held) == [1, 2, 3]
    buffer.add([entry(4, step=1)])
    assert names(item.entry for item in buffer.held) == [2, 3, 4]
    assert buffer.counts["evicted"] == 2


@pytest.mark.parametrize("settings", [{"half_life": 1.0}, {"difficulty": 3.0}])
def test_recent_and_difficult_entries_are_drawn_more_often(settings):
    drawn = Counter()
    for seed in range(60):
        buffer = ExperienceBuffer(Limits(seed=seed, **settings))
        buffer.add([entry(0, step=0, difficulty=0.2), entry(1, step=3, difficulty=0.9)])
        drawn.update(names(buffer.take(1, 3)))
    assert drawn[1] > 45


def test_draws_can_be_repeated_and_keep_the_order_of_arrival():
    first, second = filled(20, half_life=5.0, seed=3), filled(20, half_life=5.0, seed=3)
    taken = names(first.take(6, 2))
    assert taken == names(second.take(6, 2)) == sorted(taken)
    assert taken != names(filled(20, half_life=5.0, seed=4).take(6, 2))


def test_a_buffer_goes_through_a_checkpoint():
    buffer = filled(3, replay=2)
    buffer.take(1, 0)
    other = ExperienceBuffer(buffer.limits)
    other.load(buffer.to_rows(), buffer.counts)
    assert other == buffer
    assert names(other.take(3, 1)) == [1, 2, 0]


def test_two_ranks_see_what_one_would():
    entries = [entry(position) for position in range(5)]
    one = [names(part) for batch in shares(entries, 2, 1, 4) for part in batch]
    two = [names(part) for batch in shares(entries, 2, 2, 2) for part in batch]
    assert one == two == [[0, 1], [2, 3], [4], []]


def outcome(position):
    return Outcome(position, 1, 0, ("a",), (7.0,), (entry(position),), duplicates=2, lost={"no pair": 1})


def test_a_journal_gives_back_what_all_ranks_wrote(tmp_path):
    groups = [Group(position, 3, 1, (Answer("a", (1, 2), (-0.1, -1 / 3)),), 4) for position in (5, 6)]
    first, second = Journal(tmp_path, "run", 0), Journal(tmp_path, "run", 1)
    first.finished(outcome(4))
    second.sampled(groups)
    found = first.read()
    assert found.outcomes == {4: outcome(4)}
    assert found.groups == {5: groups[0], 6: groups[1]}


def test_a_torn_line_is_as_if_it_had_never_been(tmp_path):
    journal = Journal(tmp_path, "run", 0)
    journal.finished(outcome(1))
    (file,) = (tmp_path / "experience").iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b'\n{"outcome": {"posi')
    assert journal.read().outcomes.keys() == {1}
    journal.finished(outcome(2))
    assert journal.read().outcomes.keys() == {1, 2}


def test_journals_of_other_runs_are_left_out(tmp_path):
    old, new = Journal(tmp_path, "old", 0), Journal(tmp_path, "new", 0)
    old.finished(outcome(1))
    new.finished(outcome(2))
    assert new.read().outcomes.keys() == {2}


def test_a_new_run_removes_what_is_left_in_its_own_folder_only(tmp_path):
    """Elsewhere it may be what a run that is alive, or will be resumed, has sampled."""
    old = Journal(tmp_path, "old", 0)
    assert claim(tmp_path, tmp_path / "output") == ""
    old.finished(outcome(1))
    (tmp_path / "data.jsonl").write_text("{}\n")
    for other in ("another output", "."):
        assert "holds what another run has sampled" in claim(tmp_path, tmp_path / other)
    assert old.read().outcomes and (tmp_path / "data.jsonl").exists()
    assert claim(tmp_path, tmp_path / "elsewhere" / ".." / "output") == ""  # the same run, started again
    assert not old.read().outcomes and not (tmp_path / "data.jsonl").exists()
