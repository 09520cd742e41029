# SPDX-License-Identifier: Apache-2.0
"""Scenes of coloured shapes on a grid: drawing, captions, and questions with their true answers.

Everything random comes from the `random.Random` that is handed in, so one seed gives one world.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Literal

from .errors import ToyWorldError


if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

COLOURS = {
    "red": (222, 73, 66),
    "green": (52, 158, 92),
    "blue": (52, 112, 204),
    "yellow": (244, 190, 46),
}
SHAPES = ("circle", "square", "triangle")
DIRECTIONS = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}
ROW_NAMES = {2: ("top", "bottom"), 3: ("top", "middle", "bottom")}
COLUMN_NAMES = {2: ("left", "right"), 3: ("left", "centre", "right")}

Kind = Literal["count", "exists", "relation", "describe", "absent", "present"]
_TARGET = rf"(?:(?P<colour>{'|'.join(COLOURS)}) )?(?P<shape>shape|{'|'.join(SHAPES)})"
_QUESTIONS: dict[Kind, str] = {
    "count": rf"How many {_TARGET}s are there\?",
    "exists": rf"Is there a {_TARGET}\?",
    "relation": rf"What is (?P<direction>{'|'.join(DIRECTIONS)}) the {_TARGET}\?",
    "describe": r"Describe the picture\.",
    "absent": r"Which of these is not there\?",
    "present": r"Which of these is there\?",
}


@dataclass(frozen=True)
class Thing:
    """One coloured shape."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"

    @classmethod
    def parse(cls, text: str) -> Thing:
        """Reads "red circle".

        Raises:
            ToyWorldError: a colour or a shape that this world does not have.
        """
        colour, _, shape = text.strip().partition(" ")
        if colour not in COLOURS or shape not in SHAPES:
            raise ToyWorldError(
                f"{text.strip()!r} is no thing of the toy world: a colour ({', '.join(COLOURS)}) "
                f"and a shape ({', '.join(SHAPES)}) are expected, for example 'red circle'."
            )
        return cls(colour, shape)


@dataclass(frozen=True)
class Scene:
    """A grid of 2 or 3 rows and columns; `cells` go row by row, None is an empty cell."""

    rows: int
    columns: int
    cells: tuple[Thing | None, ...]

    def __post_init__(self) -> None:
        if self.rows not in ROW_NAMES or self.columns not in ROW_NAMES or len(self.cells) != self.rows * self.columns:
            raise ToyWorldError(
                f"A scene has 2 or 3 rows and columns and one cell for each place; "
                f"got {self.rows} rows, {self.columns} columns, {len(self.cells)} cells."
            )

    def __str__(self) -> str:
        rows = (self.cells[start : start + self.columns] for start in range(0, len(self.cells), self.columns))
        return " / ".join(", ".join(str(thing or "-") for thing in row) for row in rows)

    @classmethod
    def parse(cls, text: str) -> Scene:
        """Reads what `str` gives: "red circle, - / blue square, green circle", "-" for an empty cell.

        Raises:
            ToyWorldError: rows of different length, too many or too few of them, or an unknown thing.
        """
        rows = [[cell.strip() for cell in row.split(",")] for row in text.split("/")]
        cells = tuple(None if cell == "-" else Thing.parse(cell) for row in rows for cell in row)
        if len({len(row) for row in rows}) > 1:
            raise ToyWorldError(f"The rows of the scene {text!r} differ in length; write '-' for an empty cell.")
        return cls(len(rows), len(rows[0]), cells)

    @property
    def things(self) -> tuple[Thing, ...]:
        """The shapes that are there, row by row."""
        return tuple(thing for thing in self.cells if thing is not None)

    def beside(self, place: int, direction: str) -> int | None:
        """The place next to a place in a direction of `DIRECTIONS`; None beyond the edge."""
        row, column = divmod(place, self.columns)
        row, column = row + DIRECTIONS[direction][0], column + DIRECTIONS[direction][1]
        inside = 0 <= row < self.rows and 0 <= column < self.columns
        return row * self.columns + column if inside else None

    def neighbour(self, thing: Thing, direction: str) -> Thing | None:
        """What lies next to `thing` in a direction of `DIRECTIONS`; None for an empty place or the edge."""
        place = self.beside(self.cells.index(thing), direction)
        return None if place is None else self.cells[place]

    def place_name(self, place: int) -> str:
        """For example "top left"."""
        row, column = divmod(place, self.columns)
        return f"{ROW_NAMES[self.rows][row]} {COLUMN_NAMES[self.columns][column]}"


