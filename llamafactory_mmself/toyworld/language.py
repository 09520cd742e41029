# SPDX-License-Identifier: Apache-2.0
"""Reads text about scenes: which sentences are true, which things are named, and which scene a caption describes.

A sentence that is none of the grammar's says nothing here: it is counted as not understood, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..data.questions import Question as Row
from .choices import NOTHING, asked, holds, letter, named, option
from .errors import ToyWorldError
from .rationales import compare, step
from .scenes import COLOURS, COLUMN_NAMES, DIRECTIONS, ROW_NAMES, SHAPES, Question, Scene, Thing, answer, draw


if TYPE_CHECKING:
    from PIL.Image import Image


Form = Literal[
    "row", "list", "scan", "there", "not there", "count", "relation", "neighbour", "verdict", "answer", "total", "plan"
]

_COLOUR, _SHAPE = "|".join(COLOURS), "|".join(SHAPES)
_THING = rf"an? (?:{_COLOUR}) (?:{_SHAPE})"
_CELL = rf"(?:{_THING}|nothing)"
_STEP = rf"{_CELL} (?:yes|no)(?:, (?:{_SHAPE}) (?:yes|no))?"
_PLACE = rf"(?:{'|'.join(ROW_NAMES[3])}) (?:{'|'.join(COLUMN_NAMES[3])})"
_APART = rf"(?:, a (?P<by_colour>{_COLOUR}) shape and a (?P<by_shape>{_SHAPE}))?"
_TARGET = rf"(?:(?P<colour>{_COLOUR}) )?(?P<shape>shape|{_SHAPE})"
_FORMS: dict[Form, str] = {
    "row": rf"The (?P<name>top|middle|bottom) row holds (?P<cells>{_CELL}(?:, then {_CELL})*)\.",
    "list": (
        r"I go through the picture row by row, from left to right, and find "
        rf"(?P<found>none|{_THING}(?:, {_THING})*)\."
    ),
    "scan": (
        rf"I look for (?P<aim>any|a|the|\((?P<letter>[A-Z])\)) {_TARGET}{_APART}: (?P<scanned>{_STEP}(?:; {_STEP})*)\."
    ),
    "there": rf"(?:Yes, there|There) is an? {_TARGET}\.",
    "not there": rf"(?:No, there|There) is no {_TARGET}\.",
    "count": rf"There (?:is|are) (?P<number>\d+|no) {_TARGET}s?\.",
    "relation": rf"(?:(?P<what>{_CELL}) is|There is nothing) (?P<direction>{'|'.join(DIRECTIONS)}) the {_TARGET}\.",
    "neighbour": (
        rf"(?P<direction>{'|'.join(DIRECTIONS)}) the {_TARGET}(?:, (?P<place>{_PLACE}),)? is "
        rf"(?P<what>{_CELL}){_APART}\."
    ),
    "verdict": (
        rf"\((?P<letter>[A-Z])\)(?: (?P<compared>{_STEP}):|(?: (?!is )(?P<says>[^.]+?))?(?: is)?) "
        r"(?P<verdict>right|wrong)\."
    ),
    "answer": rf"(?:Answer: |CONCLUSION: )?\(?(?P<letter>[A-Z])\)?(?: (?:\d+|nothing|(?:{_COLOUR}) (?:{_SHAPE})))?\.?",
    "total": r"That makes (?P<number>\d+)\.",
    "plan": r"I will study the picture and then answer: .*",
}
_PATTERNS = {form: re.compile(pattern, re.IGNORECASE) for form, pattern in _FORMS.items()}
_SENTENCE = re.compile(r"[^\s.!?][^\n.!?]*[.!?]*")
_MARK = re.compile(r"</?[A-Za-z]+>|\b(?:CAPTION|REASONING|EXPLANATION|SUMMARY|Solution \d+):")


@dataclass(frozen=True)
class Sentence:
    """A sentence of a text.

    Attributes:
        text: the sentence; section names and tags do not belong to it.
        start: where it begins in the whole text.
        end: where it ends.
        form: which pattern of the grammar it follows; None for anything else.
        true: whether it is true of the scene; None when it claims nothing, or nothing that can be checked.
    """

    text: str
    start: int
    end: int
    form: Form | None
    true: bool | None


@dataclass(frozen=True)
class Hallucination:
    """Which things a text names, after CHAIR (arXiv 1809.02156).

    Attributes:
        named: things that the text says are there, in its order, repeats included.
        absent: those of them that are not there.
        present: how many different things the scene holds.
        covered: how many of these the text names.
        unread: sentences that are none of the grammar's; what they name is not counted.
    """

    named: tuple[Thing, ...]
    absent: tuple[Thing, ...]
    present: int
    covered: int
    unread: int

    @property
    def chair_i(self) -> float:
        """Share of the named things that are not there; 0 for a text that names none."""
        return len(self.absent) / len(self.named) if self.named else 0.0

    @property
    def chair_s(self) -> bool:
        """Whether the text names anything that is not there."""
        return bool(self.absent)

    @property
    def coverage(self) -> float:
        """Share of the scene's different things that the text names."""
        return self.covered / self.present


