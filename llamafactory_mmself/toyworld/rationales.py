# SPDX-License-Identifier: Apache-2.0
"""Step-by-step answers about scenes: a short rationale, and the four tagged sections that Sherlock works with.

A rationale goes through the places one by one and says of each whether it fits: one look at the picture and one
comparison at a time. That a tiny model learns from a few thousand rows; to name the fitting ones alone it does not.
"""

from __future__ import annotations

from .scenes import Question, Scene, answer, caption, sentence


SECTIONS = ("SUMMARY", "CAPTION", "REASONING", "CONCLUSION")


def rationale(question: Question, scene: Scene, thought: Scene | None = None) -> str:
    """Explains the answer in one to three sentences; the question must have an answer in this scene.

    Args:
        question: of any kind but "absent" and "present", which are about options.
        scene: what is seen.
        thought: the scene as the reasoning takes it, where that differs: what is named is seen rightly then, and
            judged wrongly.
    """
    taken = thought or scene
    found = question.matches(taken)
    if question.kind == "describe":
        named = ", ".join(f"a {thing}" for thing in found) or "none"
        return f"I go through the picture row by row, from left to right, and find {named}."
    if question.kind == "count":
        return f"I count {question.target}s: {_scan(question, scene, taken)}. That makes {len(found)}."
    looked = f"I look for a {question.target}: {_scan(question, scene, taken, first=True)}."
    if question.kind == "exists":
        return looked
    direction = str(question.direction)
    place = scene.beside(scene.cells.index(found[0]), direction)
    named = "" if place is None else f", {scene.place_name(place)},"
    return f"{looked} {direction[0].upper()}{direction[1:]} the {question.target}{named} is {answer(question, taken)}."


def _scan(question: Question, scene: Scene, taken: Scene, first: bool = False) -> str:
    """What each place holds and whether it fits, up to the last place or to the first that fits."""
    said = []
    for seen, thing in zip(scene.cells, taken.cells, strict=True):
        fits = thing is not None and question.fits(thing)
        said.append(f"{f'a {seen}' if seen else 'nothing'} {'yes' if fits else 'no'}")
        if fits and first:
            break
    return ", ".join(said)


def tagged_answer(question: Question, scene: Scene) -> str:
    """Answers in the four sections of `SECTIONS`, parted by blank lines; CONCLUSION holds the short answer."""
    parts = (
        f"I will study the picture and then answer: {question.text}",
        caption(scene),
        f"{rationale(question, scene)} {sentence(question, str(answer(question, scene)))}",
        answer(question, scene),
    )
    return "\n\n".join(f"<{tag}> {text} </{tag}>" for tag, text in zip(SECTIONS, parts, strict=True))
