# SPDX-License-Identifier: Apache-2.0
"""What a person does with a page of Gradio."""

from typing import Any


def choose(page: Any, box: Any, value: str) -> None:
    """Picks a choice of a dropdown."""
    box.click()
    box.fill(value)
    page.get_by_role("option", name=value, exact=True).first.click()


def write(box: Any, value: str) -> None:
    """Types a value in the place of what is there, and leaves the field."""
    box.fill(value)
    box.press("Tab")


def field(page: Any, stage: str, name: str) -> Any:
    """The input of an argument in our accordion."""
    return page.locator(f"#mmself-{stage}-{name}").locator("input, textarea").first


def setting(page: Any, name: str) -> Any:
    """The input of a field in the tab Self-improve."""
    return page.locator(f"#mmself-{name}").locator("input, textarea").first
