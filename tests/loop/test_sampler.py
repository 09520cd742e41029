# SPDX-License-Identifier: Apache-2.0
"""The process that holds the engine on a GPU; here its engine is on the CPU."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.jobs import SampleJob, read_samples
from llamafactory_mmself.generate.types import EngineError, Request, SamplingParams
from llamafactory_mmself.loop import sampler as module
from llamafactory_mmself.loop.sampler import Sampler


@pytest.fixture
def config(tiny_models) -> EngineConfig:
    return EngineConfig.from_dict({"model": str(tiny_models("qwen2_vl")), "template": "qwen2_vl", "device": "cpu"})


@pytest.mark.slow
def test_the_process_samples_what_this_one_would(config, tmp_path, monkeypatch) -> None:
    params = SamplingParams(n=2, max_new_tokens=4)

    def sample(name: str) -> bytes:
        sampler = Sampler()
        try:
            job = SampleJob((Request.ask("a", "Hello"),), params, 0, tmp_path / name)
            sampler.run(job, config)
            with pytest.raises(EngineError, match="gone"):
                sampler.run(SampleJob((Request.ask("b", "<image>", ["gone.png"]),), params, 0, tmp_path / "x"), config)
        finally:
            sampler.close()
        assert len(read_samples(tmp_path / name)) == 2
        return (tmp_path / name).read_bytes()

    here = sample("here.jsonl")
    monkeypatch.setattr(module, "_uses_gpu", lambda config: True)
    assert sample("there.jsonl") == here


ORPHAN = """
import multiprocessing, os, signal, sys
from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.loop import sampler
if __name__ == "__main__":
    sampler._isolated(EngineConfig())
    print(multiprocessing.active_children()[0].pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_the_process_ends_with_a_killed_loop(tmp_path) -> None:
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    child, deadline = int(done.stdout), time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the sampling process outlived the loop")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_an_interrupt_does_not_wait_for_a_process_that_hears_nothing(number) -> None:
    """Stopped, it is as deaf as amid a job; killed, its pipe is broken."""
    _, close = module._isolated(EngineConfig())
    (child,) = multiprocessing.active_children()
    os.kill(child.pid, number)
    begun = time.monotonic()
    close(True)
    assert time.monotonic() - begun < 10
    child.join(10)
    assert not child.is_alive()
