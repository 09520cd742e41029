# SPDX-License-Identifier: Apache-2.0
"""Answers to multiple-choice questions in the forms that the methods work with.

Each function takes a question and the scene to describe. With the question's own scene it tells the truth; with
another one it gives what a model would say that sees wrongly, and None where that leads to no option.
"""

from __future__ import annotations

from ..data.questions import Question as Row
from .choices import asked, holds, letter, option
from .rationales import SECTIONS, rationale
from .scenes import Scene, caption


def fact(row: Row, scene: Scene) -> str:
    """What the question asks for, subject first: "I count red shapes: a red circle. That makes 1.".

    Empty if the question asks about the options only.
    """
    question = asked(row)
    return "" if question.kind in ("absent", "present") else rationale(question, scene)


def check(row: Row, scene: Scene, name: str) -> str:
    """What an option is worth: "(A) 3 is wrong." or "(B) 2 is right."."""
    text = option(row, name)
    return f"({name}) {text} is {'right' if holds(asked(row), text, scene) else 'wrong'}."


def reasoning(row: Row, scene: Scene) -> str | None:
    """The fact and the option that says so; without a fact, the options one after the other up to the right one."""
    name = letter(row, scene)
    if name is None:
        return None
    if found := fact(row, scene):
        return f"{found} {check(row, scene, name)}"
    return " ".join(check(row, scene, other) for other in row.letters[: row.letters.index(name) + 1])


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
    reason = reasoning(row, scene)
    return None if reason is None else f"{caption(scene)} {reason}\nAnswer: {name}"


def see_think_answer(row: Row, scene: Scene, captioned: bool = True) -> str | None:
    """STL's positive answer: CAPTION (unless it is left out), REASONING, CONCLUSION with the letter in brackets."""
    name = letter(row, scene)
    if name is None:
        return None
    parts = {"CAPTION": caption(scene)} if captioned else {}
    return _sections({**parts, "REASONING": str(reasoning(row, scene)), "CONCLUSION": f"({name})"})


def refutation(row: Row, scene: Scene, wrong: str, captioned: bool = True) -> str | None:
    """STL's negative rationale: CAPTION (unless it is left out), and EXPLANATION of why option `wrong` is wrong."""
    question, text = asked(row), option(row, wrong)
    if holds(question, text, scene):
        return None
    if question.kind in ("absent", "present"):
        reason = f"There is {'no' if question.kind == 'present' else 'a'} {text}."
    else:
        reason = fact(row, scene)
    parts = {"CAPTION": caption(scene)} if captioned else {}
    return _sections({**parts, "EXPLANATION": f"{reason} {check(row, scene, wrong)}".strip()})


def tagged(row: Row, scene: Scene) -> str | None:
    """Sherlock's four tagged sections, parted by blank lines; the conclusion is the option with its letter."""
    name = letter(row, scene)
    if name is None:
        return None
    parts = (
        f"I will study the picture and then answer: {row.text}",
        caption(scene),
        str(reasoning(row, scene)),
        f"({name}) {option(row, name)}",
    )
    return "\n\n".join(f"<{tag}> {text} </{tag}>" for tag, text in zip(SECTIONS, parts, strict=True))


def _sections(parts: dict[str, str]) -> str:
    return "\n\n".join(f"{name}: {text}" for name, text in parts.items())
