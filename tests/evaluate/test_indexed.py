# SPDX-License-Identifier: Apache-2.0
"""Numbers over several benchmarks, in comparisons and in the summary of an evaluation."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamafactory_mmself.commands import report
from llamafactory_mmself.evaluate.benchmark import Outcome, Settings
from llamafactory_mmself.evaluate.compare import Comparison, compare_models
from llamafactory_mmself.evaluate.compare_pages import page
from llamafactory_mmself.evaluate.compare_text import markdown, text, to_dict
from llamafactory_mmself.evaluate.indexed import Index, Reference, indexes
from llamafactory_mmself.evaluate.metrics import MetricError
from llamafactory_mmself.evaluate.metrics.base import Columns, Figure, Figures
from llamafactory_mmself.evaluate.metrics.indexes import GENERAL, HRI, SHERLOCK
from llamafactory_mmself.evaluate.results import ITEMS, CompareError, Contender, Result
from llamafactory_mmself.evaluate.scoring import Scored
from llamafactory_mmself.evaluate.summary import write_summary
from llamafactory_mmself.evaluate.tasks.task import load_task
from llamafactory_mmself.files import write_json


# OViP's 7B row, its base, and a reference that is made up; 2 * (1.69/1.99 + 0.62/0.7 + 1.1/1.2 + 5.9/5.8 + 1.8/2).
BASE = dict(zip(HRI, (65.01, 1.9, 72.4, 57.2, 85.5), strict=True))
OVIP = dict(zip(HRI, (66.7, 2.52, 73.5, 63.1, 87.3), strict=True))
REFERENCE = dict(zip(HRI, (67.0, 2.6, 73.6, 63.0, 87.5), strict=True))
# "Sherlock Iter2" of the paper's table 2: 434.7 + 2197 / 28 = 513.164, over eight.
SHERLOCKS = dict(zip(SHERLOCK, (74.6, 62.4, 48.7, 49.7, 57.7, 89.6, 52.0, 2197.0), strict=True))


def values(columns: Columns) -> Figures:
    return {"score": float(columns["score"].mean())}


def contender(name: str, row: Mapping[str, float], items: str = "digest") -> Contender:
    """Results of two items a task, whose mean is the figure."""
    results = {
        task: Result(
            task,
            "shares",
            {"task version": 1, ITEMS: items},
            ("a", "b"),
            {"score": np.array([value - 1, value + 1]), "parsed": np.ones(2)},
            values,
            "score",
        )
        for task, value in row.items()
    }
    return Contender(name, Path(name), results)


def compared(*models: Contender, reference: Contender | None = None) -> Comparison:
    return compare_models(models, draws=20, reference=reference)


def index(found: Comparison, name: str) -> Index:
    return next(item for item in found.indexes if item.name == name)


def test_hri_has_0_for_the_base_and_10_for_the_reference() -> None:
    models = (contender("base", BASE), contender("ovip", OVIP), contender("best", REFERENCE))
    found = compared(*models, reference=contender("two epochs", REFERENCE))
    assert index(found, "HRI").values == pytest.approx((0, 9.137737, 10), abs=1e-6)
    assert "HRI is 0 for base and 10 for two epochs: amber_generative 67, mmhal 2.6, object_hal 73.6" in text(found)
    assert "9.14" in text(found) and "9.14" in markdown(found) and "9.14" in page(found)
    stored = json.loads(json.dumps(to_dict(found)))
    assert stored["indexes"]["HRI"]["values"]["ovip"] == pytest.approx(9.137737, abs=1e-6)
    assert stored["reference"]["row"] == pytest.approx(REFERENCE)


def test_hri_wants_a_reference_that_can_be_compared() -> None:
    models = (contender("base", BASE), contender("ovip", OVIP))
    found = compared(*models)
    assert index(found, "HRI").values == (None, None) and "HRI: no reference row: give --reference FOLDER." in text(
        found
    )
    short = {task: value for task, value in REFERENCE.items() if task != "mmhal"}
    found = compared(*models, reference=contender("short", short))
    assert "HRI: the reference, short, lacks mmhal." in text(found)
    with pytest.raises(CompareError, match="base and other have items of the same names"):
        compared(*models, reference=contender("other", REFERENCE, items="of other data"))
    with pytest.raises(MetricError, match="reference and base are both"):
        compared(*models, reference=contender("the base again", BASE))


def test_the_general_difference_is_told_as_mean_and_as_sum() -> None:
    base, better = dict.fromkeys(GENERAL, 50.0), dict(zip(GENERAL, (51.0, 53.0, 50.0, 48.0), strict=True))
    found = compared(contender("base", base), contender("better", better))
    assert index(found, "general difference, mean").values == pytest.approx((0, 0.5))
    assert index(found, "general difference, sum").values == pytest.approx((0, 2))


def test_what_is_missing_is_told_once_and_what_no_model_has_is_left_out() -> None:
    base, part = dict.fromkeys(GENERAL, 50.0), {"mmstar": 40.0}
    found = compared(contender("base", base), contender("part", part))
    assert index(found, "general difference, mean").values == (0, None)
    assert text(found).count("general difference: part lacks realworldqa, textvqa, cvbench.") == 1
    assert "Sherlock's average: base lacks mmbench, mmvet" in text(found)
    assert "HRI" not in text(found)
    found = compared(contender("part", part), contender("all", base))
    assert index(found, "general difference, mean").values == (None, None)
    assert indexes(["a", "b"], [{"toy": 1.0}, {"toy": 2.0}]) == ()
    told = indexes(["a", "b"], [{"toy": 1.0}, {"toy": 2.0}], Reference("r", "r", REFERENCE))
    assert told[0].missing[0].startswith("a lacks amber_generative")


def test_sherlocks_average_stands_in_comparisons() -> None:
    found = compared(contender("base", SHERLOCKS), contender("same", SHERLOCKS))
    assert index(found, "Sherlock's average").values == pytest.approx((64.145536,) * 2)


def scored(task: str, value: float, folder: Path, **facts: Any) -> Scored:
    told = {"turn": None, "n": 2, "unparsed": 0, "cut": 0, "policy": "model", "limit": None, **facts}
    figures = {"score": {"value": value, "low": None, "high": None}}
    write_json(folder / task / "scores.json", {**told, "headline": "score", "figures": figures})
    return Scored(
        load_task(task),
        folder / task,
        "options",
        "score",
        {"score": Figure(value, None)},
        {**told, "figures": figures},
    )


def test_the_summary_has_sherlocks_average_once_all_eight_are_in_the_folder(tmp_path) -> None:
    settings = Settings(tmp_path, tmp_path / "out")
    results = [scored(task, value, settings.out) for task, value in SHERLOCKS.items()]
    told = "Sherlock's average of eight benchmarks, MME / 28: 64.15"
    assert told in write_summary(Outcome(results, {}), settings)
    assert told in write_summary(Outcome(results[:2], {}), settings)  # the other six are of an earlier command
    stored = json.loads((settings.out / "summary.json").read_text())
    assert list(stored["averages"].values()) == pytest.approx([64.145536])
    other = replace(results[0], facts={**results[0].facts, "policy": "another model"})
    assert "average" not in write_summary(Outcome([other], {}), settings)
    (settings.out / "mmvet" / "scores.json").unlink()
    assert "average" not in write_summary(Outcome(results[:1], {}), settings)


def test_the_command_reads_the_reference(tmp_path, monkeypatch, capsys) -> None:
    from llamafactory_mmself.cli import main
    from llamafactory_mmself.loop import compared as reading

    rows = {"base": BASE, "ovip": OVIP, "best": REFERENCE}
    monkeypatch.setattr(reading, "read_contender", lambda name, folder: contender(name, rows[folder.name]))
    folders = [str(tmp_path / name) for name in rows]
    assert main(["report", "--compare", *folders[:2], "--reference", f"two epochs={folders[2]}", "--text"]) == 0
    assert "9.14" in capsys.readouterr().out
    assert main(["report", folders[0], "--reference", folders[2]]) == 2
    assert "--reference would do nothing without --compare" in capsys.readouterr().err
    assert main(["report", "--compare", *folders[:2], "--draws", "-1"]) == 2
    assert report.named([f"a={folders[0]}"])[0][0] == "a"
