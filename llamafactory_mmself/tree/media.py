# SPDX-License-Identifier: Apache-2.0
"""Opening the pictures behind a tree's placeholders."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from PIL import Image

from ..files import digest
from .sample import Crop, Media, White


BLANK = "blank:"


def open_image(media: Media) -> Image.Image:
    """The picture of an image medium, in the view that the medium asks for.

    Raises:
        ValueError: if the file cannot be read as a picture; the text names it.
    """
    if media.source.startswith(BLANK):
        width, height = (int(side) for side in media.source.removeprefix(BLANK).split("x"))
        return Image.new("RGB", (width, height), (255, 255, 255))
    try:
        with Image.open(media.source) as image:
            image.load()
            picture = _view(image, media.view)
    except OSError as error:
        raise ValueError(
            f"Image {media.source} cannot be read ({error}). It was there when the data was encoded: was it moved?"
        ) from error
    return picture


def _view(image: Image.Image, view: Crop | White | None) -> Image.Image:
    if isinstance(view, White):
        return Image.new("RGB", image.size, (255, 255, 255))
    return image.copy() if view is None else crop(image, view)


def crop(image: Image.Image, spec: Crop) -> Image.Image:
    """A random resized crop of the picture's own size.

    Area share uniform in `scale`, aspect ratio log-uniform in 3/4 .. 4/3 of the picture's own; after ten draws that
    do not fit, the largest centred part of that shape. The size is kept, so the number of image tokens is kept too.
    """
    rng = random.Random(spec.seed)
    width, height = image.size
    box = None
    for _ in range(10):
        share = rng.uniform(*spec.scale)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        part = (round(width * math.sqrt(share * ratio)), round(height * math.sqrt(share / ratio)))
        if 0 < part[0] <= width and 0 < part[1] <= height:
            left, top = rng.randint(0, width - part[0]), rng.randint(0, height - part[1])
            box = (left, top, left + part[0], top + part[1])
            break
    if box is None:
        side = math.sqrt(spec.scale[1])
        part = (max(1, round(width * side)), max(1, round(height * side)))
        left, top = (width - part[0]) // 2, (height - part[1]) // 2
        box = (left, top, left + part[0], top + part[1])
    return image.resize((width, height), Image.Resampling.BICUBIC, box=box)


def distinct(media: Iterable[Media]) -> tuple[list[Media], list[int]]:
    """The different media in order of appearance, and for each given medium its place among them."""
    places: dict[Media, int] = {}
    index = [places.setdefault(item, len(places)) for item in media]
    return list(places), index


def media_digest(medium: Media) -> str:
    """What a medium shows: the digest of its file and the view, which says all about a random crop.

    Raises:
        ValueError: if the file cannot be read; the text names it.
    """
    if medium.source.startswith(BLANK):
        content = medium.source
    else:
        try:
            stat = os.stat(medium.source)
            content = _file_digest(medium.source, stat.st_size, stat.st_mtime_ns)
        except OSError as error:
            raise ValueError(f"{medium.kind.capitalize()} {medium.source} cannot be read ({error}).") from error
    return f"{medium.kind} {content} {medium.view}"


@lru_cache(maxsize=2**20)
def _file_digest(path: str, size: int, changed: int) -> str:
    """A file is read once, as long as its size and time stay."""
    return digest(Path(path))
