# SPDX-License-Identifier: Apache-2.0
"""The tab Train, as a person uses it with one of our stages, and the chat with what was trained."""

import json
import re
from typing import Any

import pytest
import yaml
from playwright.sync_api import expect

from tests.webui.pages.conftest import WAIT
from tests.webui.pages.steps import arguments, box_of, choose, field, labelled, pick_data, write


pytestmark = pytest.mark.slow


def set_up(page: Any) -> None:
    """A short training of `mdpo` on the shipped rows."""
    choose(page, labelled(page, "Model name"), "Qwen2-VL-2B-Instruct")
    expect(labelled(page, "Model path")).to_have_value(re.compile("2B-Instruct$"), timeout=WAIT)
    write(labelled(page, "Model path"), "model")
    choose(page, labelled(page, "Stage"), "Multimodal DPO")
    page.locator("#mmself-stage-mdpo").wait_for()
    pick_data(page, "mmself_pairs")
    choose(page, labelled(page, "Compute type"), "fp32")
    values = {"Learning rate": "1e-3", "Epochs": "1", "Max samples": "8", "Gradient accumulation": "1"}
    for label, value in values.items():
        write(labelled(page, label), value)
    page.get_by_text("Extra configurations").click()
    write(labelled(page, "Logging steps"), "1")


def test_a_stage_is_trained_and_asked(page, place, screenshot):
    set_up(page)
    assert arguments(page) == {"optim": "adamw_torch"}

    # the accordion writes into the extra arguments, and they into it
    choose(page, field(page, "mdpo", "strategy"), "mdpo")
    write(field(page, "mdpo", "anchor_ratio"), "0.5")
    wanted = {"optim": "adamw_torch", "strategy": "mdpo", "anchor_ratio": 0.5}
    box_of(page, wanted)
    write(labelled(page, "Extra arguments"), json.dumps({**wanted, "vtcl_mode": "sameBatch"}))
    page.wait_for_function("document.querySelector('#mmself-mdpo-vtcl_mode input').value == 'sameBatch'")

    # both pictures of a row in the preview
    page.get_by_role("button", name="Preview dataset").locator("visible=true").click()
    page.locator("#mmself-preview img").nth(3).wait_for()
    assert "rejected picture" in page.locator("#mmself-preview").inner_text()
    page.get_by_role("button", name="Close").locator("visible=true").click()

    page.get_by_role("button", name="Preview command").locator("visible=true").click()
    command = page.locator("code", has_text="llamafactory-cli train").inner_text()
    for part in ("--stage mdpo", "--strategy mdpo", "--anchor_ratio 0.5", "--vtcl_mode sameBatch", "--pref_beta 0.1"):
        assert part in command, part

    page.get_by_role("button", name="Save arguments").click()
    page.get_by_text("Arguments have been saved").wait_for()
    saved = labelled(page, "Config path").input_value()

    page.get_by_role("button", name="Start", exact=True).locator("visible=true").click()
    page.locator(".prose", has_text="Finished.").locator("visible=true").first.wait_for()
    (output,) = (place / "saves" / "Qwen2-VL-2B-Instruct" / "lora").glob("train_*")
    terms = [json.loads(line) for line in (output / "mmself_terms.jsonl").read_text().splitlines()]
    assert [entry["current_steps"] for entry in terms] == [1, 2, 3, 4]
    assert {"loss/text_dpo", "loss/mdpo", "rewards/margins"} <= terms[0].keys()
    plot = page.locator("[data-testid=matplotlib] img").locator("visible=true")
    plot.wait_for()
    page.get_by_text("Extra configurations").click()
    screenshot(page, "webui-train", plot)

    chat(page, output.name)
    load(page, saved)


def chat(page: Any, checkpoint: str) -> None:
    """Loads what was trained, and asks it about a picture."""
    labelled(page, "Checkpoint path").click()
    page.get_by_role("option", name=checkpoint).click()
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Chat").click()
    page.get_by_role("button", name="Load model", exact=True).click()
    page.locator("textarea[placeholder='Input...']").wait_for()
    page.locator("input[type=file]").first.set_input_files("data/images/0001.png")
    page.get_by_role("tabpanel").locator("img").locator("visible=true").first.wait_for()
    write(labelled(page, "Maximum new tokens"), "12")
    page.locator("textarea[placeholder='Input...']").fill("Is there a blue square?")
    page.get_by_role("button", name="Submit").click()
    answer = page.locator("[data-testid=bot]").last
    answer.wait_for()
    page.wait_for_function("element => element.innerText.trim().length > 3", arg=answer.element_handle())
    page.get_by_role("button", name="Unload model").click()


def load(page: Any, saved: str) -> None:
    """Opens the page anew, in another language, and loads saved arguments."""
    page.reload()
    page.get_by_role("tab", name="Self-improve").wait_for()
    choose(page, page.locator("input[aria-label=Language]"), "zh")
    labelled(page, "训练阶段").wait_for()
    assert not page.locator("#mmself-arguments").is_visible()
    choose(page, labelled(page, "配置路径"), saved)
    page.get_by_role("button", name="载入训练参数").click()
    page.get_by_text("训练参数已载入").wait_for()
    page.get_by_text("多模态自我提升").wait_for()
    assert labelled(page, "训练阶段").input_value() == "Multimodal DPO"
    page.wait_for_function("document.querySelector('#mmself-mdpo-vtcl_mode input').value == 'sameBatch'")
    assert field(page, "mdpo", "strategy").input_value() == "mdpo"
    assert field(page, "mdpo", "anchor_ratio").input_value() == "0.5"
    assert page.get_by_text("mmself_pairs", exact=True).locator("visible=true").count() == 1  # its data set stays
    choose(page, page.locator("input[aria-label=语言]"), "en")
    page.get_by_text("Multimodal self-improvement").wait_for()

    # another stage takes its arguments away, and a stock stage the accordion
    choose(page, labelled(page, "Stage"), "Sherlock DPO")
    page.locator("#mmself-stage-sherlock_dpo").wait_for()
    page.get_by_text("Extra configurations").click()
    box_of(page, {"optim": "adamw_torch"})
    choose(page, labelled(page, "Stage"), "DPO")
    page.locator("#mmself-arguments").wait_for(state="hidden")


def test_saved_arguments_are_plain_ones(place):
    """What the test above saved can be read without us."""
    (path,) = (place / "llamaboard_config").glob("*.yaml")
    saved = yaml.safe_load(path.read_text())
    assert saved["train.training_stage"] == "Multimodal DPO"
    assert json.loads(saved["train.extra_args"])["vtcl_mode"] == "sameBatch"
    assert not [name for name in saved if "mmself" in name]
