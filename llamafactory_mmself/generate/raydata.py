# SPDX-License-Identifier: Apache-2.0
"""Sampling beyond one machine: a job's batches over the actors of Ray Data.

Each actor loads the engine once. The driver writes the journal, so that a killed job goes on as on one machine. Model
and pictures have to be at the same paths on all machines.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from .engines import build_engine
from .jobs import Plan, Report, count_tokens
from .journal import Journal, journal_path
from .types import EngineError, Sample


def sample_with_ray(plan: Plan, pending: Sequence[int], report: Report) -> None:
    """Samples batches with `plan.config.workers` actors, on the cluster that `RAY_ADDRESS` names or on this machine.

    Raises:
        EngineError: Ray is not installed, or an actor failed; finished batches are kept.
    """
    try:
        import ray
    except ImportError as error:
        raise EngineError("Sampling with Ray needs `pip install 'llamafactory-mmself[ray]'`.") from error
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False
    started = not ray.is_initialized()
    if started:
        address = os.environ.get("RAY_ADDRESS")
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    try:
        _sample(plan, pending, report)
    finally:
        if started:
            ray.shutdown()


def _sample(plan: Plan, pending: Sequence[int], report: Report) -> None:
    import ray

    on_gpus = plan.config.device != "cpu" and plan.config.name != "openai" and ray.cluster_resources().get("GPU", 0)
    rows = ray.data.from_items([{"batch": batch} for batch in pending], override_num_blocks=len(pending))
    sampled = rows.map_batches(
        _Actor,
        fn_constructor_args=(plan,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(plan.config.workers, len(pending))),
        num_cpus=1,
        num_gpus=1 if on_gpus else 0,
    )
    journal = Journal(journal_path(plan.job.out, 0), plan.key)
    for row in sampled.iter_rows():
        if row["error"]:
            raise EngineError(f"A Ray actor: {row['error']}")
        samples = [Sample.from_row(sample) for sample in json.loads(row["samples"])]
        journal.append(int(row["batch"]), samples)
        report(len(samples), count_tokens(samples))


class _Actor:
    """Holds the engine; a batch number goes in, its samples come out as JSON."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.engine = build_engine(plan.config)

    def __call__(self, rows: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        (batch,) = rows["batch"].tolist()
        try:
            samples = [sample.to_row() for sample in self.plan.sample(self.engine, batch)]
        except ValueError as error:
            return {"batch": [batch], "samples": [""], "error": [str(error)]}
        return {"batch": [batch], "samples": [json.dumps(samples)], "error": [""]}
