# SPDX-License-Identifier: Apache-2.0
"""The runner: what is done again, what is left alone, and what a kill leaves behind."""

from pathlib import Path

import pytest

from llamafactory_mmself.files import digest, read_json
from llamafactory_mmself.loop.manifest import Digests
from llamafactory_mmself.loop.steps import LoopError, Runner, Step


class Chain:
    """Three steps that each append a word to the text of the step before; `log` says which ones worked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log: list[str] = []

    def runner(self, first: str = "a", second: str = "b", third: str = "c", fail: str = "") -> Runner:
        return Runner(
            self.folder,
            [
                self.step("first", first, {}, fail),
                self.step("second", second, {"text": self.folder / "first.txt"}, fail),
                self.step("third", third, {"text": self.folder / "second.txt"}, fail),
            ],
        )

    def step(self, name: str, word: str, inputs: dict[str, Path], fail: str) -> Step:
        out, scratch = self.folder / f"{name}.txt", self.folder / f"{name}.part"

        def action() -> dict[str, int]:
            self.log.append(f"{name}+" if scratch.exists() else name)
            scratch.write_text("half")
            if name == fail:
                raise KeyboardInterrupt
            out.write_text("".join(path.read_text() for path in inputs.values()) + word.upper())
            scratch.unlink()
            return {"words": 1}

        return Step(name, action, inputs, (out,), {"word": word}, (self.folder / f"{name}.*",))

    def run(self, **settings: str) -> list[str]:
        self.log.clear()
        self.runner(**settings).run(lambda line: None)
        return list(self.log)

    def plan(self, **settings: str) -> dict[str, str]:
        return {step.name: status for step, status in self.runner(**settings).plan()}


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path)


def test_a_second_run_does_nothing(chain: Chain) -> None:
    assert chain.run() == ["first", "second", "third"]
    assert chain.run() == []
    assert set(chain.plan().values()) == {"done"}


def test_the_manifest_knows_the_whole_plan_from_the_start(chain: Chain) -> None:
    with pytest.raises(KeyboardInterrupt):
        chain.run(fail="second")
    stored = read_json(chain.folder / "manifest.json")
    assert stored["planned"] == ["first", "second", "third"] and [*stored["steps"]] == ["first"]


def test_pictures_count_unless_they_are_plots_of_a_training(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("a.png", "training_loss.png", "training_rewards_margins.png"):
        (folder / name).write_bytes(b"x")
    whole = Digests().of(folder)
    (folder / "training_loss.png").unlink()
    assert Digests().of(folder) == whole
    (folder / "a.png").unlink()
    assert Digests().of(folder) != whole


def test_a_changed_setting_redoes_what_depends_on_it(chain: Chain) -> None:
    chain.run()
    assert chain.plan(second="x") == {"first": "done", "second": "changed", "third": "depends"}
    assert chain.run(second="x") == ["second", "third"]
    assert (chain.folder / "third.txt").read_text() == "AXC"


def test_a_step_whose_output_stays_the_same_redoes_nothing_after_it(chain: Chain) -> None:
    chain.run()
    assert chain.run(second="B") == ["second"]


def test_a_damaged_or_missing_output_is_made_again(chain: Chain) -> None:
    chain.run()
    (chain.folder / "first.txt").write_text("?")
    assert chain.run() == ["first"]
    (chain.folder / "second.txt").unlink()
    assert chain.run() == ["second"]


def test_a_stopped_step_goes_on_from_its_scratch(chain: Chain) -> None:
    with pytest.raises(KeyboardInterrupt):
        chain.run(fail="second")
    assert read_json(chain.folder / "current.json")["step"] == "second"
    assert chain.run() == ["second+", "third"]
    assert not (chain.folder / "current.json").exists()


def test_what_a_kill_left_half_written_in_scratch_is_removed(tmp_path: Path) -> None:
    jobs, out, seen = tmp_path / "jobs", tmp_path / "out.txt", []

    def action() -> dict[str, int]:
        seen.append(sorted(path.name for path in jobs.glob("*")))
        jobs.mkdir(exist_ok=True)
        (jobs / "a.json").write_text("{}")
        (jobs / ".b.json.123.torn").write_text("{")
        if len(seen) == 1:
            raise KeyboardInterrupt
        out.write_text("done")
        return {}

    runner = Runner(tmp_path, [Step("only", action, {}, (out,), {}, (jobs,))])
    with pytest.raises(KeyboardInterrupt):
        runner.run(lambda line: None)
    runner.run(lambda line: None)
    assert seen == [[], ["a.json"]]


def test_scratch_of_other_settings_is_removed(chain: Chain) -> None:
    with pytest.raises(KeyboardInterrupt):
        chain.run(fail="second")
    assert chain.run(second="x") == ["second", "third"]


def test_from_a_step_on_everything_is_done_again(chain: Chain) -> None:
    chain.run()
    runner = chain.runner()
    runner.restart("second")
    chain.log.clear()
    runner.run(lambda line: None)
    assert chain.log == ["second", "third"]
    with pytest.raises(LoopError, match=r"no step 'fourth'.*first, second, third"):
        runner.restart("fourth")


def test_the_manifest_says_what_went_in_and_out(chain: Chain) -> None:
    chain.run()
    record = read_json(chain.folder / "manifest.json")["steps"]["second"]
    assert record["inputs"] == {"first.txt": digest(chain.folder / "first.txt")}
    assert record["outputs"] == {"second.txt": digest(chain.folder / "second.txt")}
    assert record["figures"] == {"words": 1} and record["seconds"] >= 0


def test_a_run_that_was_moved_is_still_done(chain: Chain, tmp_path: Path) -> None:
    chain.folder = tmp_path / "here"
    chain.folder.mkdir()
    chain.run()
    chain.folder = chain.folder.rename(tmp_path / "there")
    assert chain.run() == []


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    step = Step("only", dict, {"questions": tmp_path / "gone.json"}, (tmp_path / "out",))
    with pytest.raises(LoopError, match=r"only: its input questions is missing: .*gone\.json"):
        Runner(tmp_path, [step]).run(print)


def test_a_step_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LoopError, match="without writing out"):
        Runner(tmp_path, [Step("only", dict, {}, (tmp_path / "out",))]).run(print)