def sentences(text: str, scene: Scene, row: Row | None = None) -> list[Sentence]:
    """Takes a rationale or caption apart and judges each sentence.

    Args:
        text: in any of the toy world's forms, or a model's.
        scene: what the sentences are about.
        row: the question; without it, sentences about its options stay unjudged.
    """
    blank = _MARK.sub(lambda match: " " * len(match[0]), text)
    found = []
    for match in _SENTENCE.finditer(blank):
        said = match[0].rstrip()
        form, parts = _read(said)
        true = None if form is None else _JUDGES[form](parts, scene, row)
        found.append(Sentence(said, match.start(), match.start() + len(said), form, true))
    return found


def hallucinated(text: str, scene: Scene) -> Hallucination:
    """Compares the things that a text says are there with the scene."""
    said = sentences(text, scene)
    named = tuple(thing for sentence in said for thing in _named(sentence))
    there = set(scene.things)
    return Hallucination(
        named=named,
        absent=tuple(thing for thing in named if thing not in there),
        present=len(there),
        covered=len(there & set(named)),
        unread=sum(sentence.form is None for sentence in said),
    )


def rows_of(text: str) -> list[tuple[str, list[Thing | None]]]:
    """The rows that a text describes, in its order: the name of each, and what its places hold; other sentences are
    passed over."""
    rows = []
    for match in _SENTENCE.finditer(text):
        form, parts = _read(match[0].rstrip())
        if form == "row":
            rows.append((parts["name"].lower(), _cells(parts["cells"])))
    return rows


def parse_caption(text: str) -> Scene:
    """The scene that a caption describes.

    Raises:
        ToyWorldError: naming the sentence that is no row of a caption, or the rows that do not make a grid.
    """
    rows: list[tuple[str, list[Thing | None]]] = []
    for match in _SENTENCE.finditer(text):
        form, parts = _read(match[0].rstrip())
        if form != "row":
            raise ToyWorldError(
                f"The toy world cannot draw the sentence {match[0].rstrip()!r}. A caption says what each row holds, "
                "for example: The top row holds a red circle, then nothing."
            )
        rows.append((parts["name"].lower(), _cells(parts["cells"])))
    names = tuple(name for name, _ in rows)
    if names not in ROW_NAMES.values() or len({len(cells) for _, cells in rows}) > 1:
        raise ToyWorldError(
            f"The rows of the caption {text!r} make no grid: top and bottom, or top, middle and bottom are expected, "
            "in this order and with the same number of places."
        )
    return Scene(len(rows), len(rows[0][1]), tuple(cell for _, cells in rows for cell in cells))


def paint(caption: str, size: int = 56) -> Image:
    """Draws what a caption describes: a text-to-image model for this world.

    Raises:
        ToyWorldError: the caption is not in the toy world's grammar; the text names the sentence.
    """
    return draw(parse_caption(caption), size, lit=True)


def _read(said: str) -> tuple[Form | None, dict[str, str]]:
    for form, pattern in _PATTERNS.items():
        if match := pattern.fullmatch(said):
            return form, {name: value for name, value in match.groupdict().items() if value is not None}
    return None, {}


def _cells(text: str) -> list[Thing | None]:
    return [named(cell) for cell in text.lower().split(", then ")]


def _things(text: str) -> list[Thing]:
    """All that a list or a search names."""
    return [Thing.parse(found.split(" ", 1)[1]) for found in re.findall(_THING, text.lower())]


def _target(kind: Literal["count", "relation"], parts: dict[str, str]) -> Question:
    shape = parts.get("shape", "shape").lower()
    colour = parts["colour"].lower() if "colour" in parts else None
    direction = parts["direction"].lower() if "direction" in parts else None
    return Question(kind, colour, None if shape == "shape" else shape, direction)


def _named(sentence: Sentence) -> list[Thing]:
    """Things that a sentence says are there; "There is no ..." names nothing, nor does "a red shape"."""
    _, parts = _read(sentence.text)
    if sentence.form == "row":
        return [thing for thing in _cells(parts["cells"]) if thing]
    if sentence.form == "scan":
        return _things(parts["scanned"])
    if sentence.form == "list":
        return _things(parts["found"])
    things = []
    if sentence.form in ("relation", "neighbour") and (thing := named(parts.get("what", NOTHING).lower())):
        things.append(thing)
    is_there = sentence.form in ("there", "relation", "neighbour") or (
        sentence.form == "count" and parts["number"].lower() not in ("no", "0")
    )
    if is_there and "colour" in parts and parts["shape"].lower() != "shape":
        things.append(Thing(parts["colour"].lower(), parts["shape"].lower()))
    return things


