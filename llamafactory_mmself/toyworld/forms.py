# SPDX-License-Identifier: Apache-2.0
"""Answers to multiple-choice questions in the forms that the methods work with.

Each function takes a question and the scene to describe. With the question's own scene it tells the truth; with
another one it gives what a model would say that sees wrongly, and None where that leads to no option. `thought` is the
scene as the reasoning takes it, where that differs from what is described: a slip of thought.
"""

from __future__ import annotations

from ..data.questions import Question as Row
from .choices import about_options, asked, holds, letter, named, option
from .rationales import SECTIONS, compare, rationale
from .scenes import Question, Scene, Thing, answer, caption


def reasoning(row: Row, scene: Scene, thought: Scene | None = None) -> str | None:
    """What the question asks for is found out; then the options, one after the other, up to the right one."""
    name = letter(row, thought or scene)
    if name is None:
        return None
    question, steps = asked(row), []
    if not about_options(question):
        steps.append(rationale(question, scene, thought))
    for other in row.letters[: row.letters.index(name) + 1]:
        steps.append(_weigh(row, scene, other, thought))
    return " ".join(steps)


def _weigh(row: Row, scene: Scene, name: str, thought: Scene | None = None) -> str:
    """What an option is worth: "(A) 3 wrong." or "(B) red circle right.".

    What an option names is looked for first where the question is about that, and compared with the neighbour that was
    found where it is about one: "(B) a blue square yes, square no: wrong.".
    """
    question, text, taken = asked(row), option(row, name), thought or scene
    verdict = "right" if holds(question, text, taken) else "wrong"
    if about_options(question):
        sought = rationale(Question.whether(Thing.parse(text)), scene, thought, name)
        return f"{sought} ({name}) {text} {verdict}."
    if question.kind == "relation":
        text = f"{compare(named(text), named(str(answer(question, taken))))}:"
    return f"({name}) {text} {verdict}."


def direct(row: Row, scene: Scene, thought: Scene | None = None) -> str | None:
    """The answer alone: "Answer: B"."""
    name = letter(row, thought or scene)
    return None if name is None else f"Answer: {name}"


def solution(row: Row, scene: Scene, thought: Scene | None = None) -> str | None:
    """A chain of thought, and "Answer: B" on a line of its own."""
    reason = reasoning(row, scene, thought)
    return None if reason is None else f"{reason}\nAnswer: {letter(row, thought or scene)}"


def see_think_answer(row: Row, scene: Scene, thought: Scene | None = None, captioned: bool = True) -> str | None:
    """STL's positive answer: CAPTION (unless it is left out), REASONING, CONCLUSION with the letter in brackets."""
    reason = reasoning(row, scene, thought)
    if reason is None:
        return None
    parts = {"CAPTION": caption(scene)} if captioned else {}
    return _sections({**parts, "REASONING": reason, "CONCLUSION": f"({letter(row, thought or scene)})"})


def refutation(row: Row, scene: Scene, wrong: str, captioned: bool = True) -> str | None:
    """STL's negative rationale: CAPTION (unless it is left out), and EXPLANATION of why option `wrong` is wrong."""
    question = asked(row)
    if holds(question, option(row, wrong), scene):
        return None
    steps = [] if about_options(question) else [rationale(question, scene)]
    steps.append(_weigh(row, scene, wrong))
    parts = {"CAPTION": caption(scene)} if captioned else {}
    return _sections({**parts, "EXPLANATION": " ".join(steps)})


def tagged(row: Row, scene: Scene, thought: Scene | None = None) -> str | None:
    """Sherlock's four tagged sections, parted by blank lines; the conclusion is the option with its letter."""
    name = letter(row, thought or scene)
    if name is None:
        return None
    parts = (
        f"I will study the picture and then answer: {row.text}",
        caption(scene),
        str(reasoning(row, scene, thought)),
        f"({name}) {option(row, name)}",
    )
    return "\n\n".join(f"<{tag}> {text} </{tag}>" for tag, text in zip(SECTIONS, parts, strict=True))


def _sections(parts: dict[str, str]) -> str:
    return "\n\n".join(f"{name}: {text}" for name, text in parts.items())
