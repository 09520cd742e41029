# SPDX-License-Identifier: Apache-2.0
"""Every command that takes long, struck by every fault at a random moment, and then run again to its end.

`MMSELF_FAULT_SEED` draws other moments; the seed of a failure stands in its output.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from random import Random

import pytest

from tests.faults.commands import COMMANDS
from tests.faults.harness import PATIENCE, SEED, Bench, Child, Command, damage, newest


AGAIN = "the same command again"
SOON = 5.0  # seconds in which a stopped command ends


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Command], Bench]]:
    """Command -> a bench for it, with nothing written yet."""
    made: dict[str, Bench] = {}

    def get(command: Command) -> Bench:
        if command.name not in made:
            made[command.name] = Bench(command, tmp_path_factory.mktemp("bench"))
        made[command.name].clear()
        return made[command.name]

    yield get
    for each in made.values():
        each.service.go()


def killed(bench: Bench, dice: Random) -> int:
    """Twice, as the second kill may hit what the first one left."""
    for _ in range(2):
        child = bench.start()
        bench.strike(child, dice)
        child.send(signal.SIGKILL)
        child.end()
    return 2


def stopped(bench: Bench, dice: Random, number: signal.Signals) -> int:
    child = bench.start()
    bench.strike(child, dice)
    begun = time.monotonic()
    child.send(number)
    status, said = child.end()
    assert time.monotonic() - begun < SOON
    if bench.trace().files != bench.untouched.files:
        assert status == 128 + number, said
        assert_told(said, AGAIN)
    return 1


def terminated(bench: Bench, dice: Random) -> int:
    return stopped(bench, dice, signal.SIGTERM)


def interrupted(bench: Bench, dice: Random) -> int:
    return stopped(bench, dice, signal.SIGINT)


def paused(bench: Bench, dice: Random) -> int:
    child = bench.start()
    bench.strike(child, dice)
    child.send(signal.SIGSTOP)
    time.sleep(0.2)
    child.send(signal.SIGCONT)
    assert_done(child)
    return 0


def disk_full(bench: Bench, dice: Random) -> int:
    child = bench.start()
    bench.strike(child, dice)
    child.fill_disk()
    status, said = child.end()
    if status or bench.trace().files != bench.untouched.files:
        assert status > 0, said
        assert_told(said, "disk is full", AGAIN)
    return 1


def network_blinks(bench: Bench, dice: Random) -> int:
    child = bench.start()
    bench.strike(child, dice)
    bench.service.go()
    time.sleep(0.1)
    bench.service.come_back()
    assert_done(child)
    return 1


def network_gone(bench: Bench, dice: Random) -> int:
    child = bench.start()
    bench.strike(child, dice)
    bench.service.go()
    status, said = child.end()
    bench.service.come_back()
    if status or bench.trace().files != bench.untouched.files:
        assert_told(said, AGAIN)
    return 1


def newest_damaged(bench: Bench, dice: Random) -> None:
    """Of a killed run, and then of one that had ended."""
    child = bench.start()
    bench.strike(child, dice)
    child.send(signal.SIGKILL)
    child.end()
    for _ in range(2):
        path = newest(bench.out)
        if path is not None:
            print(damage(path, dice))
            status, said = bench.start().end()
            if status:
                assert_told(said, path.name, "again")
                path.unlink()
        assert_done(bench.start())


FAULTS: dict[str, Callable[[Bench, Random], int | None]] = {
    "killed": killed,
    "terminated": terminated,
    "interrupted": interrupted,
    "paused": paused,
    "disk full": disk_full,
    "network blinks": network_blinks,
    "network gone": network_gone,
    "newest damaged": newest_damaged,
}


def assert_told(said: str, *words: str) -> None:
    """A message that says what to do, and no traceback."""
    assert "Traceback" not in said, said
    for word in words:
        assert word in said, said


def assert_done(child: Child) -> None:
    status, said = child.end()
    assert status == 0, said
    assert "Traceback" not in said, said


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_fault_costs_what_was_under_way_and_nothing_else(command, fault, bench) -> None:
    print(f"MMSELF_FAULT_SEED={SEED}")
    scene = bench(command)
    faults = FAULTS[fault](scene, Random(f"{SEED} {command.name} {fault}"))
    assert_done(scene.start())
    trace = scene.trace()
    assert trace.results == scene.untouched.results
    if faults is not None:
        assert trace.files == scene.untouched.files
        assert trace.answers.keys() == scene.untouched.answers.keys()
        assert trace.answers.total() - scene.untouched.answers.total() <= faults * command.batch
        assert trace.trainings - scene.untouched.trainings <= faults


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stopped_command_as_a_user_starts_it(number, bench) -> None:
    """Not as a fork: with the interpreter's own start and end."""
    scene = bench(COMMANDS[0])
    scene.clear()
    scene.service.gate.clear()  # it is amid its work for as long as it takes
    line = [sys.executable, "-m", "llamafactory_mmself", *scene.line]
    before = signal.signal(number, signal.SIG_DFL)  # a runner in the background may have it ignored
    try:
        process = subprocess.Popen(line, cwd=scene.folder, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(number, before)
    deadline = time.monotonic() + PATIENCE
    while not scene.service.total and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(number)
    scene.service.gate.set()
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 128 + number, said
    assert_told(said, f"stopped by {number.name}", AGAIN)
    assert_done(scene.start())
    assert scene.trace().files == scene.untouched.files


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_what_is_done_is_not_done_again(command, bench) -> None:
    scene = bench(command)
    for _ in range(2):
        assert_done(scene.start())
    assert scene.trace() == scene.untouched
