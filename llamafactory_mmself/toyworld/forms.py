# SPDX-License-Identifier: Apache-2.0
"""Answers to multiple-choice questions in the forms that the methods work with.

Each function takes a question and the scene to describe. With the question's own scene it tells the truth; with
another one it gives what a model would say that sees wrongly, and None where that leads to no option.
"""

from __future__ import annotations

from ..data.questions import Question as Row
from .choices import asked, holds, letter, option
from .rationales import SECTIONS
from .scenes import Scene, answer, caption, sentence


def fact(row: Row, scene: Scene) -> str | None:
    """The sentence that decides, for example "There are 2 red shapes." """
    question, name = asked(row), letter(row, scene)
    if question.kind in ("absent", "present"):
        return None if name is None else sentence(question, option(row, name))
    short = answer(question, scene)
    return None if short is None else sentence(question, short)


def direct(row: Row, scene: Scene) -> str | None:
    """The answer alone: "Answer: B"."""
    name = letter(row, scene)
    return None if name is None else f"Answer: {name}"


def solution(row: Row, scene: Scene) -> str | None:
    """A chain of thought: what is to be seen, what follows, "Answer: B" on a line of its own."""
    name = letter(row, scene)
    return None if name is None else slip(row, scene, name)


def slip(row: Row, scene: Scene, name: str) -> str | None:
    """Like `solution`, but ends with the letter given: a wrong one is a slip after sound reasoning."""
    reason = fact(row, scene)
    return None if reason is None else f"{caption(scene)} {reason}\nAnswer: {name}"


def see_think_answer(row: Row, scene: Scene, captioned: bool = True) -> str | None:
    """STL's positive answer: CAPTION (unless it is left out), REASONING, CONCLUSION with the letter in brackets."""
    name = letter(row, scene)
    if name is None:
        return None
    parts = {"CAPTION": caption(scene)} if captioned else {}
    return _sections({**parts, "REASONING": str(fact(row, scene)), "CONCLUSION": f"({name})"})


def refutation(row: Row, scene: Scene, wrong: str, captioned: bool = True) -> str | None:
    """STL's negative rationale: CAPTION (unless it is left out), and EXPLANATION of why option `wrong` is wrong."""
    question = asked(row)
    says = option(row, wrong)
    if holds(question, says, scene):
        return None
    if question.kind == "absent":
        reason: str | None = f"There is {says}."
    elif question.kind == "present":
        reason = f"There is no {says.removeprefix('a ')}."
    else:
        reason = fact(row, scene)
    if reason is None:
        return None
    parts = {"CAPTION": caption(scene)} if captioned else {}
    return _sections({**parts, "EXPLANATION": f"({wrong}) says {says}. {reason} So ({wrong}) is wrong."})


def tagged(row: Row, scene: Scene) -> str | None:
    """Sherlock's four tagged sections, parted by blank lines; the conclusion is the option with its letter."""
    name = letter(row, scene)
    if name is None:
        return None
    parts = (
        f"I will study the picture and then answer: {row.text}",
        caption(scene),
        str(fact(row, scene)),
        f"({name}) {option(row, name)}",
    )
    return "\n\n".join(f"<{tag}> {text} </{tag}>" for tag, text in zip(SECTIONS, parts, strict=True))


def _sections(parts: dict[str, str]) -> str:
    return "\n\n".join(f"{name}: {text}" for name, text in parts.items())
