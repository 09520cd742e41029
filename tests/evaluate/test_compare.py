# SPDX-License-Identifier: Apache-2.0
"""Models side by side: differences with paired intervals, what is refused, and what is written."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamafactory_mmself.commands.report import named
from llamafactory_mmself.evaluate import results
from llamafactory_mmself.evaluate.charts import LIGHT
from llamafactory_mmself.evaluate.compare import Comparison, compare_models
from llamafactory_mmself.evaluate.compare_pages import figures, page, write_comparison
from llamafactory_mmself.evaluate.compare_text import markdown, text, to_dict
from llamafactory_mmself.evaluate.metrics import METRICS
from llamafactory_mmself.evaluate.metrics.base import Answer, Columns, Figures
from llamafactory_mmself.evaluate.results import CompareError, Contender, read_results
from llamafactory_mmself.evaluate.scales import Scale, scale_of
from llamafactory_mmself.files import FileError, write_json


ITEMS = 40


class Shares:
    """A metric by script: the share of right answers, of all and of two categories."""

    name, version, headline = "shares", 3, "accuracy"

    def __init__(self, **options: Any) -> None:
        self.options = options

    def columns(self, answers: Sequence[Answer]) -> Columns:
        raise NotImplementedError

    def figures(self, columns: Columns) -> Figures:
        right, odd = columns["right"], columns["odd"] == 1
        found = {"unparsed": 100 * (1 - float(columns["parsed"].mean())), "accuracy": 100 * float(right.mean())}
        return found | {
            "accuracy/odd <b>": 100 * float(right[odd].mean()),
            "accuracy/even": 100 * float(right[~odd].mean()),
        }


def metric(name: str, **options: Any) -> Shares:
    return Shares(**options)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes the results of one task as `mmself eval` does."""

    def make(model: str, task: str = "toy", right: float = 0.5, **changes: Any) -> Path:
        folder, ids = tmp_path / model / task, [f"q{place}" for place in range(ITEMS)]
        columns = {
            "right": [float(place < right * ITEMS) for place in range(ITEMS)],
            "odd": [place % 2 for place in range(ITEMS)],
            "parsed": [1] * ITEMS,
        }
        scores = {
            "task": task,
            "version": 1,
            "metric": {"name": "shares", "version": 3, "options": {}},
            "items": "digest",
            "judge": None,
            "n": ITEMS,
            "unparsed": 0,
            "cut": 2,
            "seed": 0,
            "headline": "accuracy",
            **changes,
        }
        ids, columns = scores.pop("ids", ids), scores.pop("columns", columns)
        write_json(folder / "scores.json", scores)
        write_json(folder / "columns.json", {"ids": ids, "columns": columns})
        return tmp_path / model

    return make


def contender(folder: Path) -> Contender:
    return Contender(folder.name, folder, read_results(folder, metric))


def compared(*folders: Path, **options: Any) -> Comparison:
    return compare_models([contender(folder) for folder in folders], **{"draws": 200, **options})


def test_figures_and_paired_differences(write) -> None:
    found = compared(write("a", right=0.5), write("b", right=0.75))
    (item,) = found.tables
    head = item.head
    assert head.figure == "accuracy" and item.lines[0] is head
    assert [value.value for value in head.values] == [50.0, 75.0]
    gain = head.gains[1]
    assert head.gains[0] is None and gain.value == pytest.approx(25.0)
    # b is right wherever a is: only the ten questions between them count, so that the interval leaves out 0.
    assert 0 < gain.interval.low < 25 < gain.interval.high
    separate = head.values[1].interval.high - head.values[1].interval.low
    assert gain.interval.high - gain.interval.low < 1.5 * separate
    assert head.outcome(1) == "good" and head.outcome(0) == ""


def test_the_same_answers_differ_by_nothing(write) -> None:
    head = compared(write("a"), write("b")).tables[0].head
    assert (head.gains[1].value, head.gains[1].interval.low, head.gains[1].interval.high) == (0, 0, 0)
    assert head.outcome(1) == ""


