# SPDX-License-Identifier: Apache-2.0
"""What a person does with a page of Gradio."""

import json
import re
from typing import Any


def labelled(page: Any, label: str) -> Any:
    """A visible field of LlamaBoard's, by the words above it."""
    words = page.locator("[data-testid=block-info]").filter(has_text=re.compile(rf"^\s*{re.escape(label)}\s*$"))
    box = words.locator("visible=true").first.locator("xpath=ancestor::div[contains(@class, 'block')][1]")
    return box.locator("input, textarea").first


def choose(page: Any, box: Any, value: str) -> None:
    """Picks a choice of a dropdown."""
    box.click()
    box.fill(value)
    page.get_by_role("option", name=value, exact=True).first.click()


def write(box: Any, value: str) -> None:
    """Types a value in the place of what is there, and leaves the field."""
    box.fill(value)
    box.press("Tab")


def pick_data(page: Any, name: str) -> None:
    """Picks a data set of the tab Train from those that are listed for the stage."""
    labelled(page, "Dataset").click()
    page.get_by_role("option", name=name, exact=True).click()
    page.keyboard.press("Escape")


def arguments(page: Any) -> dict[str, Any]:
    """What the box of extra arguments holds."""
    found: dict[str, Any] = json.loads(labelled(page, "Extra arguments").input_value())
    return found


def box_of(page: Any, wanted: dict[str, Any]) -> None:
    """Waits until the box of extra arguments holds this."""
    for _ in range(600):
        if arguments(page) == wanted:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{arguments(page)} instead of {wanted}")


def field(page: Any, stage: str, name: str) -> Any:
    """The input of an argument in our accordion."""
    return page.locator(f"#mmself-{stage}-{name}").locator("input, textarea").first


def setting(page: Any, name: str) -> Any:
    """The input of a field in the tab Self-improve."""
    return page.locator(f"#mmself-{name}").locator("input, textarea").first