def _judge_row(parts: dict[str, str], scene: Scene, row: Row | None) -> bool:
    names = ROW_NAMES[scene.rows]
    if parts["name"].lower() not in names:
        return False
    start = names.index(parts["name"].lower()) * scene.columns
    return _cells(parts["cells"]) == list(scene.cells[start : start + scene.columns])


def _judge_list(parts: dict[str, str], scene: Scene, row: Row | None) -> bool:
    return sorted(map(str, _things(parts["found"]))) == sorted(map(str, scene.things))


def _judge_scan(parts: dict[str, str], scene: Scene, row: Row | None) -> bool:
    """True when each place is seen and judged rightly, and none is left out before the search may end."""
    target, said = _target("count", parts), parts["scanned"].lower().split("; ")
    if row is not None and "letter" in parts and not _names(row, parts["letter"].upper(), target.target):
        return False
    if parts.get("by_colour", target.colour) != target.colour or parts.get("by_shape", target.shape) != target.shape:
        return False
    right = [step(target, thing, thing) for thing in scene.cells[: len(said)]]
    found = parts["aim"].lower() != "any" and target.fits(scene.cells[len(right) - 1])
    return said == right and (found or len(said) == len(scene.cells))


def _judge_count(parts: dict[str, str], scene: Scene, row: Row | None) -> bool:
    number = 0 if parts["number"].lower() == "no" else int(parts["number"])
    return number == len(_target("count", parts).matches(scene))


def _judge_there(parts: dict[str, str], scene: Scene, row: Row | None) -> bool:
    return bool(_target("count", parts).matches(scene))


def _judge_not_there(parts: dict[str, str], scene: Scene, row: Row | None) -> bool:
    return not _judge_there(parts, scene, row)


def _judge_neighbour(parts: dict[str, str], scene: Scene, row: Row | None) -> bool:
    right = _judge_relation(parts, scene, row)
    if "by_colour" in parts and parts["what"].lower() != f"a {parts['by_colour']} {parts['by_shape']}".lower():
        return False
    if not right or "place" not in parts:
        return right
    question = _target("relation", parts)
    place = scene.beside(scene.cells.index(question.matches(scene)[0]), str(question.direction))
    return place is not None and scene.place_name(place) == parts["place"].lower()


def _judge_relation(parts: dict[str, str], scene: Scene, row: Row | None) -> bool:
    """False when the scene has no such thing, or several: "the" promises one."""
    return answer(_target("relation", parts), scene) == parts.get("what", NOTHING).lower()


def _judge_verdict(parts: dict[str, str], scene: Scene, row: Row | None) -> bool | None:
    if row is None:
        return None
    name = parts["letter"].upper()
    if not _names(row, name, parts.get("says")):
        return False
    question = asked(row)
    right = holds(question, option(row, name), scene)
    if "compared" in parts and parts["compared"].lower() != _compared(question, option(row, name), scene):
        return False
    return right == (parts["verdict"].lower() == "right")


def _compared(question: Question, text: str, scene: Scene) -> str | None:
    """How an option compares with the neighbour that is asked for; None for other questions."""
    found = answer(question, scene) if question.kind == "relation" else None
    return compare(named(text), named(found)) if found else None


def _names(row: Row, name: str, text: str | None) -> bool:
    """Whether there is an option with this letter, and with this text if one is given."""
    return name in row.letters and text in (None, option(row, name))


def _judge_answer(parts: dict[str, str], scene: Scene, row: Row | None) -> bool | None:
    return None if row is None else letter(row, scene) == parts["letter"].upper()


def _judge_total(parts: dict[str, str], scene: Scene, row: Row | None) -> bool | None:
    question = None if row is None else asked(row)
    return None if question is None or question.kind != "count" else parts["number"] == answer(question, scene)


def _judge_plan(parts: dict[str, str], scene: Scene, row: Row | None) -> None:
    return None


_JUDGES: dict[Form, Callable[[dict[str, str], Scene, Row | None], bool | None]] = {
    "row": _judge_row,
    "list": _judge_list,
    "scan": _judge_scan,
    "count": _judge_count,
    "there": _judge_there,
    "not there": _judge_not_there,
    "relation": _judge_relation,
    "neighbour": _judge_neighbour,
    "verdict": _judge_verdict,
    "answer": _judge_answer,
    "total": _judge_total,
    "plan": _judge_plan,
}
