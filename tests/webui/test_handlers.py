# SPDX-License-Identifier: Apache-2.0
"""Handlers of the tab Self-improve, without a page."""

import json
from pathlib import Path
from typing import Any

import pytest

from llamafactory_mmself.board import child
from llamafactory_mmself.files import write_json
from llamafactory_mmself.plugin.webui import handlers
from llamafactory_mmself.plugin.webui.handlers import Handlers
from tests.webui.recipe import RECIPE


FIELDS = [setting.name for setting in handlers.launch.SETTINGS]


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe, where a web UI was started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(handlers, "_cache", lambda: tmp_path / "cache")
    for name in ("Warning", "Info"):  # messages need a page
        monkeypatch.setattr(handlers.gr, name, lambda text: None)
    (tmp_path / "recipe.yaml").write_text(json.dumps(RECIPE))
    return tmp_path


def form(**values: str) -> list[Any]:
    """Recipe, run, further settings, step, and the fields."""
    known = {"recipe": "recipe.yaml", "run": "runs/toy-loop", "further": "", "again": "", **values}
    return [*(known[name] for name in ("recipe", "run", "further", "again")), *(known.get(name) for name in FIELDS)]


def test_a_recipe_fills_the_form(board):
    run, answer, further, again, *fields = Handlers().open_recipe("en", "recipe.yaml")
    shown = dict(zip(FIELDS, fields, strict=True))
    assert (run, answer, further, again) == ("runs/toy-loop", "", "", "")
    assert shown["samples"]["value"] == "2" and shown["samples"]["visible"]
    assert not shown["domain"]["visible"] and not shown["data_folder"]["visible"]
    told = Handlers().open_recipe("en", "gone.yaml")
    assert "There is no recipe" in told[1] and len(told) == 4 + len(FIELDS)
    presets = dict(zip(FIELDS, Handlers().open_recipe("en", "stl")[4:], strict=True))
    assert presets["domain"]["visible"] and not presets["train_data"]["visible"]


def test_mistakes_are_told(board):
    for values in ({}, {"recipe": ""}, {"recipe": "../../etc/passwd"}, {"further": "no equals sign"}):
        assert Handlers().plan("en", *form(**values)).startswith("```text\n")
    assert "no file" in Handlers().plan("en", *form())  # the questions are not there
    assert "No loop works" in Handlers().stop("en", "runs/toy-loop")
    assert "Choose a run" in Handlers().stop("en", "")
    assert "no run of" in Handlers().report("en", "runs/none")[1]
    answer, run, _, _ = Handlers().start("en", *form(recipe="gone.yaml"))
    assert "There is no recipe" in answer and "value" not in run


def test_the_recipe_of_another_run_is_not_started_on_a_run_of_the_command_line(board):
    write_json(board / "runs" / "typed" / "run.json", {"method": "r3v"})
    recipe, *others = Handlers().open_run("runs/typed")
    assert recipe is None and all("value" not in update for update in others)
    assert "value" not in Handlers().open_run("runs/new")[0]  # a name that is being typed


def test_a_start_is_remembered_with_its_form(board, monkeypatch):
    begun: list[Any] = []

    def start(command: Any, folder: Path, values: Any) -> child.Child:
        begun.append((list(command), folder))
        found = child.Child(None, command, "now", values)
        write_json(folder / child.STATE, {"process": None, "command": command, "since": "now", "form": values})
        return found

    monkeypatch.setattr(child, "start", start)
    answer, run, again, _ = Handlers().start("en", *form(iterations="1", again="iter1/train"))
    assert "mmself loop recipe.yaml --set iterations=1 --from=iter1/train" in answer
    assert again == "" and "value" not in run and begun[0][1] == Path("runs/toy-loop")
    run, recipe, _, again, *fields = Handlers().open_page()
    assert run["value"] == "runs/toy-loop" and recipe == "recipe.yaml" and again == ""
    assert dict(zip(FIELDS, fields, strict=True))["iterations"]["value"] == "1"

    values = form(recipe="stl", run="runs/stl", domain="commonsense", data_folder="M3CoT")
    run = Handlers().start("en", *values)[1]
    assert run == "runs/stl/commonsense" and begun[1][1] == Path(run)
    Handlers().start("en", *form(recipe="stl", run=run, domain="commonsense", data_folder="M3CoT"))
    assert begun[2] == begun[1]  # a second start of the same form goes on with the same run


def test_an_empty_page_shows_nothing(board):
    run, *rest = Handlers().open_page()
    assert run["choices"] == [] and all("value" not in item for item in rest)
    assert all("value" not in item for item in Handlers().look("en", "", None, None))
    assert all("value" not in item for item in Handlers().look("en", "a\0b", None, None))
    assert Handlers().look_again("en", "")[0] == ""


def test_only_changes_are_sent(board):
    write_json(board / "runs" / "a" / "run.json", {"iterations": 0})
    first = Handlers().look("en", "runs/a", None, None)
    assert "stopped" in first[0]
    again = Handlers().look("en", "runs/a", None, first[-1])
    assert all(item == handlers.gr.skip() for item in again[:4])
    assert "已停止" in Handlers().look("zh", "runs/a", None, first[-1])[0]


def test_pages_that_cannot_be_shown_say_why(board):
    write_json(board / "runs" / "a" / "run.json", {"iterations": 0})
    for source in ("iter0/none", "../../etc/passwd"):
        assert "has no samples" in Handlers().first_page("en", "runs/a", source, "all", 1)[1]
    assert "まだ何も" in Handlers().this_page("ja", "runs/a", None, "all", 3)[1]
    lines = "".join(json.dumps({"request": f"q{n}", "text": "<b>"}) + "\n" for n in range(7))
    (board / "runs" / "a" / "iter0").mkdir()
    (board / "runs" / "a" / "iter0" / "plain.jsonl").write_text(lines)
    for handler, number, page in (
        ("first_page", 9, 1),
        ("later_page", 1, 2),
        ("earlier_page", 2, 1),
        ("this_page", 9, 2),
    ):
        shown, html = getattr(Handlers(), handler)("en", "runs/a", "iter0/plain", "all", number)
        assert shown == page and f"{page} / 2" in html and "<b>" not in html


def test_text_in_a_block_of_code_stays_in_it():
    assert handlers._code("a\n```\n<b>") == "````text\na\n```\n<b>\n````"