def test_items_are_matched_by_id(write) -> None:
    backwards = {
        "ids": [f"q{place}" for place in reversed(range(ITEMS))],
        "columns": {
            "right": [float(place < 20) for place in reversed(range(ITEMS))],
            "odd": [place % 2 for place in reversed(range(ITEMS))],
            "parsed": [1] * ITEMS,
        },
    }
    found = compared(write("a"), write("b", **backwards))
    assert all(line.gains[1].interval.low == line.gains[1].interval.high == 0 for line in found.tables[0].lines)


def test_categories(write) -> None:
    (item,) = compared(write("a"), write("b", right=0.75)).tables
    assert [line.figure for line in item.overall] == ["accuracy", "unparsed"]
    assert [line.category for line in item.categories["accuracy"]] == ["odd <b>", "even"]


def test_tasks_that_one_model_lacks_are_shown_without_a_difference(write) -> None:
    first, second = write("a"), write("b")
    write("b", "other")
    found = compared(first, second)
    assert [item.task for item in found.tables] == ["other", "toy"] or [item.task for item in found.tables] == [
        "toy",
        "other",
    ]
    line = next(item for item in found.tables if item.task == "other").head
    assert line.values[0] is None and line.values[1] is not None and line.gains == (None, None)
    assert "–" in text(found) and page(found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, r"Task toy: a has task version 1, b has 2"),
        ({"metric": {"name": "shares", "version": 3, "options": {"quirks": "published"}}}, "metric options"),
        ({"metric": {"name": "other", "version": 3, "options": {}}}, "metric 'shares v3', b has 'other v3'"),
        ({"metric": {"name": "shares", "version": 2, "options": {}}}, "version 2 of metric shares; this is version 3"),
        ({"judge": {"policy": "gpt"}}, "judge None, b has"),
        ({"items": "another digest"}, "items of the same names, but with other questions or answers"),
        ({"ids": [f"p{place}" for place in range(ITEMS)]}, r"40 items only in a \(such as 'q0'\)"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(write, changes, message) -> None:
    with pytest.raises(CompareError, match=message):
        compared(write("a"), write("b", **changes))


def test_other_refusals(write, tmp_path) -> None:
    first, second = write("a"), write("b", "other")
    with pytest.raises(CompareError, match="No task has results of two of the models: a has toy; b has other"):
        compared(first, second)
    with pytest.raises(CompareError, match="at least two"):
        compared(first)
    with pytest.raises(CompareError, match="the name a"):
        compared(first, first)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CompareError, match=r"empty holds no results: there is no scores\.json"):
        read_results(tmp_path / "empty", metric)
    write_json(second / "other" / "scores.json", {"task": "other"})
    with pytest.raises(FileError, match="is no result of `mmself eval`"):
        read_results(second, metric)


def test_turns_of_correction_are_named(write, tmp_path) -> None:
    write("a/turn1")
    with pytest.raises(CompareError, match=r"several turns of correction: name one, .*turn1"):
        read_results(tmp_path / "a", metric)
    assert read_results(tmp_path / "a" / "turn1", metric)


def test_the_headline_of_every_metric_has_a_scale() -> None:
    """Those that are no percentages are listed; all others go up to 100, and more is better."""
    others = {name: scale_of(name, made.headline) for name, made in METRICS.items()}
    assert {name: scale.top for name, scale in others.items() if scale.top != 100} == {"mmhal": 6, "mme": 2800}
    assert not any(scale.lower or scale.neutral for scale in others.values())


def test_one_task_may_be_named_by_its_folder(write) -> None:
    folder = write("a")
    assert read_results(folder / "toy", metric).keys() == {"toy"}


def test_scales_say_which_end_is_good() -> None:
    assert Scale().share(25) == 0.25 and Scale(lower=True).share(25) == 0.75 and Scale(6).share(3) == 0.5
    assert Scale(6).text(3.456, sign=True) == "+3.46" and Scale().text(3.456) == "3.5"
    assert scale_of("mmhal", "score").top == 6 and scale_of("mme", "total").top == 2800
    assert scale_of("amber_generative", "chair").lower and not scale_of("amber_generative", "cover").lower


