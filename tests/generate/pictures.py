# SPDX-License-Identifier: Apache-2.0
"""Requests with pictures that differ in every pixel, and in size."""

from pathlib import Path

import numpy
from PIL import Image

from llamafactory_mmself.generate.types import Message, Request


SIZES = ((112, 112), (300, 80), (700, 500))


def mixed_requests(folder: Path) -> list[Request]:
    """Requests with none, one and two pictures, of one turn and of several."""
    rng = numpy.random.default_rng(0)
    files = []
    for width, height in SIZES:
        file = folder / f"{width}x{height}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=numpy.uint8)).save(file)
        files.append(str(file))
    return [
        Request.ask("text", "How many red shapes are there?"),
        *(Request.ask(Path(file).stem, "<image>\nHow many red shapes are there?", [file]) for file in files),
        Request(
            "turns",
            (
                Message("system", "You see shapes."),
                Message("user", "<image>\nWhat is in the top row?"),
                Message("assistant", "A red circle."),
                Message("user", "And <image> here?"),
            ),
            tuple(files[:2]),
        ),
    ]
