# SPDX-License-Identifier: Apache-2.0
"""Sees which scene a picture of the toy world shows, by comparing it with what this world draws."""

from __future__ import annotations

import io
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import ToyWorldError
from .scenes import COLOURS, ROW_NAMES, SHAPES, Scene, Thing, draw


if TYPE_CHECKING:
    from PIL.Image import Image

SAME = 0.03  # mean difference of pixels, from 0 to 1, that JPEG and scaling may make
LARGEST = 224  # pixels a side; to compare with larger ones takes too long

_CELLS: tuple[Thing | None, ...] = (None, *(Thing(colour, shape) for colour in COLOURS for shape in SHAPES))


def look(picture: str | Path | bytes | Image) -> Scene:
    """The scene in a picture, drawn with coloured light or without.

    Args:
        picture: a path, the content of a file, or a Pillow image.

    Raises:
        ToyWorldError: it is no picture of the toy world.
        OSError: the file cannot be read.
    """
    from PIL import Image

    if isinstance(picture, str | Path | bytes):
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as opened:
            picture = opened.convert("RGB")
    size = picture.width
    if picture.height != size or not 28 <= size <= LARGEST:
        raise ToyWorldError(f"A picture of {picture.width} x {picture.height} pixels is none of the toy world's.")
    pixels = np.asarray(picture.convert("RGB"), dtype=np.int16)
    found: tuple[float, Scene] | None = None
    for lit, rows, columns in product((True, False), ROW_NAMES, ROW_NAMES):
        scene = _read(pixels, rows, columns, lit)
        difference = float(np.abs(pixels - _pixels(draw(scene, size, lit))).mean()) / 255
        if scene.things and difference < SAME and (found is None or difference < found[0]):
            found = difference, scene
        if found is not None and found[0] == 0:
            break
    if found is None:
        raise ToyWorldError("The picture shows no scene of the toy world.")
    return found[1]


def _read(pixels: np.ndarray, rows: int, columns: int, lit: bool) -> Scene:
    """The scene of a grid that comes nearest to the pixels, place by place."""
    patterns = _patterns(len(pixels), rows, columns, lit)
    cells = []
    for place in range(rows * columns):
        box = _box(place, rows, columns, len(pixels))
        differences = [np.abs(pixels[box] - pattern[box]).sum() for pattern in patterns]
        cells.append(_CELLS[int(np.argmin(differences))])
    return Scene(rows, columns, tuple(cells))


@lru_cache(maxsize=16)
def _patterns(size: int, rows: int, columns: int, lit: bool) -> tuple[np.ndarray, ...]:
    """Pictures with the same thing in every place, one for each thing and one without any."""
    return tuple(_pixels(draw(Scene(rows, columns, (cell,) * (rows * columns)), size, lit)) for cell in _CELLS)


def _box(place: int, rows: int, columns: int, size: int) -> tuple[slice, slice]:
    """Where `draw` puts a place."""
    row, column = divmod(place, columns)
    side = size / max(rows, columns)
    top, left = (size - side * rows) / 2 + row * side, (size - side * columns) / 2 + column * side
    return slice(round(top), round(top + side)), slice(round(left), round(left + side))


def _pixels(picture: Image) -> np.ndarray:
    return np.asarray(picture, dtype=np.int16)
