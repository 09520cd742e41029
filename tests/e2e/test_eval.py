# SPDX-License-Identifier: Apache-2.0
"""`mmself eval` as a user runs it: the group of rule-based tasks on a tiny model."""

import json
from pathlib import Path

import pytest

from llamafactory_mmself.toyworld.models import TEMPLATES
from tests.evaluate.tasks import official


RULE = ("pope", "mmstar", "scienceqa", "hallusion", "mmmu", "cvbench", "toy")


@pytest.mark.slow
def test_a_group_on_a_tiny_model(tiny_models, run_cli, tmp_path) -> None:
    data, out = official.write(tmp_path / "benchmarks", *RULE), tmp_path / "out"
    line = ["eval", "--task", "rule", "--data", data, "--out", out, "--model", tiny_models("qwen2_vl")]
    line += ["--template", TEMPLATES["qwen2_vl"], "--adapter", "none", "--max_new_tokens", "8", "--batch_size", "4"]
    done = run_cli("mmself", *line, "--draws", "50", "--device", "cpu", timeout=280)
    assert done.returncode == 1, done.stderr  # other tasks of the group have no files here
    summary = json.loads((out / "summary.json").read_text())
    names = {*RULE, "toy_captions"}
    assert {entry["task"] for entry in summary["tasks"]} == names
    assert "has no folder textvqa" in summary["not_run"]["textvqa"]
    assert done.stdout.startswith("| task ") and "Not run:" in done.stdout
    for name in names:
        scores = json.loads((out / name / "scores.json").read_text())
        assert scores["engine"]["name"] == "hf" and scores["sampling"]["max_new_tokens"] == 8
        assert scores["figures"][scores["headline"]]["value"] is not None
    before = _samples(out)
    again = run_cli("mmself", "eval", "--task", *sorted(names), *line[3:], "--draws", "50", "--device", "cpu")
    assert again.returncode == 0 and _samples(out) == before  # nothing was sampled again
    rescored = run_cli("mmself", "eval", "--rescore", "--task", "pope", "--data", data, "--out", out)
    assert rescored.returncode == 0 and "| pope |" in rescored.stdout


def _samples(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.glob("*/samples.jsonl")}
