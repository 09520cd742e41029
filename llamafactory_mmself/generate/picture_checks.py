# SPDX-License-Identifier: Apache-2.0
"""Checks of painted pictures: does one differ from the real picture, and does it show what it was painted for."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from ..data.encode import NOT_ENCODABLE
from .services import CheckItem, NegativeCheck


SIDE = 64  # pixels to which pictures are scaled before they are compared
BLANK = 0.005  # standard deviation of the pixels of a picture that shows nothing

BLANK_REASON = "blank"
SIMILAR_REASON = "like the real picture"
CLAIM_REASON = "the rejected claim is not seen"
UNSEEN_REASON = "nobody could say what is seen"
UNREADABLE_REASON = "the real picture cannot be read"


class Claims(Protocol):
    """Says whether pictures show what rejected responses claim."""

    policy: str

    def seen(self, items: Sequence[CheckItem]) -> list[bool | None]:
        """Whether each picture does; None where nobody knows."""
        ...

    def counts(self) -> Mapping[str, int]:
        """What was asked."""
        ...


class PictureFilter:
    """The image filter, then the text filter; see `services.PictureChecks`.

    A picture without any content, such as the black one of a safety checker, is never kept.

    Args:
        min_difference: see `ChecksConfig`.
        min_hash_distance: see `ChecksConfig`.
        claims: the text filter; None asks nobody.
    """

    def __init__(self, min_difference: float, min_hash_distance: int, claims: Claims | None) -> None:
        self._difference = min_difference
        self._distance = min_hash_distance
        self._claims = claims
        self._counts: Counter[str] = Counter()
        text = f"difference {min_difference:g}, hash {min_hash_distance}"
        self.policy = text if claims is None else f"{text}, claims {claims.policy}"

    def check(self, items: Sequence[CheckItem]) -> list[NegativeCheck]:
        """See `PictureChecks.check`."""
        found = [self._image_filter(item) for item in items]
        if self._claims is not None:
            kept = [place for place, check in enumerate(found) if check.kept]
            for place, seen in zip(kept, self._claims.seen([items[place] for place in kept]), strict=True):
                figures = dict(found[place].figures or {})
                if seen is not None:
                    figures["claim_seen"] = float(seen)
                reason = "" if seen else UNSEEN_REASON if seen is None else CLAIM_REASON
                found[place] = NegativeCheck(bool(seen), reason, figures)
        self._counts.update("kept" if check.kept else check.reason for check in found)
        return found

    def counts(self) -> Mapping[str, int]:
        """See `PictureChecks.counts`; what the text filter asked has `claims_` before its name."""
        claims = {} if self._claims is None else self._claims.counts()
        return {"kept": 0, **self._counts, **{f"claims_{name}": count for name, count in claims.items()}}

    def _image_filter(self, item: CheckItem) -> NegativeCheck:
        painted = _pixels(io.BytesIO(item.picture.png))
        if float(painted.std(axis=(0, 1)).max()) < BLANK:  # of each colour: red all over is as empty as grey
            return NegativeCheck(False, BLANK_REASON, {})
        if not item.pair.images:
            return NegativeCheck(True, "", {})
        try:
            real = _pixels(item.pair.images[0])
        except NOT_ENCODABLE:
            return NegativeCheck(False, UNREADABLE_REASON, {})
        figures = {
            "difference": round(float(np.abs(painted - real).mean()), 4),
            "hash_distance": float(hash_distance(painted, real)),
        }
        far = figures["difference"] >= self._difference and figures["hash_distance"] >= self._distance
        return NegativeCheck(far, "" if far else SIMILAR_REASON, figures)


def hash_distance(one: np.ndarray, other: np.ndarray) -> int:
    """Bits of 64 in which the difference hashes of two pictures differ.

    A bit of the hash says whether a point of an 8 x 9 grey picture is darker than the one to its right: it keeps what
    is where, and forgets size, colours and small noise.

    Args:
        one: pixels from 0 to 1, of the shape (height, width, 3).
        other: the same.
    """
    return int((_hash(one) != _hash(other)).sum())


def _hash(pixels: np.ndarray) -> np.ndarray:
    grey = Image.fromarray((pixels * 255).round().astype(np.uint8)).convert("L").resize((9, 8), Image.Resampling.BOX)
    values = np.asarray(grey, dtype=np.int16)
    return values[:, :-1] < values[:, 1:]


def _pixels(source: str | io.BytesIO) -> np.ndarray:
    """A picture scaled to `SIDE` x `SIDE`, with values from 0 to 1, of the shape (height, width, 3)."""
    with Image.open(source) as image:
        small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255
