# SPDX-License-Identifier: Apache-2.0
"""A sheet of sample scenes with their questions, options and answers, to look at."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from ..data.questions import Question as Row
from .choices import CATEGORIES, random_question, scene_of
from .forms import solution
from .scenes import draw, random_scene


if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

COLUMNS, ROWS = 4, 2
_CARD, _GAP, _EDGE, _PICTURE = (400, 830), 28, 40, 220
_PAPER, _WHITE, _INK, _GREY, _RIGHT, _RIGHT_INK = "#f1ede4", "#ffffff", "#26282c", "#74777d", "#dff1e4", "#1c7a45"


def write_sheet(path: Path, seed: int = 0) -> Path:
    """Draws `COLUMNS` x `ROWS` cards, each category as often as the next, on grids of four and of six places.

    Returns:
        The path of the PNG that was written.
    """
    from PIL import Image

    rng = Random(f"{seed}/sheet")
    width, height = (2 * _EDGE + n * (size + _GAP) - _GAP for n, size in zip((COLUMNS, ROWS), _CARD, strict=True))
    sheet = Image.new("RGB", (width, height), _PAPER)
    wanted = [kind for kind in CATEGORIES for _ in range(COLUMNS * ROWS // len(CATEGORIES))]
    for number, kind in enumerate(wanted):
        row, column = number % ROWS, number // ROWS
        grid = (2, 2) if row == 0 else ((2, 3), (3, 2), (2, 3), (3, 2))[column]
        card = _card(_question_of_kind(rng, kind, *grid))
        sheet.paste(card, (_EDGE + column * (_CARD[0] + _GAP), _EDGE + row * (_CARD[1] + _GAP)), card)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)
    return path


def _question_of_kind(rng: Random, kind: str, rows: int, columns: int) -> Row:
    while True:
        row = random_question(rng, random_scene(rng, rows, columns, fill=0.8), "sheet")
        if row.extra["category"] == kind:
            return row


def _card(row: Row) -> Image:
    from PIL import Image, ImageDraw

    card = Image.new("RGBA", _CARD, (0, 0, 0, 0))
    pen = ImageDraw.Draw(card)
    pen.rounded_rectangle((0, 0, _CARD[0] - 1, _CARD[1] - 1), radius=22, fill=_WHITE)
    card.paste(draw(scene_of(row), _PICTURE, lit=True), ((_CARD[0] - _PICTURE) // 2, 24))
    top = _PICTURE + 44
    top = _write(pen, row.text, top, 21, _INK) + 10
    for letter, text in zip(row.letters, row.choices or (), strict=True):
        right = letter == row.answer
        if right:
            pen.rounded_rectangle((20, top - 4, _CARD[0] - 20, top + 27), radius=9, fill=_RIGHT)
        _write(pen, f"({letter})  {text}", top, 18, _RIGHT_INK if right else _INK, left=34)
        top += 35
    pen.line((28, top + 9, _CARD[0] - 28, top + 9), fill=_PAPER, width=2)
    _write(pen, str(solution(row, scene_of(row))), top + 24, 16, _GREY)
    return card


def _write(pen: ImageDraw, text: str, top: int, size: int, colour: str, left: int = 28) -> int:
    """Writes text with line breaks at the card's edge; returns where the next line would begin."""
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    for paragraph in text.split("\n"):
        line = ""
        for word in [*paragraph.split(" "), None]:
            longer = f"{line} {word}".strip()
            if word is None or pen.textlength(longer, font=font) > _CARD[0] - 2 * left:
                pen.text((left, top), line, font=font, fill=colour)
                line, top = word or "", top + round(1.42 * size)
            else:
                line = longer
    return top
