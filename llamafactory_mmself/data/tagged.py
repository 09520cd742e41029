# SPDX-License-Identifier: Apache-2.0
"""Responses in tagged sections, `<SUMMARY> ... </SUMMARY>` and so on: whole or not, and where they can be cut.

A response is whole if every section is there once, in order, closed and not empty, with nothing but blanks around
them. Only whole responses are cut: a missing tag must not make all of a text its own prefix.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


_WORD = re.compile(r"\S+")
TAGS = ("SUMMARY", "CAPTION", "REASONING", "CONCLUSION")


@dataclass(frozen=True)
class Section:
    """A section of a text: `text[start:end]` with its tags, `text[first:last]` between them."""

    name: str
    start: int
    first: int
    last: int
    end: int


@dataclass(frozen=True)
class TaggedText:
    """A response and its sections.

    Attributes:
        text: the response.
        sections: those that were found, up to the first broken tag.
        problem: why the response is not whole, or None.
    """

    text: str
    sections: tuple[Section, ...]
    problem: str | None

    def inside(self, name: str) -> str:
        """What a section says, "" if it is not there."""
        found = next((section for section in self.sections if section.name == name), None)
        return "" if found is None else self.text[found.first : found.last].strip()

    def cut(self, place: int) -> tuple[str, str] | None:
        """Prefix and suffix, which together are the text.

        Args:
            place: from 1 to the number of sections n. Below n, the cut is right before section `place`, so that 1
                gives an empty prefix; n cuts the last section but one about in half.

        Returns:
            None if the response is not whole, or the section to be cut in half has a single word.

        Raises:
            ValueError: there is no such place.
        """
        if self.problem is not None:
            return None
        if not 1 <= place <= len(self.sections):
            raise ValueError(f"A response of {len(self.sections)} sections has no place {place} to be cut at.")
        if place < len(self.sections) or place == 1:
            at: int | None = self.sections[place - 1].start if place > 1 else 0
        else:
            at = self._half(self.sections[-2])
        return None if at is None else (self.text[:at], self.text[at:])

    def _half(self, section: Section) -> int | None:
        """The end of a clause next to the middle of a section, or of the middle word where no clause ends.

        The blank belongs to the word that follows. A section of one word has no half.
        """
        words = list(_WORD.finditer(self.text, section.first, section.last))[:-1]
        if not words:
            return None
        middle = (len(words) + 1) // 2 - 1
        clauses = [place for place, word in enumerate(words) if word[0][-1] in ".,;:!?"]
        return words[min(clauses, key=lambda place: abs(place - middle), default=middle)].end()


def read_tagged(text: str, names: Sequence[str] = TAGS) -> TaggedText:
    """Reads a response.

    Args:
        text: the response.
        names: of its sections, in their order.
    """
    sections, problem = _pair_tags(text, names)
    return TaggedText(text, tuple(sections), problem or _shape_problem(text, sections, names))


def _pair_tags(text: str, names: Sequence[str]) -> tuple[list[Section], str | None]:
    """The sections up to the first broken tag, and what is broken."""
    sections: list[Section] = []
    opened: re.Match[str] | None = None
    known = "|".join(map(re.escape, names))
    for tag in re.finditer(rf"<\s*(/?)\s*({known})\s*>", text, re.IGNORECASE):
        closing, name = bool(tag[1]), tag[2]
        if name not in names or tag[0] != f"<{tag[1]}{name}>":
            return sections, "a misspelt tag"
        if not closing:
            if opened is not None:
                return sections, f"{opened[2]} is not closed"
            opened = tag
        elif opened is None:
            return sections, f"{name} is closed but not opened"
        elif opened[2] != name:
            return sections, f"{opened[2]} is not closed"
        else:
            sections.append(Section(name, opened.start(), opened.end(), tag.start(), tag.end()))
            opened = None
    return sections, f"{opened[2]} is not closed" if opened is not None else None


def _shape_problem(text: str, sections: Sequence[Section], names: Sequence[str]) -> str | None:
    found = [section.name for section in sections]
    if not found:
        return "no sections"
    for name in names:
        if found.count(name) != 1:
            return f"{name} is missing" if name not in found else f"{name} comes twice"
    if found != list(names):
        return "wrong order"
    for section in sections:
        if not text[section.first : section.last].strip():
            return f"{section.name} is empty"
    edges = [0, *(edge for section in sections for edge in (section.start, section.end)), len(text)]
    outside = "".join(text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True))
    return "text outside the sections" if outside.strip() else None