@dataclass(frozen=True)
class Question:
    """A question about a scene; `colour` and `shape` narrow it, `direction` is set for relations only.

    "absent" and "present" ask which of several options is not there, or there.
    """

    kind: Kind
    colour: str | None = None
    shape: str | None = None
    direction: str | None = None

    @classmethod
    def whether(cls, thing: Thing) -> Question:
        """Asks whether there is such a thing."""
        return cls("exists", thing.colour, thing.shape)

    @property
    def target(self) -> str:
        """What is asked about, in the singular: "red circle", "red shape", "circle" or "shape"."""
        return " ".join(filter(None, (self.colour, self.shape or "shape")))

    @property
    def text(self) -> str:
        """The question as a user asks it."""
        return {
            "count": f"How many {self.target}s are there?",
            "exists": f"Is there a {self.target}?",
            "relation": f"What is {self.direction} the {self.target}?",
            "describe": "Describe the picture.",
            "absent": "Which of these is not there?",
            "present": "Which of these is there?",
        }[self.kind]

    @classmethod
    def parse(cls, text: str) -> Question:
        """Reads what `text` gives.

        Raises:
            ToyWorldError: not a question of the toy world.
        """
        for kind, pattern in _QUESTIONS.items():
            if match := re.fullmatch(pattern, text.strip()):
                parts = match.groupdict()
                shape = None if parts.get("shape") == "shape" else parts.get("shape")
                return cls(kind, parts.get("colour"), shape, parts.get("direction"))
        raise ToyWorldError(f"{text!r} is not a question of the toy world.")

    def fits(self, thing: Thing | None) -> bool:
        """Whether a place holds a thing of the colour and shape."""
        return all(self.verdicts(thing))

    def verdicts(self, thing: Thing | None) -> tuple[bool, ...]:
        """Whether the colour fits, then whether the shape does, as far as both are asked for, up to the first no."""
        if thing is None:
            return (False,)
        pairs = ((self.colour, thing.colour), (self.shape, thing.shape))
        said = [wanted == found for wanted, found in pairs if wanted is not None] or [True]
        return tuple(said[: said.index(False) + 1] if False in said else said)

    def matches(self, scene: Scene) -> tuple[Thing, ...]:
        """The things of the scene that fit colour and shape."""
        return tuple(thing for thing in scene.things if self.fits(thing))


def random_scene(rng: Random, rows: int = 2, columns: int = 2, fill: float = 0.75) -> Scene:
    """Draws a scene; each cell is filled with probability `fill`, and one at least is filled."""
    cells = [_random_thing(rng) if rng.random() < fill else None for _ in range(rows * columns)]
    if not any(cells):
        cells[rng.randrange(len(cells))] = _random_thing(rng)
    return Scene(rows, columns, tuple(cells))


def contradict(scene: Scene, rng: Random) -> Scene:
    """Returns a scene that differs in one object: another colour, another shape, or gone if others remain."""
    place, thing = rng.choice([(i, thing) for i, thing in enumerate(scene.cells) if thing is not None])
    edit = rng.choice(("colour", "shape", "gone") if len(scene.things) > 1 else ("colour", "shape"))
    other: Thing | None = None
    if edit == "colour":
        other = replace(thing, colour=rng.choice([c for c in COLOURS if c != thing.colour]))
    elif edit == "shape":
        other = replace(thing, shape=rng.choice([s for s in SHAPES if s != thing.shape]))
    return replace(scene, cells=(*scene.cells[:place], other, *scene.cells[place + 1 :]))


def caption(scene: Scene) -> str:
    """Says what every row holds from left to right, for example "The top row holds a red circle, then nothing."."""
    rows = []
    for number, name in enumerate(ROW_NAMES[scene.rows]):
        cells = scene.cells[number * scene.columns : (number + 1) * scene.columns]
        rows.append(f"The {name} row holds {', then '.join(f'a {t}' if t else 'nothing' for t in cells)}.")
    return " ".join(rows)


