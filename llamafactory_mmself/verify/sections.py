# SPDX-License-Identifier: Apache-2.0
"""Answers in sections: CAPTION / REASONING / CONCLUSION, CAPTION / EXPLANATION, and the four tagged sections.

Every reader returns what it found and, in `problem`, why the text is not a whole answer: `None` means that it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..data.tagged import TAGS
from . import letters
from .text import final_segment, plain
from .types import Found


Problem = Literal[
    "no caption",
    "no reasoning",
    "no explanation",
    "no conclusion",
    "no option",
    "ambiguous option",
    "option not offered",
    "degenerate",
    "wrong order",
    "asserts the wrong option",
    "only cites the right option",
]
ANSWER = ("CAPTION", "REASONING", "CONCLUSION")
REFUTATION = ("CAPTION", "EXPLANATION")
ZEROS = 50
REPEATS = re.compile(r"([^\s.\-_=*])\1{59,}|\b(\w+)\b(?:\W+\2\b){19,}")
OPTION_PROBLEMS: dict[str, Problem] = {letters.AMBIGUOUS: "ambiguous option", letters.FOREIGN: "option not offered"}
ASSERTS = r"(?:correct|right(?!\s+(?:of|next|beside|side|hand)\b)|best|true|the answer)"  # "right of" is a place
BEING = r"(?:is|are|was|would be|must be|seems)"


@dataclass(frozen=True)
class Sections:
    """What a sectioned answer says; texts are stripped, and "" when they are not there.

    Attributes:
        caption: what is in the picture.
        reasoning: how it leads to the option.
        option: capital letter of the option that the conclusion chooses, or None.
        explanation: why an option is wrong (refutations).
        problem: why this is no whole answer, or None.
    """

    caption: str = ""
    reasoning: str = ""
    option: str | None = None
    explanation: str = ""
    problem: Problem | None = None

    @property
    def ok(self) -> bool:
        """Whether the answer is whole."""
        return self.problem is None


def parse_sections(text: str, names: Sequence[str]) -> dict[str, str]:
    """Splits a text at its section headers; template marks (`###`, `**`) around headers and texts are dropped.

    A header is a name and a colon: at the start of a line in any case, or anywhere in capitals. Where a name stands in
    capitals somewhere, only those count, so that "Conclusion: ..." in the middle of a reasoning is prose.

    Returns:
        Text by name, in the order of the text, of each name's first header; names that are not there are left out.
    """
    found = sorted(_headers(text, names), key=lambda header: header.start())
    sections: dict[str, str] = {}
    for index, header in enumerate(found, start=1):
        end = found[index].start() if index < len(found) else len(text)
        sections.setdefault(header.group("name").upper(), _bare(text[header.end() : end]))
    return sections


def parse_tags(text: str, names: Sequence[str] = TAGS) -> dict[str, str]:
    """Reads `<NAME> ... </NAME>` sections; of a name that comes twice, the first. Unclosed ones are left out."""
    sections = {}
    for name in names:
        match = re.search(rf"<{name}>(.*?)</{name}>", text, re.DOTALL | re.IGNORECASE)
        if match:
            sections[name] = match.group(1).strip()
    return sections


def read_answer(text: str, choices: Sequence[str], *, caption: bool = True) -> Sections:
    """Reads a see-think-answer response: CAPTION, REASONING, CONCLUSION.

    Args:
        text: the response.
        choices: texts of the options.
        caption: False for the form without a CAPTION section (an ablation); one that is there is read all the same.
    """
    parts = parse_sections(text, ANSWER)
    see, think, conclusion = (parts.get(name, "") for name in ANSWER)
    found = read_conclusion(conclusion, choices)
    problem: Problem | None = None
    if list(parts) != [name for name in ANSWER if name in parts]:
        problem = "wrong order"
    elif caption and not see:
        problem = "no caption"
    elif not think:
        problem = "no reasoning"
    elif not conclusion:
        problem = "no conclusion"
    elif degenerate(see) or degenerate(think):
        problem = "degenerate"
    elif found.answer is None:
        problem = OPTION_PROBLEMS.get(found.rule, "no option")
    return Sections(see, think, found.answer, problem=problem)


def read_refutation(
    text: str,
    *,
    caption: bool = True,
    wrong: str | None = None,
    right: str | None = None,
    choices: Sequence[str] = (),
) -> Sections:
    """Reads an explanation why an option is wrong: CAPTION, EXPLANATION.

    Args:
        text: the response.
        caption: False for the form without a CAPTION section.
        wrong: letter of the refuted option; when given, an explanation that calls it right is a problem.
        right: letter of the true option; when given, an explanation that only cites it is a problem.
        choices: texts of the options, so that they are recognised beside the letters.
    """
    parts = parse_sections(text, (*REFUTATION, "REASONING", "CONCLUSION"))
    see, explanation = (parts.get(name, "") for name in REFUTATION)
    problem: Problem | None = None
    if [name for name in parts if name in REFUTATION] != [name for name in REFUTATION if name in parts]:
        problem = "wrong order"
    elif caption and not see:
        problem = "no caption"
    elif not explanation:
        problem = "no explanation"
    elif degenerate(see) or degenerate(explanation):
        problem = "degenerate"
    elif wrong is not None and asserts_option(explanation, wrong, choices):
        problem = "asserts the wrong option"
    elif right is not None and only_cites(explanation, right, choices):
        problem = "only cites the right option"
    return Sections(see, explanation=explanation, problem=problem)


def read_conclusion(conclusion: str, choices: Sequence[str]) -> Found:
    """The option of a conclusion: an announced answer, else what its first paragraph begins with or names.

    Without a letter, exactly one option's text must stand there: "the walrus, not the flamingo" is ambiguous.
    """
    paragraph = re.split(r"\n\s*\n|\n\s*question\s*:", plain(conclusion), maxsplit=1, flags=re.IGNORECASE)[0].strip()
    segment, _ = final_segment(paragraph)
    found = letters.read_option(paragraph if segment is None else segment, choices)
    named = {choices[index].strip().casefold() for index, _ in letters.named_options(paragraph, choices)}
    return Found(None, letters.AMBIGUOUS) if found.rule == letters.TEXT and len(named) > 1 else found


def degenerate(text: str) -> bool:
    """Whether a text runs in circles: over 50 zeros, 60 equal characters, or one word 20 times in a row."""
    return text.count("0") > ZEROS or REPEATS.search(text) is not None


def asserts_option(text: str, letter: str, choices: Sequence[str] = ()) -> bool:
    """Whether a text calls an option right ("actually (b) is the right answer", "the answer is (b)")."""
    text = plain(text)
    names = _names(letter, choices)
    said = rf"(?:{names})[\s\"')]*{BEING}\s+(?:(?:indeed|actually|also)\s+)?(?:the\s+)?{ASSERTS}"
    announced = (
        rf"\b(?:answer|(?:correct|right|best)\s+(?:option|choice|one))\s+(?:is|must be|should be)\s*:?\s*(?:{names})"
    )
    for match in re.finditer(f"{said}|{announced}", text, re.IGNORECASE):
        if not letters.negated(text, match.start(), match.start()) and not re.match(
            r"\W*(?:only )?if\b", text[match.end() :], re.IGNORECASE
        ):
            return True
    return False


def only_cites(text: str, letter: str, choices: Sequence[str] = ()) -> bool:
    """Whether a text leans on the true option alone ("because the right answer is (a)") in a single clause or two."""
    clauses = [
        clause for clause in re.split(r"[.;\n]|\bbecause\b|\bsince\b|\bas\b", plain(text)) if clause.strip(" ,")
    ]
    return len(clauses) <= 2 and any(asserts_option(clause, letter, choices) for clause in clauses)


def _names(letter: str, choices: Sequence[str]) -> str:
    index = ord(letter.upper()) - ord("A")
    names = [rf"[(\[]\s*{letter}\s*[)\]]", rf"\b(?:option|choice|answer)\s+{letter}\b"]
    if index < len(choices) and choices[index].strip():
        names.append(r"(?<!\w)(?:the\s+)?" + re.escape(choices[index].strip()) + r"(?!\w)")
    return "|".join(names)


def _headers(text: str, names: Sequence[str]) -> list[re.Match[str]]:
    found = []
    for name in names:
        colon = r"\b[ \t]{0,3}[*#]{0,6}[ \t]{0,3}:"
        shouted = list(re.finditer(rf"\b(?P<name>{name}){colon}", text))
        bullets = r"[ \t]{0,8}(?:(?:[-#*>]{1,6}|\d{1,2}[.)])[ \t]{0,3}){0,3}"
        lined = re.finditer(rf"^{bullets}(?P<name>{name}){colon}", text, re.MULTILINE | re.IGNORECASE)
        lines = list(lined)
        found += [header for header in lines if header["name"] == name] or shouted or lines
    return found


def _bare(text: str) -> str:
    """Without the marks around a section, and without the number or bullet of the header that follows it."""
    text = text.strip(" \t\r\n#*")
    before, line_end, last = text.rpartition("\n")
    return (
        before.rstrip(" \t\r\n#*")
        if line_end and re.fullmatch(r"[ \t]{0,8}(?:\d{1,2}[.)]|[-#*>]{1,6})", last)
        else text
    )
