# SPDX-License-Identifier: Apache-2.0
"""Rows of data sets as cards: both pictures, chosen against rejected, prefixes in colour, weights."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..data.faults import DataError
from ..data.schema import DatasetSchema
from .pictures import picture, picture_html
from .style import block


MOST_ROWS = 20
MOST_TEXT = 20_000  # characters of a text that are shown
_OURS = ("rejected_images", "prefix", "prefix_l", "weights", "kind")
_WORDS = re.compile(r"\s+|\S+")


def is_ours(row: Any, schema: DatasetSchema) -> bool:
    """Whether a row is one of those that LlamaBoard's plain view says too little about."""
    if not isinstance(row, Mapping):
        return False
    if any(row.get(schema.key(column)) is not None for column in _OURS):
        return True
    return schema.ranking and bool(row.get(schema.key("images")))


def rows_html(rows: Sequence[Any], entry: Any, roots: Sequence[Path]) -> str:
    """Cards of rows as they stand in a file; "" if none of them has more to show than plain JSON.

    Args:
        rows: of one data set.
        entry: what dataset_info.json says about it.
        roots: folders that pictures may come from.
    """
    try:
        schema = DatasetSchema.from_info("preview", entry)
    except DataError:
        return ""
    cards = [row_card(row, schema, roots) for row in rows[:MOST_ROWS] if is_ours(row, schema)]
    return block("".join(cards))


def row_card(row: Mapping[str, Any], schema: DatasetSchema, roots: Sequence[Path]) -> str:
    """A row as a card. Everything in it is data: texts are escaped, broken parts are left out."""
    question, answer = _turns(row, schema)
    images = _images(row, schema, question)
    captions = [("picture", "good" if images[1] else ""), ("rejected picture", "bad")]
    shown = "".join(
        picture_html(picture(path, roots), caption, kind)
        for paths, (caption, kind) in zip(images, captions, strict=True)
        for path in paths[:4]
    )
    parts = [_badges(row, schema), _text("", question, "asked")]
    prefixes = [_string(row.get(schema.key(name))) for name in ("prefix", "prefix_l")]
    rejected = row.get(schema.key("rejected")) if schema.ranking else None
    if schema.ranking:
        parts.append(_answer("chosen", row.get(schema.key("chosen")), prefixes[0], "good"))
        lost = rejected if isinstance(rejected, list) and not _is_turns(rejected) else [rejected]
        parts += [
            _answer("rejected", item, prefixes[1] if place == 0 else "", "bad") for place, item in enumerate(lost)
        ]
    elif answer:
        parts.append(_text("to learn", answer, "good"))
    provenance = _string(row.get(schema.key("provenance")))
    if provenance:
        where = escape(_pretty(provenance))
        parts.append(
            f"<details><summary class='mmself-soft'>where it comes from</summary><pre>{where}</pre></details>"
        )
    side = f'<div class="mmself-side">{shown}</div>' if shown else ""
    return f'<div class="mmself-card">{side}<div class="mmself-main">{"".join(parts)}</div></div>'


def text_html(label: str, text: str, kind: str = "", prefix: str = "") -> str:
    """A text under its label; a prefix that it begins with is marked."""
    text = _cut(text)
    shown = escape(text)
    if prefix.strip() and text.startswith(prefix):
        shown = f'<mark title="given, not learnt">{escape(prefix)}</mark>{escape(text[len(prefix) :])}'
    head = f'<div class="mmself-label">{escape(label)}</div>' if label else ""
    return f'{head}<div class="mmself-text {kind}">{shown}</div>'


def changes_html(label: str, before: str, after: str, kind: str = "") -> str:
    """A text with what differs from an earlier one marked: new words, and those that are gone."""
    old, new = _WORDS.findall(_cut(before)), _WORDS.findall(_cut(after))
    if len(old) * len(new) > 4_000_000:  # comparing takes the product of both
        return text_html(label, after, kind)
    parts = []
    for step, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if step in ("replace", "delete"):
            parts.append(f'<mark class="gone">{escape("".join(old[i:j]))}</mark>')
        if step in ("replace", "insert"):
            parts.append(f'<mark class="new">{escape("".join(new[k:m]))}</mark>')
        if step == "equal":
            parts.append(escape("".join(new[k:m])))
    return f'<div class="mmself-label">{escape(label)}</div><div class="mmself-text {kind}">{"".join(parts)}</div>'


def badge(text: str, kind: str = "") -> str:
    """A word or two in a frame."""
    return f'<span class="mmself-badge {kind}" title="{escape(text)}">{escape(text)}</span>'


def _badges(row: Mapping[str, Any], schema: DatasetSchema) -> str:
    found = []
    for column, title in (("id", ""), ("kind", ""), ("pair", "pair "), ("weights", "weight ")):
        value = row.get(schema.key(column))
        if isinstance(value, (str, int, float)) and value != "":
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            found.append(badge(title + shown[:200], "work" if column in ("kind", "weights") else ""))
    return "".join(found)


def _answer(label: str, value: Any, prefix: str, kind: str) -> str:
    text = _answer_text(value)
    if text is None:
        return ""
    if prefix.strip() and not text.startswith(prefix):  # rows that hold only what follows the prefix
        text = prefix + text
    return text_html(label, text, kind, prefix)


def _text(label: str, text: str, kind: str) -> str:
    return text_html(label, text, kind) if text else ""


def _turns(row: Mapping[str, Any], schema: DatasetSchema) -> tuple[str, str]:
    """What is asked, and what is to be learnt where the last turn is an answer."""
    if schema.formatting == "alpaca":
        asked = [_string(row.get(schema.key(name))) for name in ("prompt", "query")]
        return "\n".join(filter(None, asked)), _string(row.get(schema.key("response")))
    turns = row.get(schema.key("messages"))
    if not isinstance(turns, list):
        return "", ""
    role, content = schema.tags.get("role_tag", "from"), schema.tags.get("content_tag", "value")
    said = [(_string(turn.get(role)), _string(turn.get(content))) for turn in turns if isinstance(turn, Mapping)]
    answered = bool(said) and said[-1][0] == schema.tags.get("assistant_tag", "gpt")
    answer = said.pop()[1] if answered else ""
    return "\n\n".join(text for _, text in said), answer


def _images(row: Mapping[str, Any], schema: DatasetSchema, question: str) -> tuple[list[str], list[str]]:
    """Paths of the real pictures and of the rejected ones."""
    images = _paths(row.get(schema.key("images")))
    rejected = _paths(row.get(schema.key("rejected_images")))
    shown = question.count("<image>")
    if not rejected and schema.ranking and shown and len(images) == 2 * shown:
        return images[:shown], images[shown:]
    return images, rejected


def _paths(value: Any) -> list[str]:
    values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [path for path in values if isinstance(path, str) and path]


def _answer_text(value: Any) -> str | None:
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("value", "content") if key in value), None)
    elif _is_turns(value):
        return _answer_text(value[-1])
    return value if isinstance(value, str) else None


def _is_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(turn, Mapping) for turn in value)


def _pretty(text: str) -> str:
    try:
        return _cut(json.dumps(json.loads(text), ensure_ascii=False, indent=2))
    except ValueError:
        return _cut(text)


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else ""


def _cut(text: str) -> str:
    left = len(text) - MOST_TEXT
    return text if left <= 0 else f"{text[:MOST_TEXT]}… ({left} characters more)"
