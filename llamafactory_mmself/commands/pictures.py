# SPDX-License-Identifier: Apache-2.0
"""LLaMA-Factory's limits of pictures as flags: they decide how many tokens a picture is."""

from __future__ import annotations

import argparse
from typing import Any


_NAMES = ("image_max_pixels", "image_min_pixels", "image_do_pan_and_scan", "crop_to_patches")


def add_picture_limits(group: Any) -> None:
    """Adds the flags; one that is not given keeps LLaMA-Factory's default."""
    group.add_argument(
        "--image_max_pixels", type=int, metavar="N", help="larger pictures are shrunk (default: 589824)"
    )
    group.add_argument(
        "--image_min_pixels", type=int, metavar="N", help="smaller pictures are enlarged (default: 1024)"
    )
    group.add_argument("--image_do_pan_and_scan", action="store_true", default=None, help="Gemma 3: crops, too")
    group.add_argument("--crop_to_patches", action="store_true", default=None, help="InternVL: crops, too")


def picture_limits(options: argparse.Namespace) -> dict[str, Any]:
    """The flags that were given, under LLaMA-Factory's names."""
    return {name: vars(options)[name] for name in _NAMES if vars(options)[name] is not None}
