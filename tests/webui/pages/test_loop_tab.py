# SPDX-License-Identifier: Apache-2.0
"""The tab Self-improve: a loop from its recipe to its samples, stopped and resumed on the way."""

import json
from typing import Any

import pytest

from llamafactory_mmself.board import child
from tests.webui.pages.steps import choose, setting, write


pytestmark = pytest.mark.slow


def open_tab(page: Any) -> None:
    page.get_by_role("tab", name="Self-improve").click()
    page.locator("#mmself-recipe").wait_for()


def state(page: Any, name: str, timeout: float = 240_000) -> None:
    """Waits until the run is in a state."""
    page.locator("#mmself-progress .mmself-badge", has_text=name).first.wait_for(timeout=timeout)


def test_a_loop_is_run_stopped_and_resumed(page, place, screenshot):
    open_tab(page)
    choose(page, setting(page, "recipe"), "examples/r3v/toy.yaml")
    page.wait_for_function("document.querySelector('#mmself-samples textarea').value == '2'")
    assert setting(page, "run").input_value() == "runs/toy-loop"

    # a mistake is told, and a dry run shows the steps
    write(setting(page, "iterations"), "-1")
    page.locator("#mmself-plan").click()
    page.locator("#mmself-answer", has_text="a whole number from 0 on is expected").wait_for()
    write(setting(page, "iterations"), "2")
    write(setting(page, "temperature"), "1.0")
    page.locator("#mmself-plan").click()
    page.locator("#mmself-answer", has_text="iter2/train").wait_for()
    assert "--set sampling.temperature=1.0" in page.locator("#mmself-answer").inner_text()
    assert not (place / "runs").exists()

    page.locator("#mmself-start").click()
    state(page, "running")
    folder = place / "runs" / "toy-loop"
    page.locator("#mmself-progress b", has_text="iter1/train").wait_for(timeout=240_000)
    page.locator("#mmself-stop").click()
    state(page, "stopped")
    assert child.running(folder) is None
    done = set(json.loads((folder / "manifest.json").read_text())["steps"])
    assert "iter0/test_greedy" in done and "iter2/train" not in done

    # a page that is opened anew finds the run and its form
    page.reload()
    open_tab(page)
    page.wait_for_function("document.querySelector('#mmself-run input').value == 'runs/toy-loop'")
    assert setting(page, "recipe").input_value() == "examples/r3v/toy.yaml"
    assert setting(page, "temperature").input_value() == "1.0"
    page.locator("#mmself-start").click()
    state(page, "running")
    page.reload()  # and while it is at work
    open_tab(page)
    state(page, "running")
    state(page, "finished", 600_000)
    assert done < set(json.loads((folder / "manifest.json").read_text())["steps"])
    page.locator("#mmself-accuracy img").first.wait_for()

    choose(page, setting(page, "source"), "iter2/test_greedy")
    page.locator("#mmself-samples-cards", has_text="1 / 2 · 8").wait_for()
    page.locator("#mmself-samples-cards img").nth(4).wait_for()
    screenshot(page, "webui-self-improve", page.locator("#mmself-samples-cards .mmself-card").nth(2))
    page.locator("#mmself-next").click()
    page.locator("#mmself-samples-cards", has_text="2 / 2").wait_for()
    choose(page, setting(page, "source"), "iter1/train/self_training")
    page.locator("#mmself-samples-cards", has_text="to learn").wait_for()
    page.locator("#mmself-report").click()
    report = page.frame_locator("#mmself-report-page iframe")
    report.get_by_role("heading", name="Accuracy").wait_for()
    assert page.locator("#mmself-report-page a[download]").count() == 1

    choose(page, page.locator("input[aria-label=Language]"), "ja")
    page.locator("#mmself-progress .mmself-badge", has_text="完了").first.wait_for()
    choose(page, page.locator("input[aria-label=言語]"), "en")
    state(page, "finished")


def test_data_of_a_run_does_no_harm(page, place):
    """HTML in samples, pictures outside, a damaged file: shown as text or as a message."""
    folder = place / "runs" / "odd" / "iter0"
    folder.mkdir(parents=True)
    evil = "<img src=x onerror=\"document.title='harm'\"><script>document.title='harm'</script>"
    (place / "secret.png").write_bytes((place / "data" / "images" / "0001.png").read_bytes())
    question = {"id": "q", "question": evil, "answer": "A", "images": ["../../secret.png"]}
    (place / "runs" / "odd" / "test.json").write_text(json.dumps([question]))
    settings = {"iterations": 0, "method": evil, "test_data": str(place / "runs" / "odd" / "test.json")}
    (place / "runs" / "odd" / "run.json").write_text(json.dumps(settings))
    verdict = {"correct": True, "parsed": True, "answer": evil, "rule": evil}
    row = {"question": "q", "iteration": 0, "verdict": verdict, "sample": {"k": 0, "text": evil}}
    (folder / "checked_test_greedy.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "checked_test_samples.jsonl").write_text("{broken\n")
    open_tab(page)
    title = page.title()
    choose(page, setting(page, "run"), "runs/odd")
    page.locator("#mmself-samples-cards", has_text="<script>").wait_for()
    assert page.locator("#mmself-samples-cards img").count() == 0
    assert "lies outside of the chosen folders" in page.locator("#mmself-samples-cards").inner_text()
    choose(page, setting(page, "source"), "iter0/test_samples")
    page.locator("#mmself-samples-cards", has_text="not a JSON object").wait_for()
    page.locator("#mmself-start").click()
    page.locator("#mmself-answer", has_text="There is no recipe").wait_for()
    assert page.title() == title
