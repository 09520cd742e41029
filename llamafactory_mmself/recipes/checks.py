# SPDX-License-Identifier: Apache-2.0
"""Quality of generated texts, beyond their form."""

from __future__ import annotations

import re


LOOP_TIMES = 4
LOOP_WORDS = 30
LOOP_PHRASE = 12  # the longest phrase that is looked for, in words


def loops(text: str) -> bool:
    """Whether a phrase of up to twelve words comes at least four times in a row and makes at least thirty words."""
    found = words(text)
    for size in range(1, LOOP_PHRASE + 1):
        equal = 0  # words in a row that repeat the one a phrase before
        for index in range(size, len(found)):
            equal = equal + 1 if found[index] == found[index - size] else 0
            if equal >= max(size * (LOOP_TIMES - 1), LOOP_WORDS - size):
                return True
    return False


def mentions_hint(text: str, question: str) -> bool:
    """Whether a text speaks of a hint that the question does not."""
    return _says_hint(text) and not _says_hint(question)


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return re.findall(r"\w+", text.lower())


def _says_hint(text: str) -> bool:
    return re.search(r"\bhints?\b", text, re.IGNORECASE) is not None
