# SPDX-License-Identifier: Apache-2.0
"""MMMU (Yue et al. 2024): a folder a subject with `validation-*.parquet`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from ...metrics.base import Item
from .common import Place, Row, choice_item, tables


PICTURES = 7
DOMAINS = {
    "Art and Design": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Health and Medicine": (
        "Basic_Medical_Science",
        "Clinical_Medicine",
        "Diagnostics_and_Laboratory_Medicine",
        "Pharmacy",
        "Public_Health",
    ),
    "Humanities and Social Science": ("History", "Literature", "Psychology", "Sociology"),
    "Tech and Engineering": (
        "Agriculture",
        "Architecture_and_Engineering",
        "Computer_Science",
        "Electronics",
        "Energy_and_Power",
        "Materials",
        "Mechanical_Engineering",
    ),
}
DOMAIN_OF = {subject: domain for domain, subjects in DOMAINS.items() for subject in subjects}


def read(place: Place, split: str = "validation") -> Iterator[Item]:
    """Yields the questions; `<image 1>` in a text speaks of the first of the pictures, which all stand before it.

    Truth: `answer` (a letter, or a list of texts that count as right), `choices`, `question_type` (multiple-choice,
    open), `domain`, `subject`, `subfield`, `difficulty`.
    """
    for row in tables(place, f"*/{split}-*.parquet", f"{split}-*.parquet"):
        id = row.text("id")
        subject = id.removeprefix(f"{split}_").rpartition("_")[0]
        if subject not in DOMAIN_OF:
            raise row.fail("id", f"{id!r} names none of the 30 subjects; take the official files.")
        choices = tuple(map(str, _list(row, "options")))
        kind = row.text("question_type")
        if (kind == "multiple-choice") != bool(choices):
            raise row.fail("options", f"a {kind} question has {len(choices)} options.")
        numbers = (f"image_{number}" for number in range(1, PICTURES + 1))
        images = [place.keep(row, row.get(name), name) for name in numbers if row.get(name) is not None]
        answer = row.letter("answer", choices) if choices else [str(text) for text in _list(row, "answer")]
        yield choice_item(
            id,
            row.text("question"),
            images,
            choices,
            answer=answer,
            question_type=kind,
            domain=DOMAIN_OF[subject],
            subject=subject,
            subfield=row.text("subfield", default=""),
            difficulty=row.text("topic_difficulty", default=""),
        )


def _list(row: Row, name: str) -> list[Any]:
    """A list that stands in a text as Python writes it; another text is a list of one."""
    text = row.text(name)
    if not text.startswith("["):
        return [text]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise row.fail(name, f"a list as Python writes it is expected, found {text[:80]!r}.") from error
    return value if isinstance(value, list) else [value]