def questions(scene: Scene) -> list[Question]:
    """Lists the questions that have one clear answer in this scene, in a fixed order."""
    asked = [Question("count"), *(Question("count", colour=c) for c in COLOURS)]
    asked += [Question("count", shape=s) for s in SHAPES]
    asked += [Question("exists", colour=c, shape=s) for c in COLOURS for s in SHAPES]
    asked += [Question("relation", t.colour, t.shape, d) for t in dict.fromkeys(scene.things) for d in DIRECTIONS]
    return [question for question in (*asked, Question("describe")) if answer(question, scene) is not None]


def answer(question: Question, scene: Scene) -> str | None:
    """Returns the true short answer: a number, "yes" or "no", "a red circle" or "nothing", or a caption.

    None when the scene gives no clear answer: a relation to something that is absent or there twice, or a question
    that needs options ("absent", "present"; see `choices.letter`).
    """
    if question.kind in ("absent", "present"):
        return None
    found = question.matches(scene)
    if question.kind == "count":
        return str(len(found))
    if question.kind == "exists":
        return "yes" if found else "no"
    if question.kind == "describe":
        return caption(scene)
    if len(found) != 1:
        return None
    neighbour = scene.neighbour(found[0], question.direction or "")
    return f"a {neighbour}" if neighbour else "nothing"


def sentence(question: Question, short: str) -> str:
    """Puts a short answer of `answer` into a sentence, for example "There are 2 red shapes."."""
    if question.kind == "count":
        return f"There is 1 {question.target}." if short == "1" else f"There are {short} {question.target}s."
    if question.kind == "exists":
        return f"Yes, there is a {question.target}." if short == "yes" else f"No, there is no {question.target}."
    if question.kind == "relation":
        return f"{short[0].upper()}{short[1:]} is {question.direction} the {question.target}."
    if question.kind == "absent":
        return f"There is no {short.removeprefix('a ')}."
    return f"There is {short}." if question.kind == "present" else short


def draw(scene: Scene, size: int = 112, lit: bool = False) -> Image:
    """Draws the scene as a square RGB picture of `size` pixels a side, with smooth edges.

    Coloured light (`lit`) gives every place a tint of its own. Vision towers that know no absolute positions, as
    Qwen2-VL's, then learn in minutes which shape is where.
    """
    from PIL import Image, ImageChops, ImageDraw

    scale = 8
    picture = Image.new("RGB", (size * scale, size * scale), (247, 244, 238))
    pen = ImageDraw.Draw(picture)
    side = size * scale / max(scene.rows, scene.columns)
    left, top = (size * scale - side * scene.columns) / 2, (size * scale - side * scene.rows) / 2
    for place, thing in enumerate(scene.cells):
        row, column = divmod(place, scene.columns)
        x, y = left + (column + 0.5) * side, top + (row + 0.5) * side
        half = 0.46 * side
        pen.rounded_rectangle((x - half, y - half, x + half, y + half), radius=0.1 * side, fill=(255, 255, 255))
        if thing:
            _draw_thing(pen, thing, x, y, 0.3 * side)
    picture = picture.reduce(scale)
    return ImageChops.multiply(picture, _light(size)) if lit else picture


def _light(size: int) -> Image:
    """White in the upper left corner, with less red to the right and less green to the bottom."""
    from PIL import Image

    down = Image.linear_gradient("L").resize((size, size)).point(lambda value: 255 - value // 3)
    return Image.merge("RGB", (down.transpose(Image.Transpose.TRANSPOSE), down, Image.new("L", (size, size), 255)))


def _draw_thing(pen: ImageDraw, thing: Thing, x: float, y: float, radius: float) -> None:
    fill = COLOURS[thing.colour]
    if thing.shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    elif thing.shape == "square":
        half = 0.88 * radius
        pen.rounded_rectangle((x - half, y - half, x + half, y + half), radius=0.12 * radius, fill=fill)
    else:
        corners = [(x + 1.15 * radius * math.sin(a), y + 0.2 * radius - 1.15 * radius * math.cos(a)) for a in _THIRDS]
        pen.polygon(corners, fill=fill)


_THIRDS = (0.0, 2 * math.pi / 3, 4 * math.pi / 3)


def _random_thing(rng: Random) -> Thing:
    return Thing(rng.choice(tuple(COLOURS)), rng.choice(SHAPES))