def test_a_lower_figure_may_be_the_better_one(write, monkeypatch) -> None:
    from llamafactory_mmself.evaluate import scales

    monkeypatch.setitem(scales._SCALES, ("shares", "accuracy"), Scale(lower=True))
    found = compared(write("a", right=0.75), write("b", right=0.5))
    assert found.tables[0].head.outcome(1) == "good" and "accuracy ↓" in text(found)


def test_a_radar_from_three_tasks_on_and_bars_below(write) -> None:
    folders = [write("a"), write("b", right=0.7)]
    few, _ = figures(compared(*folders), LIGHT)["overview"]
    assert few.axes[0].name == "rectilinear"
    for task in ("second", "third"):
        folders = [write("a", task), write("b", task, 0.7)]
    many = figures(compared(*folders), LIGHT)
    assert many["overview"][0].axes[0].name == "polar"
    assert {"toy-accuracy", "second-accuracy", "third-accuracy"} <= many.keys()


def test_files_and_page(write, tmp_path) -> None:
    found = compared(write("a"), write("b <i>|x", right=0.75))
    shown = write_comparison(found, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    plots = {f"{stem}.{kind}" for stem in ("overview", "toy-accuracy") for kind in ("png", "svg")}
    assert names == plots | {"index.html", "comparison.md", "comparison.json"}
    content = (tmp_path / "out" / "index.html").read_text()
    sources = re.findall(r'(?:src|srcset|href)="([^"]{0,20})', content)
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert (
        "<script" not in content and "<i>" not in content and "b &lt;i&gt;|x" in content and "odd <b>" not in content
    )
    stored = json.loads((tmp_path / "out" / "comparison.json").read_text())
    difference = stored["tasks"]["toy"]["figures"]["accuracy"]["differences"]["b <i>|x"]
    assert difference["value"] == pytest.approx(25) and stored["baseline"] == "a" and stored["draws"] == 200
    assert "index.html" in shown and "+25.0" in shown and "50.0" in shown
    written = (tmp_path / "out" / "comparison.md").read_text()
    assert "![" in written and r"b &lt;i&gt;\|x" in written and "### accuracy by category" in written


def test_the_same_results_give_the_same_files(write, tmp_path) -> None:
    found = compared(write("a"), write("b", right=0.75))
    for name in ("one", "two"):
        write_comparison(found, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_category_without_items_has_no_value(write) -> None:
    columns = {"right": [1.0] * ITEMS, "odd": [0] * ITEMS, "parsed": [1] * ITEMS}
    with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning):
        found = compared(write("a", columns=columns), write("b", columns=columns))
    assert [line.category for line in found.tables[0].categories["accuracy"]] == ["even"]
    assert "NaN" not in json.dumps(to_dict(found)) and markdown(found)


def test_names_of_models(tmp_path) -> None:
    for name in ("x/eval", "y/eval", "base"):
        (tmp_path / name).mkdir(parents=True)
    texts = [str(tmp_path / "x/eval"), str(tmp_path / "y/eval"), str(tmp_path / "base"), f"mine={tmp_path / 'base'}"]
    assert [name for name, _ in named(texts)] == ["x/eval", "y/eval", "base", "mine"]


def test_the_command(write, tmp_path, monkeypatch, capsys) -> None:
    from llamafactory_mmself.cli import main
    from llamafactory_mmself.evaluate import metrics

    monkeypatch.setattr(metrics, "metric", metric, raising=False)
    first, second = write("a"), write("b", right=0.75)
    out = tmp_path / "out"
    assert main(["report", "--compare", str(first), f"new={second}", "--draws", "50", "--out", str(out)]) == 0
    assert "new" in capsys.readouterr().out and (out / "index.html").exists()
    assert main(["report", "--compare", str(first), str(second), "--text"]) == 0
    assert main(["report", "--compare", str(first)]) == 2
    assert main(["report", str(first), str(second)]) == 2
    assert main(["report", str(first), "--draws", "3"]) == 2
    assert "would do nothing without --compare" in capsys.readouterr().err
    assert results.SCORES == "scores.json"
