# SPDX-License-Identifier: Apache-2.0
"""Sampling jobs: fixed batches, journals, and the same file however often a job is stopped."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from llamafactory_mmself.files import FileError
from llamafactory_mmself.generate.config import EngineConfig
from llamafactory_mmself.generate.jobs import SampleJob, manifest_path, read_samples, run_job
from llamafactory_mmself.generate.journal import journal_path, journals, locked
from llamafactory_mmself.generate.types import EngineError, Request, SamplingParams


CONFIG = EngineConfig(model="echo", template="none", batch_size=3)


def make_job(out, count=10, seed=7, **params):
    """Ten prompts of growing length, two samples each."""
    requests = [Request.ask(f"q{place}", "word " * (place * 7 % 10 + 1)) for place in range(count)]
    return SampleJob(requests, SamplingParams(**{"n": 2, **params}), seed, Path(out))


def run(job, engine, config=CONFIG):
    """Without a bar."""
    return run_job(job, config, engine=engine, progress=False)


@pytest.fixture
def reference(echo, tmp_path):
    """The bytes of a job that was never stopped."""
    return run(make_job(tmp_path / "reference.jsonl"), echo()).read_bytes()


def test_samples_come_in_the_order_of_requests(echo, tmp_path):
    engine = echo()
    out = run(make_job(tmp_path / "deep" / "out.jsonl"), engine)
    samples = read_samples(out)
    assert [sample.id for sample in samples] == [f"q{place}#{k}" for place in range(10) for k in range(2)]
    assert samples[0].policy == "echo-1"
    assert samples[0].completion.logprobs == (-0.5, -0.1, -1 / 3)
    assert sorted(path.name for path in out.parent.iterdir()) == ["out.jsonl", "out.jsonl.manifest.json"]


def test_batches_hold_prompts_of_like_length_and_seeds_of_their_own(echo, tmp_path):
    engine = echo()
    job = make_job(tmp_path / "out.jsonl")
    out = run(job, engine)
    manifest = json.loads(manifest_path(out).read_text())
    lengths = {request.id: len(request.messages[0].content) for request in job.requests}
    sampled = [lengths[request] for batch in engine.calls for request in batch]
    assert sampled == sorted(sampled, reverse=True)
    assert [len(batch["requests"]) for batch in manifest["batches"]] == [3, 3, 3, 1]
    assert len({batch["seed"] for batch in manifest["batches"]}) == 4
    assert manifest["finished"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert manifest["policy"] == "echo-1" and manifest["params"]["n"] == 2


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_a_stopped_job_goes_on_and_ends_the_same(echo, tmp_path, reference, stop):
    job = make_job(tmp_path / "out.jsonl")
    first, second = echo(fail_at=stop), echo()
    with pytest.raises(RuntimeError):
        run(job, first)
    assert not job.out.exists()
    assert run(job, second).read_bytes() == reference
    assert len(first.calls) + len(second.calls) == 4
    assert not journals(job.out)


def test_a_finished_job_is_not_sampled_again(echo, tmp_path, reference):
    job = make_job(tmp_path / "out.jsonl")
    run(job, echo())
    assert run(job, echo(fail_at=0)).read_bytes() == reference


def test_a_changed_file_is_sampled_again(echo, tmp_path, reference):
    job = make_job(tmp_path / "out.jsonl")
    run(job, echo())
    job.out.write_text("")
    assert run(job, echo()).read_bytes() == reference


@pytest.mark.parametrize("damage", [lambda line: line[:-40], lambda line: line.replace(b"word", b"sword", 1)])
def test_a_damaged_batch_is_reported_once_and_redone_alone(echo, tmp_path, reference, capsys, damage):
    job = make_job(tmp_path / "out.jsonl")
    with pytest.raises(RuntimeError):
        run(job, echo(fail_at=3))
    journal = journal_path(job.out, 0)
    *good, last = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*good, damage(last)]))
    engine = echo(fail_at=1)
    with pytest.raises(RuntimeError):
        run(job, engine)
    said = capsys.readouterr().err
    assert said.count("out.jsonl.journal-0.jsonl, line 3 ") == 1 and "sampled again" in said
    assert run(job, echo()).read_bytes() == reference
    assert "journal" not in capsys.readouterr().err


def test_another_jobs_journal_is_set_aside_and_the_difference_told(echo, tmp_path, reference, capsys):
    out = tmp_path / "out.jsonl"
    with pytest.raises(RuntimeError):
        run(make_job(out, temperature=0.5), echo(fail_at=2))
    assert run(make_job(out), echo()).read_bytes() == reference
    said = capsys.readouterr().err
    assert "belongs to another job (params.temperature: 0.5 → 1.0)" in said
    assert (tmp_path / "out.jsonl.journal-0.jsonl.stale").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda job, engine: (replace(job, seed=8), engine), "seed: 7 → 8"),
        (lambda job, engine: (job, replace(engine, policy="echo-2")), "policy: 'echo-1' → 'echo-2'"),
        (lambda job, engine: (replace(job, requests=list(job.requests[1:])), engine), "other requests"),
    ],
)
def test_a_finished_job_is_replaced_when_something_changed(echo, tmp_path, capsys, change, told):
    job, engine = make_job(tmp_path / "out.jsonl"), echo()
    before = run(job, engine).read_bytes()
    job, engine = change(job, replace(engine, calls=[]))
    assert run(job, engine).read_bytes() != before
    assert f"was sampled otherwise ({told}" in capsys.readouterr().err


def test_a_file_that_is_no_samples_file_is_never_replaced(echo, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("precious\n")
    with pytest.raises(EngineError, match="exists and is no finished sampling job"):
        run(make_job(out), echo())
    assert out.read_text() == "precious\n"


def test_a_broken_picture_is_found_before_sampling(echo, tmp_path, shapes):
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(shapes[0]).read_bytes()[:100])
    requests = [Request.ask("good", "<image>", [shapes[0]]), Request.ask("bad", "<image>", [str(broken)])]
    engine = echo()
    with pytest.raises(EngineError, match=r"Request 'bad': image .*broken.png cannot be read"):
        run(SampleJob(requests, SamplingParams(), 0, tmp_path / "out.jsonl"), engine)
    assert not engine.calls


def test_new_pictures_under_old_names_are_sampled_again(echo, tmp_path, shapes):
    picture = tmp_path / "picture.png"
    picture.write_bytes(Path(shapes[0]).read_bytes())
    job = SampleJob([Request.ask("a", "<image>", [str(picture)])], SamplingParams(), 0, tmp_path / "out.jsonl")
    run(job, echo())
    picture.write_bytes(Path(shapes[1]).read_bytes())
    engine = echo()
    run(job, engine)
    assert engine.calls == [("a",)]


def test_a_full_disk_keeps_what_is_there(echo, tmp_path, reference, monkeypatch):
    job = make_job(tmp_path / "out.jsonl")
    calls = []

    def fsync(handle):
        calls.append(handle)
        if len(calls) == 5:  # two for journal and manifest, two batches
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(FileError, match=r"No space left on device\. Finished batches are kept\. The disk is full"):
            run(job, echo())
    engine = echo()
    assert run(job, engine).read_bytes() == reference
    assert len(engine.calls) == 2


def test_ctrl_c_says_how_to_go_on(echo, tmp_path, capsys):
    job = make_job(tmp_path / "out.jsonl")
    with pytest.raises(KeyboardInterrupt):
        run(job, echo(fail_at=2, error=KeyboardInterrupt()))
    assert "run the same command again to go on" in capsys.readouterr().err
    assert len(journal_path(job.out, 0).read_text().splitlines()) == 2


def test_two_jobs_never_write_one_file(echo, tmp_path, monkeypatch):
    monkeypatch.setattr("llamafactory_mmself.generate.journal.PATIENCE", 0.2)
    job = make_job(tmp_path / "out.jsonl")
    with locked(job.out), pytest.raises(EngineError, match="Another process is sampling into"):
        run(job, echo())


def test_read_samples_names_a_wrong_line(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"id": "a#0"}\n')
    with pytest.raises(FileError, match=r"x.jsonl, sample 1: no field"):
        read_samples(tmp_path / "x.jsonl")


# With the tiny model.


@pytest.fixture
def requests_file(tmp_path, shapes):
    """Two dozen prompts in a file, and the same as requests."""
    from llamafactory_mmself.generate.requests import read_requests

    path = tmp_path / "requests.jsonl"
    rows = [
        {"id": f"q{place}", "prompt": "<image>\nQuestion" + " more" * (place % 5), "images": [shapes[place % 3]]}
        for place in range(24)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path, read_requests(path)


def sample_command(config, requests, out, workers=1):
    """The command line of the same job as `hf_job`."""
    options = ["--requests", requests, "--model", config.model, "--template", config.template, "--device", "cpu"]
    options += ["--batch_size", config.batch_size, "--workers", workers, "--n", 2, "--max_new_tokens", 150]
    return [sys.executable, "-m", "llamafactory_mmself.cli", "sample", *map(str, options), "--out", str(out)]


def hf_job(requests, out):
    """Two samples of each prompt."""
    return SampleJob(requests, SamplingParams(n=2, max_new_tokens=150), 0, out)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_changes_nothing(tiny_config, tiny_engine, requests_file, tmp_path, clean_environment, workers):
    path, requests = requests_file
    config = tiny_config(batch_size=2)
    engine = tiny_engine("qwen2_vl")
    engine.config = config
    whole = run_job(hf_job(requests, tmp_path / "whole.jsonl"), config, engine=engine, progress=False)

    out = tmp_path / "killed.jsonl"
    process = subprocess.Popen(sample_command(config, path, out, workers), env=clean_environment())
    deadline = time.monotonic() + 200
    while not any(journal.stat().st_size for journal in journals(out)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run_job(hf_job(requests, out), config, engine=engine, progress=False)
    assert out.read_bytes() == whole.read_bytes()
    assert manifest_path(out).read_bytes() == manifest_path(whole).read_bytes()


@pytest.mark.slow
def test_two_workers_write_the_file_of_one(tiny_config, tiny_engine, requests_file, tmp_path):
    _, requests = requests_file
    config = tiny_config(batch_size=4)
    engine = tiny_engine("qwen2_vl")
    engine.config = config
    one = run_job(hf_job(requests, tmp_path / "one.jsonl"), config, engine=engine, progress=False)
    two = run_job(hf_job(requests, tmp_path / "two.jsonl"), replace(config, workers=2), progress=False)
    assert two.read_bytes() == one.read_bytes()
    assert manifest_path(two).read_bytes() == manifest_path(one).read_bytes()


@pytest.mark.slow
def test_a_workers_error_reaches_the_user(tiny_config, requests_file, tmp_path):
    _, requests = requests_file
    config = tiny_config(workers=2, llamafactory={"not_an_argument": 1})
    with pytest.raises(EngineError, match=r"Sampling worker \d: Model .* cannot be loaded .*not_an_argument"):
        run_job(hf_job(requests, tmp_path / "out.jsonl"), config, progress=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_writes_the_same_file(tiny_config, tiny_engine, requests_file, tmp_path):
    import ray

    _, requests = requests_file
    config = tiny_config(batch_size=4)
    engine = tiny_engine("qwen2_vl")
    engine.config = config
    one = run_job(hf_job(requests, tmp_path / "one.jsonl"), config, engine=engine, progress=False)
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        spread = replace(config, workers=2, ray=True)
        two = run_job(hf_job(requests, tmp_path / "two.jsonl"), spread, progress=False)
    finally:
        ray.shutdown()
    assert two.read_bytes() == one.read_bytes()
    assert not journals(two)
