# SPDX-License-Identifier: Apache-2.0
"""See-think-answer responses as a profile: the option counts only in a whole answer."""

from __future__ import annotations

from .sections import read_answer
from .types import Found, Response


def extract(response: Response, *, caption: bool = True) -> Found:
    """Finds the option of a whole three-section answer, or the reason why it is none."""
    sections = read_answer(response.text, response.choices, caption=caption)
    if sections.problem is not None:
        return Found(None, sections.problem)
    return Found(sections.option, "conclusion")


def extract_without_caption(response: Response) -> Found:
    """The same for answers of REASONING and CONCLUSION."""
    return extract(response, caption=False)
