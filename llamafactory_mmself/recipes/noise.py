# SPDX-License-Identifier: Apache-2.0
"""Pictures that are harder to see: Gaussian noise, or nothing but noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..data.encode import NOT_ENCODABLE
from ..files import write_picture
from .records import RecipeError


Pixels = npt.NDArray[np.uint8]


def add_noise(pixels: Pixels, noise: npt.NDArray[np.float64]) -> Pixels:
    """Adds noise to grey levels of any shape; what leaves the range of 0 to 255 stays at its end."""
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def disturb(picture: Path, out: Path, strength: float, seed: int, *, replace: bool = False) -> None:
    """Writes a disturbed copy of a picture, the same size, in RGB, as PNG.

    Args:
        picture: the original.
        out: file to write; its folder is made.
        strength: standard deviation of the noise on each pixel and channel, as a share of 255.
        seed: of the noise.
        replace: take random pixels in place of the picture.

    Raises:
        RecipeError: the picture cannot be opened.
    """
    try:
        with Image.open(picture) as image:
            pixels: Pixels = np.asarray(image.convert("RGB"))
    except NOT_ENCODABLE as error:
        raise RecipeError(f"Picture {picture} cannot be opened: {error}") from error
    dice = np.random.default_rng(seed)
    if replace:
        changed: Pixels = dice.integers(0, 256, pixels.shape, dtype=np.uint8)
    else:
        changed = add_noise(pixels, dice.normal(0.0, 255 * strength, pixels.shape))
    write_picture(out, Image.fromarray(changed))
