# SPDX-License-Identifier: Apache-2.0
"""Starting LLaMA-Factory: failures, leftovers of a kill, half-written checkpoints. A small script plays its part."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from llamafactory_mmself.loop import training
from llamafactory_mmself.loop.steps import LoopError


# What `llamafactory-cli train x.yaml` leaves behind; `mode` says how it ends.
SCRIPT = """
import json, pathlib, sys, time, yaml
values = yaml.safe_load(open(sys.argv[2]))
out = pathlib.Path(values["output_dir"])
out.mkdir(parents=True, exist_ok=True)
print("checkpoints:", sorted(path.name for path in out.glob("checkpoint-*")))
if values["mode"] == "hang":
    time.sleep(600)
if values["mode"] == "full":
    for name, file in (("checkpoint-2", "scheduler.pt"), ("checkpoint-2", "trainer_state.json")):
        (out / name).mkdir(exist_ok=True)
        (out / name / file).write_text("{}")
    torn = out / "checkpoint-4" / "optimizer.pt"
    torn.parent.mkdir()
    torn.symlink_to("/dev/full")  # each write to it finds a full disk
    torn.write_bytes(b"state")
if values["mode"] == "torch":
    sys.exit("RuntimeError: [enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")
if values["mode"] == "fail":
    sys.exit("CUDA out of memory")
if values["mode"] == "train":
    (out / "model.safetensors").write_text("weights")
    history = [{"step": 3, "loss": 2.0}, {"step": 4, "train_loss": 1.5}]
    (out / "trainer_state.json").write_text(json.dumps({"log_history": history}))
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    script = tmp_path / "llamafactory-cli.py"
    script.write_text(SCRIPT)
    monkeypatch.setattr(training, "program", lambda: [sys.executable, str(script)])

    def run(mode: str = "train") -> dict:
        return training.train({"mode": mode, "output_dir": str(tmp_path / "model")}, tmp_path / "train.yaml")

    return run


def test_figures_and_files(start, tmp_path) -> None:
    assert start() == {"steps": 4, "loss": 1.5}
    assert yaml.safe_load((tmp_path / "train.yaml").read_text())["mode"] == "train"
    assert (tmp_path / "train.log").exists()


def test_a_failed_training_shows_the_end_of_its_log(start) -> None:
    with pytest.raises(LoopError, match=r"(?s)failed with status 1.*CUDA out of memory.*finished steps are kept"):
        start("fail")


def test_a_full_disk_names_the_file_and_the_fix_and_keeps_what_is_complete(start, tmp_path) -> None:
    with pytest.raises(LoopError) as caught:
        start("full")
    told, torn = str(caught.value), tmp_path / "model" / "checkpoint-4" / "optimizer.pt"
    assert f"The disk is full; the last file in writing was {torn}" in told
    assert "Make room" in told and "No space left on device" in told and "run the same command again" in told
    assert start()["steps"] == 4
    assert (tmp_path / "train.log").read_text().endswith("checkpoints: ['checkpoint-2']\n")
    assert not (tmp_path / "model" / "checkpoint-4").exists()


def test_a_full_disk_is_seen_where_the_log_does_not_say_so(start, monkeypatch) -> None:
    with pytest.raises(LoopError, match="The disk is full"):
        start("torch")
    usage = training.shutil.disk_usage("/")._replace(free=4096)
    monkeypatch.setattr(training.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(LoopError, match=r"The disk is full; the last file in writing was \S+model\. Make room"):
        start("fail")


def test_a_training_without_weights_is_a_failure(start) -> None:
    with pytest.raises(LoopError, match="ended without weights"):
        start("nothing")


def test_only_complete_checkpoints_are_resumed(start, tmp_path) -> None:
    for name, state in (("checkpoint-2", "{}"), ("checkpoint-4", ""), ("checkpoint-6", None), ("checkpoint-8", "{}")):
        folder = tmp_path / "model" / name
        folder.mkdir(parents=True)
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
        if name != "checkpoint-8":
            (folder / "scheduler.pt").write_text("")
    start()
    assert "checkpoints: ['checkpoint-2']" in (tmp_path / "train.log").read_text()


def test_without_a_checkpoint_training_starts_in_an_empty_folder(start, tmp_path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "adapter_model.safetensors").write_text("left over")
    start()
    assert not (tmp_path / "model" / "adapter_model.safetensors").exists()


def test_what_a_killed_loop_left_running_is_stopped_first(start, tmp_path) -> None:
    line = [*training.program(), "train", str(tmp_path / "train.yaml")]
    (tmp_path / "train.yaml").write_text(yaml.safe_dump({"mode": "hang", "output_dir": str(tmp_path / "model")}))
    left = subprocess.Popen(line, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        assert left.poll() is None
        start()
        assert left.wait(5) == -signal.SIGTERM
    finally:
        if left.poll() is None:
            os.killpg(left.pid, signal.SIGKILL)
            left.wait()


def test_an_interrupt_stops_the_training(start, monkeypatch) -> None:
    children = []
    popen = subprocess.Popen

    def remember(*args, **kwargs):
        children.append(popen(*args, **kwargs))
        return children[-1]

    def interrupt(child, progress) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training.subprocess, "Popen", remember)
    monkeypatch.setattr(training, "_watch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        start("hang")
    assert children[0].poll() is not None


def test_a_checkpoint_of_the_last_step_is_not_gone_on_from(tmp_path) -> None:
    from llamafactory_mmself.loop.training import _complete_checkpoints

    for step in (2, 4):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text("{}")
        (folder / "scheduler.pt").write_bytes(b"")
    assert len(_complete_checkpoints(tmp_path, -1)) == 2
    assert [path.name for path in _complete_checkpoints(tmp_path, 4)] == ["checkpoint-2"]
    assert not (tmp_path / "checkpoint-4").exists()
