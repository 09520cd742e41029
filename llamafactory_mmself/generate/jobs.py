# SPDX-License-Identifier: Apache-2.0
"""Sampling jobs: batches that are fixed before the first one runs, and that survive being killed.

Beside the samples file `OUT` stand, while a job runs, its journals `OUT.journal-<rank>.jsonl`, and from then on its
manifest `OUT.manifest.json`: requests, batches, seeds, settings, policy and versions, and at the end the digest of the
finished file. A batch's samples depend on the manifest alone, so that a job that was killed, or shared by several
workers, ends with the file of one that was not.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..files import FileError, digest, read_json, read_jsonl, write_jsonl, write_text
from .config import EngineConfig
from .encoding import ImageFact, check_requests, estimated_lengths, inspect_images
from .engines import build_engine
from .journal import Journal, compact, journal_path, journals, locked, read_journals
from .policy import policy_of
from .seeds import derived_seed
from .types import Engine, EngineError, Request, Sample, SamplingParams


FORMAT = 1
PACKAGES = ("llamafactory-mmself", "llamafactory", "transformers", "torch", "peft", "pillow")


@dataclass(frozen=True)
class SampleJob:
    """What to sample.

    Attributes:
        requests: the prompts, each with an id of its own.
        params: how to sample.
        seed: decides everything that is left to chance.
        out: the samples file to write.
    """

    requests: Sequence[Request]
    params: SamplingParams
    seed: int
    out: Path


@dataclass(frozen=True)
class Batch:
    """Prompts that are sampled together: places of their requests in the job, and the batch's own seed."""

    requests: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Plan:
    """A job with everything decided: what workers get.

    Attributes:
        job: the job.
        config: the engine.
        policy: which weights answer.
        batches: in the order of sampling, long prompts first.
        key: digest of the manifest; journals bear it.
    """

    job: SampleJob
    config: EngineConfig
    policy: str
    batches: tuple[Batch, ...]
    key: str

    def sample(self, engine: Engine, batch: int) -> list[Sample]:
        """Samples one batch.

        Raises:
            EngineError: the engine cannot, or has other weights than the job started with.
        """
        if engine.policy != self.policy:
            raise EngineError(
                f"The model has changed since the job began: policy {engine.policy} instead of {self.policy}. "
                "Run the command again."
            )
        requests = [self.job.requests[place] for place in self.batches[batch].requests]
        answers = engine.generate(requests, self.job.params, self.batches[batch].seed)
        return [
            Sample(f"{request.id}#{k}", request.id, k, self.policy, completion)
            for request, completions in zip(requests, answers, strict=True)
            for k, completion in enumerate(completions)
        ]


#: Called with the numbers of samples and tokens of each batch, once it is on the disk.
Report = Callable[[int, int], None]


def run_job(job: SampleJob, config: EngineConfig, *, engine: Engine | None = None, progress: bool = True) -> Path:
    """Samples what is still missing; returns the finished file, in the order of the requests.

    Args:
        job: what to sample.
        config: the engine's settings.
        engine: an engine with these settings that is already loaded; it stays loaded.
        progress: whether to show a bar.

    Raises:
        EngineError: the job is not well-formed, a picture is broken, or the engine fails. Finished batches are kept.
        FileError: the disk is full.
    """
    out = Path(job.out)
    requests = list(job.requests)
    job = SampleJob(requests, job.params, job.seed, out)
    check_requests(requests)
    images = inspect_images(requests)
    if engine is None and config.name == "openai":
        engine = build_engine(config)
    policy = policy_of(config) if engine is None else engine.policy
    manifest = make_manifest(job, config, policy, images)
    batches = tuple(Batch(tuple(entry["requests"]), entry["seed"]) for entry in manifest["batches"])
    plan = Plan(job, config, policy, batches, _digest(manifest))
    path = manifest_path(out)
    with locked(out) as lock:
        if _is_finished(path, manifest, out):
            for journal in journals(out):
                journal.unlink()
            return out
        done = _resume(path, manifest, plan)
        _write_manifest(path, manifest, None)
        _sample_missing(plan, done, engine, lock, progress)
        _write_samples(plan, path, manifest)
    return out


def read_samples(path: Path) -> list[Sample]:
    """Reads a samples file.

    Raises:
        FileError: naming file and line.
    """
    samples = []
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            samples.append(Sample.from_row(row))
        except KeyError as error:
            raise FileError(f"{path}, sample {number}: no field {error}; is this a samples file?") from error
    return samples


def manifest_path(out: Path) -> Path:
    """Where a job's manifest stands."""
    return out.with_name(f"{out.name}.manifest.json")


def make_manifest(job: SampleJob, config: EngineConfig, policy: str, images: dict[str, ImageFact]) -> dict[str, Any]:
    """Everything that a job's samples depend on, the composition of its batches included."""
    lengths = estimated_lengths(job.requests, images, config.pixels)
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    chunks = [order[start : start + config.batch_size] for start in range(0, len(order), config.batch_size)]
    packages = PACKAGES if config.name != "vllm" else (*PACKAGES, *packages_distributions().get("vllm", ())[:1])
    return {
        "format": FORMAT,
        "engine": config.identity(),
        "policy": policy,
        "params": job.params.to_dict(),
        "seed": job.seed,
        "versions": {name: version(name) for name in packages},
        "requests": [[request.id, _request_digest(request, images)] for request in job.requests],
        "batches": [
            {"seed": derived_seed(job.seed, number), "requests": chunk} for number, chunk in enumerate(chunks)
        ],
    }


