# SPDX-License-Identifier: Apache-2.0
"""Step-by-step answers about scenes: a short rationale, and the four tagged sections that Sherlock works with."""

from __future__ import annotations

from .scenes import Question, Scene, answer, caption, sentence


SECTIONS = ("SUMMARY", "CAPTION", "REASONING", "CONCLUSION")


def rationale(question: Question, scene: Scene) -> str:
    """Explains the true answer in one or two sentences; the question must have an answer in this scene."""
    found = question.matches(scene)
    named = ", ".join(f"a {thing}" for thing in found) or "none"
    if question.kind == "describe":
        return f"I go through the picture row by row, from left to right, and find {named}."
    if question.kind == "relation":
        direction = str(question.direction)
        return f"{direction[0].upper()}{direction[1:]} the {question.target} is {answer(question, scene)}."
    return f"I count {question.target}s: {named}. That makes {len(found)}."


def tagged_answer(question: Question, scene: Scene) -> str:
    """Answers in the four sections of `SECTIONS`, parted by blank lines; CONCLUSION holds the short answer."""
    parts = (
        f"I will study the picture and then answer: {question.text}",
        caption(scene),
        f"{rationale(question, scene)} {sentence(question, str(answer(question, scene)))}",
        answer(question, scene),
    )
    return "\n\n".join(f"<{tag}> {text} </{tag}>" for tag, text in zip(SECTIONS, parts, strict=True))
