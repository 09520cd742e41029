# SPDX-License-Identifier: Apache-2.0
"""Pictures of rows as small pictures inside a page, from chosen folders only.

Nothing is served by its path: a picture is read, made small and written into the page, if it lies in one of the
folders that the user chose, after `..` and links are resolved.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Literal

from PIL import Image

from ..evaluate.charts import data_url


SIDE = 360  # pixels of a small picture, at most
MOST_BYTES = 64 * 2**20  # of a picture's file
MOST_PIXELS = 100_000_000

Reason = Literal["outside", "missing", "large", "broken"]


@dataclass(frozen=True)
class Picture:
    """A picture for a page: its address, or why there is none.

    Attributes:
        name: file name.
        url: a `data:` address.
        reason: why there is none.
    """

    name: str
    url: str | None = None
    reason: Reason | None = None


def picture(path: str | Path, roots: Sequence[Path]) -> Picture:
    """A small picture.

    Args:
        path: the file; relative ones are looked for in each folder.
        roots: the chosen folders.
    """
    name = os.path.basename(str(path))[-80:]
    found, outside = None, False
    for root in roots:
        try:
            place = (root.resolve() / str(path)).resolve()
            inside = any(place.is_relative_to(other.resolve()) for other in roots)
            outside = outside or not inside
            if inside and place.is_file():
                found, state = place, place.stat()
                break
        except (OSError, ValueError, RuntimeError):  # zero bytes, endless links, endless names
            continue
    if found is None:
        return Picture(name, reason="outside" if outside else "missing")
    if state.st_size > MOST_BYTES:
        return Picture(name, reason="large")
    return _small(found, name, state.st_mtime_ns, state.st_size)


def picture_html(shown: Picture, caption: str = "", kind: str = "") -> str:
    """A picture with its caption, or a box that says why there is none."""
    reasons = {
        "outside": "lies outside of the chosen folders",
        "missing": "is not there",
        "large": "is too large to show",
        "broken": "cannot be opened",
        None: "",
    }
    label = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    classes = f"mmself-picture {kind}".strip()
    if shown.url is None:
        text = f"{escape(shown.name)} {reasons[shown.reason]}"
        return f'<figure class="{classes}"><div class="mmself-gone">{text}</div>{label}</figure>'
    return f'<figure class="{classes}"><img src="{shown.url}" alt="{escape(shown.name)}">{label}</figure>'


@lru_cache(maxsize=256)
def _small(path: Path, name: str, changed: int, size: int) -> Picture:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a picture too large is refused below
            with Image.open(path) as image:
                if image.width * image.height > MOST_PIXELS:
                    return Picture(name, reason="large")
                image.draft("RGB", (SIDE, SIDE))
                small = image.convert("RGB")
        small.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        small.save(buffer, "PNG", optimize=True)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return Picture(name, reason="broken")
    return Picture(name, data_url(buffer.getvalue(), "image/png"))