def _request_digest(request: Request, images: dict[str, ImageFact]) -> str:
    turns = [[message.role, message.content] for message in request.messages]
    prefix = [request.prefix] if request.prefix else []
    return _digest([turns, [images[image].digest for image in request.images], *prefix])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _write_manifest(path: Path, manifest: dict[str, Any], finished: str | None) -> None:
    lines = [
        f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in {**manifest, "finished": finished}.items()
    ]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def _read_manifest(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        found: dict[str, Any] = read_json(path)
    except FileError as error:
        _tell(f"{error} The job starts again.")
        return {"format": None}
    return found


def _is_finished(path: Path, manifest: dict[str, Any], out: Path) -> bool:
    found = _read_manifest(path)
    if found is None or not out.exists():
        return False
    finished = found.pop("finished", None)
    return found == manifest and finished == digest(out)


def _resume(path: Path, manifest: dict[str, Any], plan: Plan) -> dict[int, list[Sample]]:
    """Batches that earlier runs of the same job have finished; what another job left is set aside."""
    out = plan.job.out
    found, damage, foreign = read_journals(out, plan.key)
    for text in damage:
        _tell(text)
    old = _read_manifest(path)
    if old is None and out.exists():
        raise EngineError(
            f"{out} exists and is no finished sampling job (no {path.name}). Choose another file, or remove it."
        )
    changes = "; ".join(_changes(old, manifest)) if old else "its manifest is lost"
    if out.exists() and old and old.get("finished") and not changes:
        _tell(f"{out} is not as it was written: it is damaged or was edited. It will be sampled again.")
    for journal in foreign:
        aside = journal.with_name(f"{journal.name}.stale")
        journal.replace(aside)
        _tell(f"{journal} belongs to another job ({changes}). It is now {aside.name}; sampling starts afresh.")
    if out.exists() and changes:
        _tell(f"{out} was sampled otherwise ({changes}). It will be replaced when this job is done.")
    known = range(len(plan.batches))
    found = {batch: samples for batch, samples in found.items() if batch in known}
    compact(out, plan.key, found)
    return found


def _changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two manifests, in words."""
    changes: list[str] = []
    for name in new:
        before, now = old.get(name), new[name]
        if before == now or (name == "batches" and changes):
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            changes += [
                f"{name}.{key}: {before.get(key)!r} → {now.get(key)!r}"
                for key in sorted({*before, *now})
                if before.get(key) != now.get(key)
            ]
        elif isinstance(now, list):
            changes.append(f"other {name}")
        else:
            changes.append(f"{name}: {before!r} → {now!r}")
    return changes


def _sample_missing(
    plan: Plan, done: dict[int, list[Sample]], engine: Engine | None, lock: int, progress: bool
) -> None:
    pending = [batch for batch in range(len(plan.batches)) if batch not in done]
    if not pending:
        return
    spread = engine is None and (plan.config.ray or plan.config.workers > 1)
    own = build_engine(plan.config) if engine is None and not spread else None
    bar = tqdm(
        total=len(plan.job.requests) * plan.job.params.n,
        initial=sum(len(samples) for samples in done.values()),
        desc=f"sampling {plan.job.out.name}",
        unit="sample",
        disable=not progress,
        dynamic_ncols=True,
    )
    start, tokens = time.monotonic(), 0

    def report(samples: int, new_tokens: int) -> None:
        nonlocal tokens
        tokens += new_tokens
        bar.update(samples)
        bar.set_postfix_str(f"{tokens / (time.monotonic() - start):.0f} tokens/s", refresh=False)

    try:
        with bar:
            _run(plan, pending, engine or own, lock, report)
    except KeyboardInterrupt:
        _tell(
            f"Stopped. Finished batches are kept beside {plan.job.out}: run the same command again to go on with the "
            "rest."
        )
        raise
    finally:
        if own is not None:
            own.close()


def _run(plan: Plan, pending: Sequence[int], engine: Engine | None, lock: int, report: Report) -> None:
    if engine is not None:
        sample_batches(plan, pending, engine, 0, report)
    elif plan.config.ray:
        from .raydata import sample_with_ray

        sample_with_ray(plan, pending, report)
    else:
        from .workers import sample_with_workers

        sample_with_workers(plan, pending, lock, report)


def sample_batches(plan: Plan, batches: Sequence[int], engine: Engine, rank: int, report: Report) -> None:
    """Samples some batches with an engine into a worker's journal."""
    journal = Journal(journal_path(plan.job.out, rank), plan.key)
    for batch in batches:
        samples = plan.sample(engine, batch)
        journal.append(batch, samples)
        report(len(samples), count_tokens(samples))


def count_tokens(samples: Sequence[Sample]) -> int:
    """Sampled tokens; 0 for engines that do not tell them."""
    return sum(len(sample.completion.token_ids) for sample in samples)


def _write_samples(plan: Plan, path: Path, manifest: dict[str, Any]) -> None:
    """Turns the journals into the finished file."""
    out = plan.job.out
    found, damage, _ = read_journals(out, plan.key)
    if damage or len(found) != len(plan.batches):
        raise EngineError(f"The journals of {out} were changed while the job ran. Run the command again.")
    places = {request.id: place for place, request in enumerate(plan.job.requests)}
    samples = [sample for batch in found.values() for sample in batch]
    samples.sort(key=lambda sample: (places[sample.request], sample.k))
    write_jsonl(out, (sample.to_row() for sample in samples))
    _write_manifest(path, manifest, digest(out))
    for journal in journals(out):
        journal.unlink()


def _tell(text: str) -> None:
    tqdm.write(f"mmself: {text}", file=sys.stderr)
