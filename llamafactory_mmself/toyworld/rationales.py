# SPDX-License-Identifier: Apache-2.0
"""Step-by-step answers about scenes: a short rationale, and the four tagged sections that Sherlock works with.

A rationale goes through the places one by one and says of each whether it fits: one look at the picture and one
comparison at a time, colour before shape where both are asked for, and what is compared was named just before. That a
tiny model learns from few thousand rows; to name the fitting ones alone, or to compare both in one word, it does not.
"""

from __future__ import annotations

from .scenes import Question, Scene, Thing, answer, caption, sentence


SECTIONS = ("SUMMARY", "CAPTION", "REASONING", "CONCLUSION")


def rationale(question: Question, scene: Scene, thought: Scene | None = None, option: str | None = None) -> str:
    """Explains the answer in one to three sentences; the question must have an answer in this scene.

    Args:
        question: of any kind but "absent" and "present", which are about options.
        scene: what is seen.
        thought: the scene as the reasoning takes it, where that differs: what is named is seen rightly then, and
            judged wrongly.
        option: the letter of the option that names what is looked for.
    """
    taken = thought or scene
    found = question.matches(taken)
    if question.kind == "describe":
        named = ", ".join(f"a {thing}" for thing in found) or "none"
        return f"I go through the picture row by row, from left to right, and find {named}."
    aim = {"count": "any", "relation": "the"}.get(question.kind, f"({option})" if option else "a")
    looked = f"I look for {aim} {question.target}{_apart(question)}: {_scan(question, scene, taken)}."
    if question.kind == "count":
        return f"{looked} That makes {len(found)}."
    if question.kind == "exists":
        return looked
    direction = str(question.direction)
    place = scene.beside(scene.cells.index(found[0]), direction)
    named = "" if place is None else f", {scene.place_name(place)},"
    neighbour = taken.neighbour(found[0], direction)
    seen = f"{answer(question, taken)}{_apart(neighbour)}"
    return f"{looked} {direction[0].upper()}{direction[1:]} the {question.target}{named} is {seen}."


def compare(thing: Thing | None, found: Thing | None) -> str:
    """Whether a thing is what was found, None being an empty place: "a red square yes, square no"."""
    if found is None:
        return "nothing yes" if thing is None else f"a {thing} no"
    return step(Question.whether(found), thing, thing)


def _apart(what: Question | Thing | None) -> str:
    """What has to be compared, one word at a time: ", a red shape and a circle"; nothing where one word says it."""
    return f", a {what.colour} shape and a {what.shape}" if what and what.colour and what.shape else ""


def _scan(question: Question, scene: Scene, taken: Scene) -> str:
    """What each place holds and whether it fits, up to the first that fits, or to the last to count them."""
    said = []
    for seen, thing in zip(scene.cells, taken.cells, strict=True):
        said.append(step(question, seen, thing))
        if question.kind != "count" and question.fits(thing):
            break
    return "; ".join(said)


def step(question: Question, seen: Thing | None, taken: Thing | None) -> str:
    """A step of a search: what a place holds, and whether that fits, for example "a red square yes, square no"."""
    words = ["yes" if fits else "no" for fits in question.verdicts(taken)]
    return f"a {seen} {f', {seen.shape} '.join(words)}" if seen else f"nothing {words[0]}"


def tagged_answer(question: Question, scene: Scene) -> str:
    """Answers in the four sections of `SECTIONS`, parted by blank lines; CONCLUSION holds the short answer."""
    parts = (
        f"I will study the picture and then answer: {question.text}",
        caption(scene),
        f"{rationale(question, scene)} {sentence(question, str(answer(question, scene)))}",
        answer(question, scene),
    )
    return "\n\n".join(f"<{tag}> {text} </{tag}>" for tag, text in zip(SECTIONS, parts, strict=True))
